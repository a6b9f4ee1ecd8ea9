"""What proves that a device is clean: a typed document for each kind of device, and what each must say.

Evidence is the device's own readback, made on its node after the clean that it belongs to: it quotes that clean (the
ledger sequence at which it was begun, which nobody could know before) and the part that was read. What does not hold
sends the device to quarantine, with what was wrong.

The agent's word is the word of the node's root. Where tenants hold root, policy admits only an operator's attestation
or the BMC's word.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from aggregator.ledger.model import Device
from aggregator.ledger.words import Lifecycle
from schemas.device import DeviceKind
from schemas.errors import MusterError


class EvidenceError(MusterError):
    """The document proves nothing: it is not one, or of another clean, part or kind. `problems` says what is wrong."""

    code = "evidence.invalid"
    status = 409

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class _Readback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What every readback says."""

    device: str
    """Ledger id."""
    part: str
    """The part that was read (`part_key`)."""
    clean: int
    """Ledger sequence at which the clean was begun."""
    read_ns: int
    """When it was read, by the node's clock; for people."""
    hook: str = ""
    """The operator's hook that cleaned, by its name in the agent's configuration."""
    in_use: bool
    """Whether anything has it open: a vfio group, a process, a mount."""


class NvmeReadback(_Readback, frozen=True, tag="nvme"):
    """A drive, or a name space of one: sanitized or formatted. Source: NVM Express Base 2.0, 5.24, 8.21 and log 81h."""

    sanitize_status: str = ""
    """`completed`, `completed-no-deallocate`, `failed`, `running`, `never`; "" when it cannot."""
    sanitize_method: str = ""
    """`block-erase`, `crypto-erase`, `overwrite`."""
    data_written_since: bool | None = None
    """Log 81h, bit 8 cleared: written to since the sanitize; None when not told."""
    formatted: list[int] = []
    """Name spaces that were formatted with erase."""
    namespaces: list[int] = []
    """Name spaces that there are."""


class GpuReadback(_Readback, frozen=True, tag="gpu"):
    """A GPU or a partition of one: reset, without processes, its memory looked through."""

    reset_seen: bool
    processes: int
    memory_check: str
    """`passed`, `failed`, `not-run`."""
    memory_used_bytes: int | None = None


class VfReadback(_Readback, frozen=True, tag="vf"):
    """A virtual function: reset, with the VLAN and MAC that it is expected to have."""

    vlan: int | None
    mac: str
    expected_vlan: int | None
    expected_mac: str
    reset_seen: bool


class FunctionReadback(_Readback, frozen=True, tag="function"):
    """Any other PCI function: reset, and with the driver that it should have."""

    reset_seen: bool
    driver: str = ""


class PowerReadback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bmc"):
    """A machine, by its BMC: off. Proves that nothing of it is in use, not that a device is clean."""

    node: str
    power_state: str
    """Redfish PowerState: `Off`, `On`, `PoweringOn`, `PoweringOff`."""
    read_ns: int


Readback = NvmeReadback | GpuReadback | VfReadback | FunctionReadback
_decoder: Final = msgspec.json.Decoder(Readback)
_KINDS: Final[dict[DeviceKind, type[_Readback]]] = {
    DeviceKind.NVME: NvmeReadback,
    DeviceKind.NVME_NAMESPACE: NvmeReadback,
    DeviceKind.GPU: GpuReadback,
    DeviceKind.GPU_PARTITION: GpuReadback,
    DeviceKind.VF: VfReadback,
}
"""The document that a kind of device takes; `FunctionReadback` for all others."""


def read(text: str) -> Readback:
    """Read a document. Raises EvidenceError."""
    try:
        found: Readback = _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise EvidenceError(f"not an evidence document: {error}") from None
    return found


def check(device: Device, readback: Readback) -> None:
    """Make sure that a document proves this device clean, now. Raises EvidenceError with everything that is wrong."""
    problems = list(_problems(device, readback))
    if problems:
        raise EvidenceError(*problems)


def _problems(device: Device, readback: Readback) -> Iterator[str]:
    wanted = _KINDS.get(device.kind, FunctionReadback)
    if not isinstance(readback, wanted):
        yield f"{device.id} is a {device.kind.value}: a {wanted.__struct_config__.tag} document is needed"
        return
    if device.lifecycle is not Lifecycle.CLEANING:
        yield f"{device.id} is {device.lifecycle.value}, not cleaning"
    if readback.device != device.id:
        yield f"it is about {readback.device}"
    if readback.part != device.part_key:
        yield f"it is about the part {readback.part}, and {device.part_key} is there"
    if readback.clean != device.cleaning or readback.clean <= device.released:
        yield f"it belongs to the clean at {readback.clean}, and the one under way began at {device.cleaning}"
    if readback.in_use:
        yield "the device is in use"
    yield from _of_kind(device, readback)


def _of_kind(device: Device, readback: Readback) -> Iterator[str]:
    match readback:
        case NvmeReadback():
            yield from _nvme(device, readback)
        case GpuReadback():
            if not readback.reset_seen:
                yield "no reset was seen"
            if readback.processes:
                yield f"{readback.processes} processes use it"
            if readback.memory_check != "passed":
                yield f"the memory check is {readback.memory_check}"
        case VfReadback():
            if (readback.vlan, readback.mac.lower()) != (readback.expected_vlan, readback.expected_mac.lower()):
                expected = f"{readback.expected_vlan} and {readback.expected_mac}"
                yield f"VLAN {readback.vlan} and MAC {readback.mac}, not {expected}"
            if not readback.reset_seen:
                yield "no reset was seen"
        case FunctionReadback():
            if not readback.reset_seen:
                yield "no reset was seen"


def _nvme(device: Device, readback: NvmeReadback) -> Iterator[str]:
    sanitized = readback.sanitize_status in ("completed", "completed-no-deallocate")
    if sanitized and readback.data_written_since is not False:
        yield "nothing says that it was not written to since it was sanitized"
    if not sanitized:
        left = sorted(set(readback.namespaces) - set(readback.formatted))
        if left or not readback.formatted:
            what = f"name spaces {left} were not formatted" if left else "nothing was formatted"
            yield f"sanitize is {readback.sanitize_status or 'not supported'}, and {what}"
    if device.kind is DeviceKind.NVME_NAMESPACE and not sanitized and len(readback.formatted) != 1:
        yield "a name space's document names the one name space that was formatted"

"""What a node's evidence document (`schemas.evidence`) must say to prove a device clean.

What does not hold sends the device to quarantine, with what was wrong. What a device should be like is the ledger's to
know: no document is measured by what it says itself.

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
from schemas.evidence import (
    FunctionReadback,
    GpuReadback,
    NvmeReadback,
    PartitionReadback,
    Readback,
    VfReadback,
    decode_readback,
    readback_of,
)


class EvidenceError(MusterError):
    """The document proves nothing: it is not one, or of another clean, part or kind. `problems` says what is wrong."""

    code = "evidence.invalid"
    status = 409

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read(text: str) -> Readback:
    """Read a document. Raises EvidenceError."""
    try:
        return decode_readback(text)
    except msgspec.MsgspecError as error:
        raise EvidenceError(f"not an evidence document: {error}") from None


def check(device: Device, readback: Readback) -> None:
    """Make sure that a document proves this device clean, now. Raises EvidenceError with everything that is wrong."""
    problems = list(_problems(device, readback))
    if problems:
        raise EvidenceError(*problems)


def _problems(device: Device, readback: Readback) -> Iterator[str]:
    wanted = readback_of(device.kind, planned=bool(device.planned))
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
            yield from _memory(readback)
        case PartitionReadback():
            if not readback.gone:
                yield "a partition is still in its place"
            yield from _memory(readback)
        case VfReadback():
            yield from _vf(device, readback)
            if not readback.reset_seen:
                yield "no reset was seen"
        case FunctionReadback():
            if not readback.reset_seen:
                yield "no reset was seen"


def _memory(readback: GpuReadback | PartitionReadback) -> Iterator[str]:
    if readback.processes:
        yield f"{readback.processes} processes use it"
    if readback.memory_check != "passed":
        yield f"the memory check is {readback.memory_check}"


def expected(device: Device) -> dict[str, str]:
    """Give what a VF should be like when nobody has it: as it was when it was last given away, `mac` and `vlan`."""
    if device.hold is not None:
        return device.hold.expected  # what it shows meanwhile is its tenant's
    if device.kind is not DeviceKind.VF:
        return {}
    return {name: str(device.capabilities[name]) for name in ("mac", "vlan") if name in device.capabilities}


_NVME: Final = "0108"
"""Class and subclass of NVMe controllers. Source: PCI Code and ID Assignment Specification 1.15."""


def _vf(device: Device, readback: VfReadback) -> Iterator[str]:
    found = {"mac": readback.mac.lower(), "vlan": "" if readback.vlan is None else str(readback.vlan)}
    wanted = expected(device)
    for name, value in wanted.items():
        if found[name] != value.lower():
            yield f"its {name} is {found[name] or 'not read'}, and should be {value}"
    if str(device.get("pci_class")).startswith(_NVME) or "vf_online" in device.capabilities:
        yield "it is a function of a drive, and nothing read what is on its name spaces: format or sanitize the drive"
    if "mac" not in wanted and found["mac"] and readback.mac_before.lower() in ("", found["mac"]):
        yield f"its mac is {found['mac']}, and nothing says that it is not the last tenant's: it had none of its own"


def _nvme(device: Device, readback: NvmeReadback) -> Iterator[str]:
    """A drive is clean by its sanitize log, when nothing was written since; or by a format of each name space."""
    status = readback.sanitize_status
    if status in ("running", "failed"):
        yield f"its sanitize is {status}"
        return
    sanitized = status in ("completed", "completed-no-deallocate")
    if sanitized and readback.data_written_since is False:
        return
    left = sorted(set(readback.namespaces) - set(readback.formatted))
    if left or not readback.formatted:
        if sanitized:
            yield "nothing says that it was not written to since it was sanitized"
        what = f"name spaces {left} were not formatted" if left else "nothing was formatted"
        yield f"sanitize is {status or 'not supported'}, and {what}"
    if device.kind is DeviceKind.NVME_NAMESPACE and len(readback.formatted) != 1:
        yield "a name space's document names the one name space that was formatted"

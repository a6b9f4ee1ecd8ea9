"""What proves that a device is clean: a typed document for each kind of device. Nodes make it, the ledger checks it.

Evidence is the device's own readback, made on its node after the clean that it belongs to: it quotes that clean (the
ledger sequence at which it was begun, which nobody could know before) and the part that was read. What a source could
not tell is said so, and then proves nothing: `unsupported` is never taken for good.
"""

from typing import Final

import msgspec

from schemas.device import DeviceKind

UNSUPPORTED: Final = "unsupported"
"""Nothing here can read that of the device."""


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
    """The operator's hook that cleaned, by its name in the agent's configuration; "" when somebody else did."""
    in_use: bool
    """Whether anything has it open: a vfio group, a process, a mount. True too when that cannot be told."""


class NvmeReadback(_Readback, frozen=True, tag="nvme"):
    """A drive, or a name space of one: sanitized or formatted. Source: NVM Express Base 2.0, 5.24, 8.21 and log 81h."""

    sanitize_status: str = ""
    """`completed`, `completed-no-deallocate`, `failed`, `running`, `never`; "" when it cannot, `unsupported` when
    nothing here reads it."""
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
    """`passed`, `failed`, `not-run`, `unsupported`."""
    memory_used_bytes: int | None = None


class PartitionReadback(_Readback, frozen=True, tag="gpu-partition"):
    """A partition of a GPU that was made for a claim: it is gone, and so is what was in its memory."""

    gone: bool
    """Whether no partition is in its place any more."""
    processes: int
    memory_check: str
    """Of the slices that it had: `passed`, `failed`, `not-run`, `unsupported`."""


class VfReadback(_Readback, frozen=True, tag="vf"):
    """A virtual function: reset, with the VLAN and MAC that it has. Which it should have, the ledger knows."""

    vlan: int | None
    """None when nothing here reads it."""
    mac: str
    """What its port gave it; "" for none."""
    reset_seen: bool
    mac_before: str = ""
    """What it had when the clean began; "" for none, and when it was not read."""


class FunctionReadback(_Readback, frozen=True, tag="function"):
    """Any other PCI function: reset, and with the driver that it has."""

    reset_seen: bool
    driver: str = ""


class PowerReadback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bmc"):
    """A machine, by its BMC: off. Proves that nothing of it is in use, not that a device is clean."""

    node: str
    power_state: str
    """Redfish PowerState: `Off`, `On`, `PoweringOn`, `PoweringOff`."""
    read_ns: int


Readback = NvmeReadback | GpuReadback | PartitionReadback | VfReadback | FunctionReadback

_KINDS: Final[dict[DeviceKind, type[_Readback]]] = {
    DeviceKind.NVME: NvmeReadback,
    DeviceKind.NVME_NAMESPACE: NvmeReadback,
    DeviceKind.GPU: GpuReadback,
    DeviceKind.GPU_PARTITION: GpuReadback,
    DeviceKind.VF: VfReadback,
}


def readback_of(kind: DeviceKind, *, planned: bool = False) -> type[_Readback]:
    """Give the document that a kind of device takes: `FunctionReadback` for all that have none of their own.

    `planned`: it was made for a claim, and goes with it.
    """
    return PartitionReadback if planned else _KINDS.get(kind, FunctionReadback)


_decoder: Final = msgspec.json.Decoder(Readback)


def encode_readback(document: Readback) -> str:
    """Give a document's text."""
    return msgspec.json.encode(document).decode()


def decode_readback(text: str) -> Readback:
    """Read a document. Raises msgspec.MsgspecError."""
    found: Readback = _decoder.decode(text)
    return found

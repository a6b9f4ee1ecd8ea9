"""The words of the ledger: the three axes of a device, how it is held, and what a claim goes through."""

from enum import Enum
from typing import Final

import msgspec

from schemas.device import DeviceKind


class Lifecycle(Enum):
    """Whose a device is. `aggregator.ledger.transitions` says how one follows another."""

    FREE = "free"
    RESERVED = "reserved"
    """Granted; the node was told nothing yet."""
    PROVISIONING = "provisioning"
    """The node may have been told: it may be in use."""
    ASSIGNED = "assigned"
    """The node confirmed it for the claim."""
    DIRTY = "dirty"
    """Nobody's, and not fit for anybody: it has not been cleaned since it may have been used."""
    CLEANING = "cleaning"
    QUARANTINED = "quarantined"
    """A clean failed; people look at it."""
    SUSPECT = "suspect"
    """The lease ran out, and it may be in use."""
    HOST = "host"
    """Kept for the host."""
    FOREIGN = "foreign"
    """In use, but not through Muster."""
    RETIRED = "retired"
    """Taken out for good."""


class Reach(Enum):
    """What we know of a device now."""

    LIVE = "live"
    STALE = "stale"
    """Its node is silent."""
    ABSENT = "absent"
    """Its node speaks, and the device is gone; claim and lifecycle stay."""
    UNVERIFIED = "unverified"
    """Something is in its slot, and has not shown since the boot, the takeover or the restore that it is this part."""


class Mode(Enum):
    """How a claim holds a device; equally exclusive."""

    PASSTHROUGH = "passthrough"
    """It leaves the host's drivers, and its whole IOMMU group with it."""
    DRIVER = "driver"
    """The host's driver keeps it."""


class Effect(Enum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    """Nobody gets it who does not tolerate it."""
    DRAIN = "Drain"
    """Nor may who has it keep it: the claim's consumer is told to leave."""


class ClaimState(Enum):
    """What became of a claim."""

    RESERVED = "reserved"
    PROVISIONING = "provisioning"
    ACTIVE = "active"
    """Every node confirmed every device."""
    SUSPECT = "suspect"
    """The lease ran out after the nodes were told."""
    UNDOING = "undoing"
    """A provision failed: the nodes are told to undo it, until each has confirmed."""
    RELEASING = "releasing"
    """Given back: the nodes are told, until each has confirmed that nothing of it is in use."""
    RELEASED = "released"
    FAILED = "failed"
    """The provision was undone."""
    EXPIRED = "expired"
    """The lease ran out before any node was told."""
    INVALID = "invalid"
    """A device of its was replaced or disappeared before it was used."""


LIVE_CLAIMS: Final = frozenset(
    {
        ClaimState.RESERVED,
        ClaimState.PROVISIONING,
        ClaimState.ACTIVE,
        ClaimState.SUSPECT,
        ClaimState.UNDOING,
        ClaimState.RELEASING,
    }
)
"""A claim in one of these holds its devices and its amounts; the others are history."""

OUT_OF_PLACE: Final = frozenset({Lifecycle.HOST, Lifecycle.FOREIGN, Lifecycle.RETIRED})
"""Not Muster's to give, and never held by a claim."""


class Epoch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, order=True):
    """Orders grants for good: a later grant has the higher one, and a restored ledger begins a new generation."""

    generation: int
    sequence: int
    """Ledger sequence of the grant."""

    def __str__(self) -> str:
        return f"{self.generation}.{self.sequence}"


CONFLICT: Final = "conflict"
"""The rule of the taint on both of two devices that state one identity: nobody may put up with that."""
SHRUNK: Final = "shrunk"
"""The rule of the ledger's taint on a node that has less than claims hold of it."""

AMOUNTS: Final = ("vcpus", "memory_bytes", "disk_bytes")
"""What a claim can hold of a node beside devices: whole numbers."""
MAX_AMOUNT: Final = 1 << 60
"""The most of an amount that can be asked for or set as a limit: an entry's numbers have 64 bits."""

WHOLE_OF: Final[dict[DeviceKind, DeviceKind]] = {
    DeviceKind.VF: DeviceKind.NIC,
    DeviceKind.GPU_PARTITION: DeviceKind.GPU,
    DeviceKind.NVME_NAMESPACE: DeviceKind.NVME,
}
"""A part of a device, and what it is a part of: one is given or the other, never both (`excludes`).

A virtual function is a part of whatever makes it, a port as a rule: see `is_part`.
"""


def is_part(kind: DeviceKind, whole: DeviceKind) -> bool:
    """Tell whether what says that a device of the kind `whole` is its parent is a part of that.

    A drive, a GPU and a DPU can have virtual functions too.
    """
    return WHOLE_OF.get(kind) is whole or kind is DeviceKind.VF


BMC_KEY: Final = "bmc:"
"""How the subjects begin under which BMCs are polled, and the merge keys that are a BMC's own."""

SHARING: Final = frozenset({DeviceKind.GPU_PARTITION, DeviceKind.NVME_NAMESPACE})
"""Parts without a PCI function of their own: the host's driver of the whole serves who has one."""

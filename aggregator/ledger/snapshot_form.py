"""The form of a snapshot: nodes with their devices, as small as what follows from the rest lets them be."""

from typing import Final, TypeVar

import msgspec

from aggregator.control import ControlError
from aggregator.ledger.model import Evidence, Hold, Node, Taint
from aggregator.ledger.words import Lifecycle, Reach
from schemas.device import DeviceKind, Part, Slot, Value

FORM: Final = 3
"""Of the parts; a form that is not known is no snapshot, and the state is replayed from an older one."""
T = TypeVar("T")


class SnapshotError(ControlError):
    """A snapshot cannot be read; the ledger's entries hold everything that is in it."""

    code = "ledger.snapshot"


class Alike(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """What is told in the same bytes of devices of one making in one slot, on every node that has one."""

    collector: str
    document: str
    profile: int
    slot: Slot
    parent: str
    own: dict[str, Value]


class ToldView(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A `View`."""

    alike: bytes
    """An `Alike`, encoded: most are known already when they are read, and are not read again."""
    serial: str
    uuid: str
    keys: list[str]
    publisher: str | None
    """None: the node."""


class Stay(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A `Sight`; None: as the device shows now, or still there."""

    since: int
    until: int | None
    node: str | None
    path: str | None
    part: str | None


ToldStays = int | list[Stay]
"""A number: one, which began there, and lasts."""


class ToldDevice(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A `Device`, with its stays."""

    id: str
    first: int
    kind: DeviceKind
    views: list[ToldView]
    lifecycle: Lifecycle
    reach: Reach
    changed: int
    released: int
    cleaning: int
    parent: str
    stays: ToldStays
    boot: str | None
    """None: the node's."""
    part: Part | None
    slot: Slot | None
    """None: as the views tell."""
    taints: dict[str, Taint] | None
    hold: Hold | None
    evidence: Evidence | None
    planned: str = ""


class ToldNode(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A node with its devices, in the order of first sight."""

    node: Node
    devices: list[ToldDevice]


def decode(decoder: msgspec.msgpack.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """Read what a snapshot says. Raises SnapshotError."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"a snapshot cannot be read: {error}") from error

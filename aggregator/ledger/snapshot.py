"""A snapshot: a state in a small form, in parts that stand for themselves.

What follows from the rest is left out, and what nearly all devices have in common is said once: 200 bytes a device, and
40 on disk. A part holds some nodes with their devices, or some claims; part 0 says what the others add up to. A part is
small, so that no thread keeps the interpreter for longer than a few milliseconds over one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from aggregator.control import ControlError
from aggregator.ledger.merge import merge_capabilities, merged_part
from aggregator.ledger.model import (
    Claim,
    Device,
    Evidence,
    Hold,
    Node,
    Profile,
    Sight,
    Taint,
    View,
    part_key,
    view_source,
)
from aggregator.ledger.sharing import Capabilities
from aggregator.ledger.state import Kept, State
from aggregator.ledger.words import Lifecycle, Reach
from schemas.device import DeviceKind, Part, Slot, Value

FORM: Final = 2
"""Of the parts; a form that is not known is no snapshot, and the state is replayed from an older one."""
NODES_A_PART: Final = 64
CLAIMS_A_PART: Final = 1024
_NO_PART: Final = Part()
_NO_SLOT: Final = Slot()
T = TypeVar("T")


class SnapshotError(ControlError):
    """A snapshot cannot be read; the ledger's entries hold everything that is in it."""

    code = "ledger.snapshot"


class Head(msgspec.Struct, array_like=True, frozen=True):
    """Part 0."""

    form: int
    base: int
    """Sequence of the snapshot whose parts these were compressed against; 0: none."""
    node_parts: int
    claim_parts: int
    rest: Kept
    """Everything else, and as of when."""


class _View(msgspec.Struct, array_like=True, frozen=True, gc=False):
    collector: str
    document: str
    profile: int
    slot: Slot
    serial: str
    uuid: str
    parent: str
    keys: list[str]
    own: dict[str, Value]
    publisher: str | None
    """None: the node."""


class _Stay(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A `Sight`; None: as the device shows now, or still there."""

    since: int
    until: int | None
    node: str | None
    path: str | None
    part: str | None


class _Device(msgspec.Struct, array_like=True, frozen=True, gc=False):
    id: str
    first: int
    kind: DeviceKind
    views: list[_View]
    lifecycle: Lifecycle
    reach: Reach
    changed: int
    released: int
    cleaning: int
    parent: str
    stays: int | list[_Stay]
    """A number: one, which began there, and lasts."""
    boot: str | None
    """None: the node's."""
    part: Part | None
    slot: Slot | None
    """None: as the views tell."""
    taints: dict[str, Taint] | None
    hold: Hold | None
    evidence: Evidence | None
    planned: str = ""


class _Node(msgspec.Struct, array_like=True, frozen=True, gc=False):
    node: Node
    devices: list[_Device]


class _Name(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """As much of a `_Device` as tells that it is there; the rest is passed over."""

    id: str
    first: int


class _Names(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """As much of a `_Node`."""

    node: Node
    devices: list[_Name]


_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")
_nodes: Final = msgspec.msgpack.Decoder(list[_Node])
_node: Final = msgspec.msgpack.Decoder(_Node)
_names: Final = msgspec.msgpack.Decoder(list[_Names])
_raws: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_claims: Final = msgspec.msgpack.Decoder(list[Claim])
_head: Final = msgspec.msgpack.Decoder(Head)


# --- writing ----------------------------------------------------------------------------------------------------------


def encode_node(state: State, node: Node) -> bytes:
    """Give a node with its devices."""
    bare = msgspec.structs.replace(node, used={}, devices={})
    return _encoder.encode(_Node(bare, [_kept(state, node, state.devices[name]) for name in node.devices]))


def encode_claim(claim: Claim) -> bytes:
    """Give a claim."""
    return _encoder.encode(claim)


def encode_head(base: int, node_parts: int, claim_parts: int, rest: bytes) -> bytes:
    """Give part 0; `rest` is an encoded `Kept`."""
    return _encoder.encode((FORM, base, node_parts, claim_parts, msgspec.Raw(rest)))


def join_parts(pieces: Sequence[bytes], most: int) -> list[bytes]:
    """Give the parts that hold encoded nodes or claims, so many each."""
    return [
        _encoder.encode([msgspec.Raw(one) for one in pieces[begin : begin + most]])
        for begin in range(0, len(pieces), most)
    ]


def _kept(state: State, node: Node, device: Device) -> _Device:
    part, slot = merged_part(device.views.values(), state.profiles)
    place = (device.node, device.slot.path or device.slot.address, part_key(device))
    return _Device(
        device.id,
        device.first,
        device.kind,
        [_view(view, node) for view in device.views.values()],
        device.lifecycle,
        device.reach,
        device.changed,
        device.released,
        device.cleaning,
        device.parent,
        _stays(state.sights.get(device.id, []), place),
        None if device.boot == node.boot else device.boot,
        None if device.part == part else device.part,
        None if device.slot == slot else device.slot,
        device.taints or None,
        device.hold,
        device.evidence,
        device.planned,
    )


def _view(view: View, node: Node) -> _View:
    return _View(
        view.collector,
        view.document,
        view.profile,
        view.slot,
        view.serial,
        view.uuid,
        view.parent,
        view.keys,
        view.own,
        None if view.publisher == node.id else view.publisher,
    )


def _stays(sights: list[Sight], place: tuple[str, str, str]) -> int | list[_Stay]:
    if len(sights) == 1:
        only = sights[0]
        if only.until is None and (only.node, only.path, only.part) == place:
            return only.since
    return [_stay(sight, place) for sight in sights]


def _stay(sight: Sight, place: tuple[str, str, str]) -> _Stay:
    told = (sight.node, sight.path, sight.part)
    node, path, part = (None if one == now else one for one, now in zip(told, place, strict=True))
    return _Stay(sight.since, sight.until, node, path, part)


# --- reading ----------------------------------------------------------------------------------------------------------


class Reading:
    """Takes the parts of a snapshot, one by one, part 0 first. Raises SnapshotError.

    With `lazy`, devices are left as they lie there (`encoded`, `places`), to be made by `make_devices`.
    """

    def __init__(self, head: bytes, *, lazy: bool = False) -> None:
        self.head: Head = _decode(_head, head)
        if self.head.form != FORM:
            raise SnapshotError(f"the snapshot has form {self.head.form}, and this version knows {FORM}")
        self.encoded: dict[str, msgspec.Raw] = {}
        """Node -> itself with its devices."""
        self.places: list[tuple[int, str, str]] = []
        """(sequence of the first sight, device, node) of each device."""
        self._lazy = lazy
        self._kept = self.head.rest
        self._next = 1

    @property
    def parts(self) -> int:
        """How many parts there are beside part 0."""
        return self.head.node_parts + self.head.claim_parts

    def add(self, body: bytes) -> None:
        """Take the next part."""
        if self._next > self.head.node_parts:
            claims: list[Claim] = _decode(_claims, body)
            self._kept.claims += claims
        elif self._lazy:
            self._shelve(body)
        else:
            for one in _decode(_nodes, body):
                self._kept.nodes.append(one.node)
                for device, sights in _made(one, self._kept.profiles):
                    self._kept.devices.append(device)
                    self._kept.sights += sights
        self._next += 1

    def kept(self) -> Kept:
        """Give what the parts amount to, all of them taken."""
        if self._next <= self.parts:
            raise SnapshotError(f"the snapshot at {self._kept.sequence} lacks parts")
        self._kept.devices.sort(key=lambda device: device.first)
        self.places.sort()
        return self._kept

    def state(self, *, index: bool = False) -> State:
        """Give the state, all parts taken. Without `index` see `State.of`."""
        return State.of(self.kept(), index=index)

    def _shelve(self, body: bytes) -> None:
        names: list[_Names] = _decode(_names, body)
        for one, raw in zip(names, _raws.decode(body), strict=True):
            node = one.node.id
            self._kept.nodes.append(one.node)
            self.encoded[node] = raw
            places = sorted([(device.first, device.id, node) for device in one.devices])
            one.node.devices = dict.fromkeys([device for _, device, _ in places])
            self.places += places


def make_devices(encoded: msgspec.Raw, profiles: list[Profile]) -> Iterator[tuple[Device, list[Sight]]]:
    """Yield the devices of a node of `Reading.encoded`, each with its stays. Raises SnapshotError."""
    return _made(_decode(_node, encoded), profiles)


def _made(one: _Node, profiles: list[Profile]) -> Iterator[tuple[Device, list[Sight]]]:
    for kept in one.devices:
        device = _device(one.node, kept, profiles)
        yield device, _sights(device, kept.stays)


def _device(node: Node, one: _Device, profiles: list[Profile]) -> Device:
    views = {}
    for told in one.views:
        publisher = node.id if told.publisher is None else told.publisher
        views[view_source(publisher, told.collector, told.document)] = View(
            publisher,
            told.collector,
            told.document,
            told.profile,
            told.slot,
            told.serial,
            told.uuid,
            told.parent,
            told.keys,
            told.own,
        )
    part, slot, capabilities, made_as = _merged(one.views, views, profiles)
    return Device(
        one.id,
        node.id,
        one.kind,
        views,
        one.part or part,
        one.slot or slot,
        one.parent,
        one.lifecycle,
        one.reach,
        one.taints or {},
        one.hold,
        one.evidence,
        one.released,
        one.cleaning,
        node.boot if one.boot is None else one.boot,
        one.first,
        one.changed,
        capabilities,
        made_as,
        one.planned,
    )


def _merged(
    told: list[_View], views: dict[str, View], profiles: list[Profile]
) -> tuple[Part, Slot, Mapping[str, Value], tuple[int, ...]]:
    """Give what `merge` derives; of one view, as most devices have, in a fraction of the time."""
    if len(told) == 1:
        (view,) = told
        profile = profiles[view.profile]
        part = profile.part
        return (
            Part(part.vendor, part.model, part.part_number, view.serial, view.uuid, part.revision, part.firmware),
            view.slot,
            Capabilities(profile.capabilities, view.own),
            (view.profile,),
        )
    device = Device("", "", DeviceKind.PCI_FUNCTION, views)
    merge_capabilities(device, profiles)
    return *merged_part(views.values(), profiles), device.capabilities, device.profiles


def _sights(device: Device, stays: int | list[_Stay]) -> list[Sight]:
    node, path, part = device.node, device.slot.path or device.slot.address, part_key(device)
    if isinstance(stays, int):
        return [Sight(device.id, node, path, part, stays)]
    return [
        Sight(
            device.id,
            node if stay.node is None else stay.node,
            path if stay.path is None else stay.path,
            part if stay.part is None else stay.part,
            stay.since,
            stay.until,
        )
        for stay in stays
    ]


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"a snapshot cannot be read: {error}") from error

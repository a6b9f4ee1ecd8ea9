"""A snapshot: a state in a small form, in parts that stand for themselves.

What follows from the rest is left out, and what nearly all devices have in common is said once: 200 bytes a device, and
40 on disk. A part holds some nodes with their devices, or some claims; part 0 says what the others add up to. A part is
small, so that no thread keeps the interpreter for longer than a few milliseconds over one.
"""

from collections.abc import Sequence
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
    Sight,
    Taint,
    View,
    part_key,
)
from aggregator.ledger.state import Kept, State
from aggregator.ledger.words import Lifecycle, Reach
from schemas.device import DeviceKind, Part, Slot, Value

FORM: Final = 1
"""Of the parts; a form that is not known is no snapshot, and the state is replayed from an older one."""
NODES_A_PART: Final = 64
CLAIMS_A_PART: Final = 1024
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


class _View(msgspec.Struct, array_like=True, frozen=True):
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


class _Stay(msgspec.Struct, array_like=True, frozen=True):
    """A `Sight`; None: as the device shows now, or still there."""

    since: int
    until: int | None
    node: str | None
    path: str | None
    part: str | None


class _Device(msgspec.Struct, array_like=True, frozen=True):
    id: str
    kind: DeviceKind
    views: list[_View]
    lifecycle: Lifecycle
    reach: Reach
    first: int
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


class _Node(msgspec.Struct, array_like=True, frozen=True):
    node: Node
    devices: list[_Device]


_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")
_nodes: Final = msgspec.msgpack.Decoder(list[_Node])
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
        device.kind,
        [_view(view, node) for view in device.views.values()],
        device.lifecycle,
        device.reach,
        device.first,
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
    """Builds a state from the parts of a snapshot, one by one, part 0 first. Raises SnapshotError."""

    def __init__(self, head: bytes) -> None:
        self.head: Head = _decode(_head, head)
        if self.head.form != FORM:
            raise SnapshotError(f"the snapshot has form {self.head.form}, and this version knows {FORM}")
        self._kept = self.head.rest
        self._next = 1

    @property
    def parts(self) -> int:
        """How many parts there are beside part 0."""
        return self.head.node_parts + self.head.claim_parts

    def add(self, body: bytes) -> None:
        """Take the next part."""
        if self._next <= self.head.node_parts:
            for one in _decode(_nodes, body):
                self._kept.nodes.append(one.node)
                for device in one.devices:
                    self._device(one.node, device)
        else:
            claims: list[Claim] = _decode(_claims, body)
            self._kept.claims += claims
        self._next += 1

    def state(self, *, index: bool = False) -> State:
        """Give the state, all parts taken. Without `index` see `State.of`."""
        if self._next <= self.parts:
            raise SnapshotError(f"the snapshot at {self._kept.sequence} lacks parts")
        self._kept.devices.sort(key=lambda device: device.first)
        return State.of(self._kept, index=index)

    def _device(self, node: Node, one: _Device) -> None:
        device = Device(
            one.id,
            node.id,
            one.kind,
            {},
            one.part or Part(),
            one.slot or Slot(),
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
        )
        self._views(device, node, one)
        self._kept.devices.append(device)
        path, part = device.slot.path or device.slot.address, part_key(device)
        if isinstance(one.stays, int):
            self._kept.sights.append(Sight(one.id, node.id, path, part, one.stays))
            return
        for stay in one.stays:
            where = (
                node.id if stay.node is None else stay.node,
                path if stay.path is None else stay.path,
                part if stay.part is None else stay.part,
            )
            self._kept.sights.append(Sight(one.id, *where, stay.since, stay.until))

    def _views(self, device: Device, node: Node, one: _Device) -> None:
        profiles = self._kept.profiles
        for told in one.views:
            view = View(
                node.id if told.publisher is None else told.publisher,
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
            device.views[view.source] = view
        if len(device.views) == 1:
            (view,) = device.views.values()
            profile = profiles[view.profile]
            device.profiles = (view.profile,)
            device.capabilities = {**profile.capabilities, **view.own}
            if one.part is None:
                part = profile.part
                device.part = Part(
                    part.vendor, part.model, part.part_number, view.serial, view.uuid, part.revision, part.firmware
                )
            if one.slot is None:
                device.slot = view.slot
        elif device.views:
            merge_capabilities(device, profiles)
            part, slot = merged_part(device.views.values(), profiles)
            device.part, device.slot = one.part or part, one.slot or slot


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"a snapshot cannot be read: {error}") from error

"""A snapshot: a state in a small form, in parts that stand for themselves.

What follows from the rest is left out, and what nearly all devices have in common is said once: 200 bytes a device, and
40 on disk. A part holds some nodes with their devices, or some claims; part 0 says what the others add up to. A part is
small, so that no thread keeps the interpreter for longer than a few milliseconds over one.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import msgspec

from aggregator.ledger.making import Making, stays
from aggregator.ledger.merge import merged_part
from aggregator.ledger.model import Claim, Device, Node, Sight, View
from aggregator.ledger.snapshot_form import (
    FORM,
    Alike,
    SnapshotError,
    Stay,
    ToldDevice,
    ToldNode,
    ToldStays,
    ToldView,
    decode,
)
from aggregator.ledger.state import Kept, State

NODES_A_PART: Final = 64
CLAIMS_A_PART: Final = 1024
_FIRST: Final = attrgetter("first")


class Head(msgspec.Struct, array_like=True, frozen=True):
    """Part 0."""

    form: int
    base: int
    """Sequence of the snapshot whose parts these were compressed against; 0: none."""
    node_parts: int
    claim_parts: int
    rest: Kept
    """Everything else, and as of when."""


class _Name(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """As much of a `ToldDevice` as tells that it is there; the rest is passed over."""

    id: str
    first: int


class _Names(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """As much of a `ToldNode`."""

    node: Node
    devices: list[_Name]


_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")
_nodes: Final = msgspec.msgpack.Decoder(list[ToldNode])
_names: Final = msgspec.msgpack.Decoder(list[_Names])
_raws: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_claims: Final = msgspec.msgpack.Decoder(list[Claim])
_head: Final = msgspec.msgpack.Decoder(Head)


# --- writing ----------------------------------------------------------------------------------------------------------


def encode_node(state: State, node: Node) -> bytes:
    """Give a node with its devices."""
    bare = msgspec.structs.replace(node, used={}, devices={})
    return _encoder.encode(ToldNode(bare, [_kept(state, node, state.devices[name]) for name in node.devices]))


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


def _kept(state: State, node: Node, device: Device) -> ToldDevice:
    part, slot = merged_part(device.views.values(), state.profiles)
    place = (device.node, device.slot.path or device.slot.address, device.part_key)
    return ToldDevice(
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


def _view(view: View, node: Node) -> ToldView:
    alike = Alike(view.collector, view.document, view.profile, view.slot, view.parent, view.own)
    publisher = None if view.publisher == node.id else view.publisher
    return ToldView(_encoder.encode(alike), view.serial, view.uuid, view.keys, publisher)


def _stays(sights: list[Sight], place: tuple[str, str, str]) -> ToldStays:
    if len(sights) == 1:
        only = sights[0]
        if only.until is None and (only.node, only.path, only.part) == place:
            return only.since
    return [_stay(sight, place) for sight in sights]


def _stay(sight: Sight, place: tuple[str, str, str]) -> Stay:
    told = (sight.node, sight.path, sight.part)
    node, path, part = (None if one == now else one for one, now in zip(told, place, strict=True))
    return Stay(sight.since, sight.until, node, path, part)


# --- reading ----------------------------------------------------------------------------------------------------------


class Reading:
    """Takes the parts of a snapshot, one by one, part 0 first. Raises SnapshotError.

    With `lazy`, devices are left as they lie there (`encoded`, `places`), for `making` to make.
    """

    def __init__(self, head: bytes, *, lazy: bool = False) -> None:
        self.head: Head = decode(_head, head)
        if self.head.form != FORM:
            raise SnapshotError(f"the snapshot has form {self.head.form}, and this version knows {FORM}")
        self.encoded: dict[str, msgspec.Raw] = {}
        """Node -> itself with its devices."""
        self.places: list[tuple[int, str, str]] = []
        """(sequence of the first sight, device, node) of each device."""
        self._lazy = lazy
        self._kept = self.head.rest
        self._sights: dict[str, list[Sight]] = {}
        self._next = 1
        self.making = Making(self._kept.profiles)

    @property
    def parts(self) -> int:
        """How many parts there are beside part 0."""
        return self.head.node_parts + self.head.claim_parts

    def add(self, body: bytes) -> None:
        """Take the next part."""
        if self._next > self.head.node_parts:
            claims: list[Claim] = decode(_claims, body)
            self._kept.claims += claims
        elif self._lazy:
            self._shelve(body)
        else:
            for one in decode(_nodes, body):
                self._kept.nodes.append(one.node)
                for device, told in self.making.devices(one):
                    self._kept.devices.append(device)
                    self._sights[device.id] = stays(device, told)
        self._next += 1

    def kept(self) -> Kept:
        """Give what the parts amount to, all of them taken, but for stays."""
        if self._next <= self.parts:
            raise SnapshotError(f"the snapshot at {self._kept.sequence} lacks parts")
        self._kept.devices.sort(key=_FIRST)
        self.places.sort()
        return self._kept

    def state(self, *, index: bool = False) -> State:
        """Give the state, all parts taken. Without `index` see `State.of`."""
        state = State.of(self.kept(), index=index)
        state.sights = self._sights
        for view, capabilities in self.making.made:
            state.sharing.know(view, capabilities)
        return state

    def _shelve(self, body: bytes) -> None:
        names: list[_Names] = decode(_names, body)
        for one, raw in zip(names, _raws.decode(body), strict=True):
            node = one.node.id
            self._kept.nodes.append(one.node)
            self.encoded[node] = raw
            places = sorted([(device.first, device.id, node) for device in one.devices])
            one.node.devices = dict.fromkeys([device for _, device, _ in places])
            self.places += places

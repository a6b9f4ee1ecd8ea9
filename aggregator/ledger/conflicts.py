"""One identity, two devices: a part cannot be in two places, so neither of the two is given to anybody.

Every identity that tells a part is compared: its UUID, and its serial number where not both state a UUID, which differ
(boards of two GPUs share a number). What has none of its own shares none: functions of one card, partitions of a GPU.

It is looked at whenever a device says who it is, and when a node that was silent speaks again. A device counts that is
there, and one of a silent node that a claim may have in use; the mark goes with the last of the others.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from aggregator.ledger.claims import may_be_in_use
from aggregator.ledger.entries import Entry, Tainted, Untainted
from aggregator.ledger.merge import merge_part, merged_kind, same_kind
from aggregator.ledger.model import Device, Profile, Taint, View, weaker_key
from aggregator.ledger.state import State
from aggregator.ledger.words import BMC_KEY, CONFLICT, Effect, Reach
from schemas.device import DeviceKind, Part, Slot, part_key


class _Stated(msgspec.Struct, frozen=True):
    """A device, and who it says it is."""

    device: str
    node: str
    kind: DeviceKind
    part: Part
    slot: Slot


def of_view(
    state: State,
    name: str,
    node: str,
    view: View,
    profile: Profile,
    device: Device | None = None,
    before: Sequence[Entry] = (),
) -> Iterator[Entry]:
    """Yield the marks that follow when a view shows who a device is; `device` None: it is seen first.

    `before`: what was decided already, and is not in the state yet.
    """
    if device is None:
        stated = _Stated(name, node, profile.kind, merge_part(Part(), profile.part, view), view.slot)
    else:
        others = [one for source, one in device.views.items() if source != view.source]
        stated = _stated_by(state, device, others, view, profile)
    yield from _marks(state, stated, _Marked(state, before), [node])


def of_views_left(state: State, device: Device, gone: Collection[str]) -> Iterator[Entry]:
    """Yield the marks that follow when some views of a device are gone: the others may tell another kind or place."""
    marked = _Marked(state)
    left = [view for source, view in sorted(device.views.items()) if source not in gone]
    for view in left:
        others = [one for one in left if one is not view]
        stated = _stated_by(state, device, others, view, state.profiles[view.profile])
        yield from _marks(state, stated, marked, [device.node])


def _stated_by(state: State, device: Device, others: Sequence[View], view: View, profile: Profile) -> _Stated:
    """Give what a device is by a view and all `others`: of its kind the strongest word counts, whoever spoke last."""
    part = merge_part(device.part, profile.part, view)
    told = [(one, state.profiles[one.profile].kind) for one in others]
    kind = merged_kind([*told, (view, profile.kind)], device.kind)
    return _Stated(device.id, device.node, kind, part, merged(device.slot, view.slot))


def merged(known: Slot, seen: Slot) -> Slot:
    """Give the slot as it is seen, else as it was known."""
    return seen if seen.address or seen.path else known


def of_nodes(state: State, nodes: Collection[str]) -> Iterator[Entry]:
    """Yield the marks that follow when nodes speak again, or have shown their checkpoints, all at once.

    Elsewhere their parts may have shown themselves meanwhile.
    """
    marked = _Marked(state)
    for device in (one for node in nodes for one in state.devices_of(node) if one.reach is Reach.LIVE):
        yield from _marks(state, _stated(device), marked, nodes)


def of_twins(state: State, twins: Mapping[str, str], node: str) -> Iterator[Entry]:
    """Yield the marks of devices that go on with what was told of their twins on `node`: those contradict them now."""
    for name, twin in twins.items():
        told = msgspec.structs.replace(_stated(state.devices[twin]), device=name)
        known = CONFLICT in state.devices[name].taints
        for other, key in _rivals(state, told):
            if not known and other.id != twin and state.reach(other) is not Reach.ABSENT and CONFLICT in other.taints:
                evidence = f"{key} is seen at {node} {told.slot.path} as {name}, and as {other.id}"
                yield Tainted(node, name, Taint(CONFLICT, Effect.NO_SCHEDULE, evidence, "ledger", state.time_ns))
                known = True


def _stated(device: Device) -> _Stated:
    return _Stated(device.id, device.node, device.kind, device.part, device.slot)


def _marks(state: State, one: _Stated, marked: "_Marked", speaking: Collection[str]) -> Iterator[Entry]:
    """Yield the marks of one that is there and of those that contradict it.

    Nodes in `speaking` speak from now on, whatever is known of them yet.
    """
    for other, key in _rivals(state, one):
        reach = other.reach if other.node in speaking else state.reach(other)
        if not (reach is Reach.LIVE or (reach is not Reach.ABSENT and may_be_in_use(state, other))):
            continue
        places = f"{one.node} {one.slot.path} as {one.device}, and at {other.node} {other.slot.path} as {other.id}"
        mark = Taint(CONFLICT, Effect.NO_SCHEDULE, f"{key} is seen at {places}", "ledger", state.time_ns)
        for node, name in ((other.node, other.id), (one.node, one.device)):
            if marked.add(name):
                yield Tainted(node, name, mark)


class _Marked:
    """Who is marked, with what was decided and is not in the state yet."""

    def __init__(self, state: State, before: Iterable[Entry] = ()) -> None:
        self._state = state
        self._now = {one.device: False for one in before if isinstance(one, Untainted) and one.rule == CONFLICT}

    def add(self, name: str) -> bool:
        """Mark a device; False when it is marked already."""
        device = self._state.devices.get(name)
        known = self._now.get(name, device is not None and CONFLICT in device.taints)
        self._now[name] = True
        return not known


def _rivals(state: State, one: _Stated) -> Iterator[tuple[Device, str]]:
    """Yield the devices that state an identity of this one, wherever they are known to be, and which it is."""
    seen = {one.device}
    for key in _identities(one.part, one.kind):
        for name in (*state.found.by_part.get(key), *state.found.by_weaker.get(key)):
            if name not in seen and _contradict(one, state.devices[name]):
                yield state.devices[name], key
            seen.add(name)


def _identities(part: Part, kind: DeviceKind) -> Iterator[str]:
    """Yield what tells a part from every other, the strongest first; nothing where it says nothing of itself."""
    if part.uuid or part.serial:
        yield part_key(part, "", Slot())
    if weaker := weaker_key(part, kind):
        yield weaker


def _contradict(one: _Stated, other: Device) -> bool:
    """Tell whether two that state one identity cannot both be: functions of one card share theirs.

    A BMC sees the parts of its machine from outside: what it tells of them are no others.
    """
    if not same_kind(other.kind, one.kind) or _is_bmc(one.node) is not _is_bmc(other.node):
        return False
    if one.part.uuid and other.part.uuid and one.part.uuid != other.part.uuid:
        return False
    return not (other.node == one.node and _card(other.slot) == _card(one.slot) != "")


def _is_bmc(subject: str) -> bool:
    return subject.startswith(BMC_KEY)


def _card(slot: Slot) -> str:
    """Give the PCI address without the function; "" for what has none."""
    return slot.address.rpartition(".")[0]


def left_alone(state: State, gone: Device) -> list[Entry]:
    """Take the mark off those who are left alone with the identity of a device that is gone."""
    others = [one for one in _others(state, gone) if _stands(state, one)]
    cleared = [one for one in others if CONFLICT in one.taints and not _contradicted(state, one, but=gone.id)]
    if cleared and len(cleared) == len(others) and CONFLICT in gone.taints:
        cleared.append(gone)
    why = f"{gone.id} is gone"
    return [Untainted(device.node, device.id, CONFLICT, why) for device in cleared]


def over(state: State, device: Device) -> list[Entry]:
    """Take the mark off a device with whose identity nobody else stands any more; [] while somebody does."""
    if CONFLICT not in device.taints or _contradicted(state, device):
        return []
    return [Untainted(device.node, device.id, CONFLICT, "nothing else states its identity any more")]


def _contradicted(state: State, device: Device, but: str = "") -> bool:
    return any(other.id != but and _stands(state, other) for other in _others(state, device))


def _others(state: State, device: Device) -> Iterator[Device]:
    return (other for other, _ in _rivals(state, _stated(device)))


def _stands(state: State, device: Device) -> bool:
    """Tell whether a device is somewhere, as far as is known: with a node that is gone for good, it is not."""
    if device.reach is Reach.ABSENT:
        return False
    return not state.nodes[device.node].retired or may_be_in_use(state, device)

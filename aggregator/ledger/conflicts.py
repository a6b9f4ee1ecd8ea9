"""One identity, two devices: a part cannot be in two places, so neither of the two is given to anybody.

It is looked at whenever a device says who it is, and when a node that was silent speaks again. A device counts that is
there, and one of a silent node that a claim may have in use; the mark goes with the last of the others.
"""

from collections.abc import Iterator

from aggregator.ledger.claims import may_be_in_use
from aggregator.ledger.entries import Entry, Tainted, Untainted
from aggregator.ledger.merge import merge_part, same_kind
from aggregator.ledger.model import Device, Profile, Taint, View
from aggregator.ledger.state import State
from aggregator.ledger.words import CONFLICT, Effect, Reach
from schemas.device import DeviceKind, Part, Slot, part_key


def of_view(
    state: State, name: str, node: str, view: View, profile: Profile, device: Device | None = None
) -> Iterator[Entry]:
    """Yield the marks that follow when a view shows who a device is; `device` None: it is seen first."""
    part = merge_part(Part() if device is None else device.part, profile.part, view)
    if not (part.uuid or part.serial):
        return
    kind = profile.kind
    if device is not None and kind is DeviceKind.PCI_FUNCTION:
        kind = device.kind  # what another collector told
    slot = view.slot if device is None else merged(device.slot, view.slot)
    marked = device is not None and CONFLICT in device.taints
    yield from _marks(state, name, node, kind, slot, part_key(part, node, slot), marked=marked)


def merged(known: Slot, seen: Slot) -> Slot:
    """Give the slot as it is seen, else as it was known."""
    return seen if seen.address or seen.path else known


def of_node(state: State, node: str) -> Iterator[Entry]:
    """Yield the marks that follow when a node speaks again: elsewhere its parts may have shown themselves meanwhile."""
    for device in state.devices_of(node):
        if device.reach is Reach.LIVE and (device.part.uuid or device.part.serial):
            marked = CONFLICT in device.taints
            yield from _marks(state, device.id, node, device.kind, device.slot, device.part_key, marked=marked)


def _marks(
    state: State, name: str, node: str, kind: DeviceKind, slot: Slot, key: str, *, marked: bool
) -> Iterator[Entry]:
    for other in state.found.by_part.get(key, ()):
        device = state.devices[other]
        if other == name or not _is_rival(state, device, node, kind, slot):
            continue
        evidence = f"{key} is seen at {node} {slot.path} as {name}, and at {device.node} {device.slot.path} as {other}"
        mark = Taint(CONFLICT, Effect.NO_SCHEDULE, evidence, "ledger", state.time_ns)
        if CONFLICT not in device.taints:
            yield Tainted(device.node, other, mark)
        if not marked:
            marked = True
            yield Tainted(node, name, mark)


def _is_rival(state: State, device: Device, node: str, kind: DeviceKind, slot: Slot) -> bool:
    """Tell whether a device that states an identity contradicts another one: functions of one card share theirs."""
    if not same_kind(device.kind, kind) or (device.node == node and _card(device.slot) == _card(slot) != ""):
        return False
    reach = state.reach(device)
    return reach is Reach.LIVE or (reach is not Reach.ABSENT and may_be_in_use(state, device))


def _card(slot: Slot) -> str:
    """Give the PCI address without the function; "" for what has none."""
    return slot.address.rpartition(".")[0]


def left_alone(state: State, gone: Device) -> list[Entry]:
    """Take the mark off who is left alone with the identity of a device that is gone."""
    others = [one for one in _others(state, gone) if _stands(state, one)]
    if len(others) != 1 or CONFLICT not in others[0].taints:
        return []
    why = f"{gone.id} is gone"
    cleared = [others[0], *([gone] if CONFLICT in gone.taints else [])]
    return [Untainted(device.node, device.id, CONFLICT, why) for device in cleared]


def over(state: State, device: Device) -> list[Entry]:
    """Take the mark off a device with whose identity nobody else stands any more; [] while somebody does."""
    if CONFLICT not in device.taints or any(_stands(state, other) for other in _others(state, device)):
        return []
    return [Untainted(device.node, device.id, CONFLICT, "nothing else states its identity any more")]


def _others(state: State, device: Device) -> Iterator[Device]:
    for name in state.found.by_part.get(device.part_key, ()):
        if name != device.id and same_kind(state.devices[name].kind, device.kind):
            yield state.devices[name]


def _stands(state: State, device: Device) -> bool:
    """Tell whether a device is somewhere, as far as is known: with a node that is gone for good, it is not."""
    if device.reach is Reach.ABSENT:
        return False
    return not state.nodes[device.node].retired or may_be_in_use(state, device)

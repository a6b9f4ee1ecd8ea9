"""Why no node could ever hold a request: what it names that there is not, before its size and its nearness."""

from aggregator.ledger.partitions import placements
from aggregator.ledger.state import State
from aggregator.placement.choose import Chooser
from aggregator.placement.request import Wanted
from schemas.device import DeviceKind
from schemas.errors import near_names


def never(chooser: Chooser) -> str:
    """Say it in a line, with the names that are near."""
    request = chooser.request
    if not chooser.index.nodes:
        return "there is no node yet"
    if request.where and not any(chooser.selected(name) for name in chooser.index.nodes):
        return f"no node fits --where {request.where}: 'muster nodes' lists what there is"
    for place, need in enumerate(chooser.resolved.needs):
        if need.profile and (wrong := _profile(chooser.state, need)):
            return f"needs[{place}]: {wrong}"
        if need.variant is not None and not _of_variant(chooser.state, need.variant.name):
            return f"needs[{place}]: there is no device of variant {need.variant.name} on any node"
        if need.where and not any(chooser.filters(summary)[place] for summary in chooser.index.nodes.values()):
            return f"needs[{place}]: no device of any node fits {need.where}: 'muster devices --where' tries it out"
    return "no node can hold this, even if all of it were free: ask for less on one node, or for less nearness"


def _profile(state: State, need: Wanted) -> str:
    """Say what is wrong with the profile of a need; "" when some GPU that it may mean has it."""
    known: set[str] = set()
    for device in state.devices.values():
        if device.kind is DeviceKind.GPU and (
            need.variant is None or state.is_variant(device.profiles, need.variant.name)
        ):
            known.update(one.profile for one in placements(device))
    if need.profile in known:
        return ""
    whose = f"variant {need.variant.name}" if need.variant is not None else "any"
    if not known:
        return f"no GPU of {whose} says that it can be divided"
    near = near_names(need.profile, known) or f" There is: {', '.join(sorted(known)[:12])}."
    return f"no GPU of {whose} has the profile {need.profile!r}.{near}"


def _of_variant(state: State, name: str) -> bool:
    seen: set[tuple[int, ...]] = set()
    for device in state.devices.values():
        if device.profiles not in seen:
            seen.add(device.profiles)
            if state.is_variant(device.profiles, name):
                return True
    return False

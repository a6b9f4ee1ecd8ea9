"""What is a part of what: as documents name it, in whatever order they come, and whatever is in a slot by now."""

from collections.abc import Iterable

from aggregator.ledger import claims, cleaning
from aggregator.ledger.entries import Entry, Invalidated, Joined
from aggregator.ledger.model import Device, View, view_source
from aggregator.ledger.state import State
from aggregator.ledger.words import Reach


def parts(state: State, node: str, view: View, name: str) -> list[Entry]:
    """Join parts that were seen before what they are a part of was described by that name."""
    apart = [state.devices[part] for part in state.found.apart.get((node, view.source))]
    return [Joined(part.id, name) for part in sorted(apart, key=lambda part: part.first) if part.id != name]


def whole(state: State, node: str, view: View, name: str, device: Device | None) -> list[Entry]:
    """Join a device, None when it is seen first, to what its document names, where that is known."""
    if not view.parent:
        return []
    parent = state.found.by_source.get((node, _whole(view)))
    if parent is None or parent == name or (device is not None and device.parent == parent):
        return []
    return [Joined(name, parent)]


def left_behind(state: State, replaced: Device | None, view: View, name: str, before: Iterable[Entry]) -> list[Entry]:
    """Join what was a part of a device that is replaced, and is still there, to the device in its slot.

    It is another part with that: not known to be clean, and of a claim of which no node was told it is given back.
    `before`: what was decided already, and is not in the state yet.
    """
    if replaced is None:
        return []
    there = (state.devices[part] for part in state.found.parts.get(replaced.id, ()) if part != name)
    left = [one for one in there if not one.planned and _names(one, view)]
    why = f"what it is a part of was replaced by {name}"
    over = {one.claim for one in before if isinstance(one, Invalidated)}
    promised = [one for one in left if one.hold is not None and one.hold.claim not in over]
    return [
        *(Joined(one.id, name) for one in left),
        *claims.invalidate(state, promised, why),
        *(entry for one in left for entry in cleaning.doubt(one, why)),
    ]


def _names(part: Device, view: View) -> bool:
    """Tell whether a device that is there says that it is a part of what a view describes."""
    return part.reach is not Reach.ABSENT and any(_whole(one) == view.source for one in part.views.values())


def _whole(view: View) -> str:
    """Give the source of what a view says that its device is a part of."""
    return view_source(view.publisher, view.collector, view.parent)

"""Classes of devices that nothing tells apart, for one plan on one node; and the ways to take some of each."""

from collections.abc import Iterator, Sequence
from typing import Final

from aggregator.ledger.words import Mode
from aggregator.placement.layout import bits
from aggregator.placement.plan import Plan
from aggregator.placement.request import Affinity
from aggregator.placement.summary import Masks

_OWN: Final = -2
_UNKNOWN: Final = -1


class Class:
    """Interchangeable seats."""

    __slots__ = ("alike", "coupled", "first", "group", "mask", "needs", "numa", "number", "root", "seats")

    def __init__(self, number: int, seats: list[int], needs: int, numa: int, root: int) -> None:
        self.number = number
        self.seats = seats
        """Ascending."""
        self.needs = needs
        """Bits of the needs that they can serve."""
        self.numa = numa
        """A bit for their NUMA node; 0 when it does not matter."""
        self.root = root
        """A bit for their root; 0 when it does not matter, or is each one's own."""
        self.first = [0]
        """`first[n]`: the mask of the first n seats."""
        for seat in seats:
            self.first.append(self.first[-1] | 1 << seat)
        self.mask = self.first[-1]
        self.coupled = False
        """Whether more than one need, or another class, is concerned by how many are taken."""
        self.group: int | None = None
        self.alike: object = None
        """Equal for classes that differ only in which IOMMU group they are; None when there is none such."""


def classes_of(plan: Plan, masks: Masks, available: Sequence[int]) -> list[Class]:
    """Give the classes of all seats that are available to any need, in the order of their first seats."""
    union = 0
    for mask in available:
        union |= mask
    roots = _roots(plan, union)
    linked_needs = sum(1 for mask in available if mask & plan.layout.linked)
    found: dict[tuple[object, ...], list[int]] = {}
    for at in bits(union):
        found.setdefault(_signature(plan, masks, at, union, roots, available), []).append(at)
    classes: list[Class] = []
    numas: dict[object, int] = {}
    for signature, seats in found.items():
        needs, numa, root = signature[0], signature[1], signature[2]
        assert isinstance(needs, int)
        one = Class(
            len(classes),
            seats,
            needs,
            0 if numa is None else 1 << numas.setdefault(numa, len(numas)),
            0 if root in (None, _OWN) else 1 << root,  # type: ignore[operator]
        )
        one.group = plan.layout.seats[seats[0]].group if plan.layout.fellows[seats[0]] else None
        one.coupled = _coupled(plan, one, signature, union, linked_needs)
        if one.group is not None and not one.coupled:
            fellows = plan.layout.fellows[seats[0]] & masks.passthrough & ~one.mask
            one.alike = (*signature[:4], *signature[5:], len(seats), fellows.bit_count())
        classes.append(one)
    return classes


def _roots(plan: Plan, union: int) -> dict[int, int]:
    """Count seats below each root."""
    found: dict[int, int] = {}
    if plan.root is not Affinity.NONE:
        for at in bits(union):
            root = plan.layout.seats[at].root
            if root is not None:
                found[root] = found.get(root, 0) + 1
    return found


def _signature(
    plan: Plan, masks: Masks, at: int, union: int, roots: dict[int, int], available: Sequence[int]
) -> tuple[object, ...]:
    layout = plan.layout
    seat = layout.seats[at]
    needs = 0
    for need, mask in enumerate(available):
        needs |= (mask >> at & 1) << need
    numa: object = None
    if plan.numa is not Affinity.NONE:
        numa = _UNKNOWN if seat.numa is None else seat.numa
    root: object = None
    if plan.root is not Affinity.NONE:
        root = seat.root if seat.root is not None and roots[seat.root] > 1 else _OWN
    family: object = None
    if layout.family[at] & union:
        family = (seat.parent if seat.parent is not None else at, seat.parent is None)
    room: object = None
    if plan.divisible >> at & 1:
        room = (plan.table(at), plan.occupied(masks, at))
    limits = tuple(limit.seats >> at & 1 for limit in plan.limits)
    return (
        needs,
        numa,
        root,
        layout.twins[at] if seat.links else None,
        seat.group if layout.fellows[at] else None,
        family,
        room,
        limits,
        at if seat.fabric and plan.passed else None,
        bool(layout.gpus >> at & 1),
    )


def _coupled(plan: Plan, one: Class, signature: tuple[object, ...], union: int, linked_needs: int) -> bool:
    wholes = sum(one.needs >> need & 1 for need in plan.wholes)
    parts = any(one.needs >> need & 1 for need in plan.divisions)  # all partitions together take what they take
    if wholes + parts > 1 or signature[5] is not None or signature[8] is not None:
        return True
    if any(limit.seats & one.mask for limit in plan.limits):
        return True
    if linked_needs > 1 and one.mask & plan.layout.linked:
        return True
    at = one.seats[0]
    if plan.layout.fellows[at] & union & ~one.mask:
        return True
    return plan.whole and one.group is not None and _modes(plan, one)


def _modes(plan: Plan, one: Class) -> bool:
    """Tell whether what a whole group adds may be of another class's family, or under a limit."""
    reach = one.mask
    for at in one.seats:
        reach |= plan.layout.fellows[at]
    return (
        bool(reach & plan.layout.familied)
        or any(limit.seats & reach for limit in plan.limits)
        or (any(part.mode is Mode.DRIVER for part in plan.parts))
    )


def counts(classes: Sequence[Class], count: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to take `count` seats of some classes; of classes that are alike the earlier gives no fewer."""
    left = [0] * (len(classes) + 1)
    for at in range(len(classes) - 1, -1, -1):
        left[at] = left[at + 1] + len(classes[at].seats)
    before: list[int] = []
    last: dict[object, int] = {}
    for at, one in enumerate(classes):
        before.append(last.get(one.alike, -1) if one.alike is not None else -1)
        last[one.alike] = at
    taken = [0] * len(classes)

    def go_on(at: int, open_: int) -> Iterator[tuple[int, ...]]:
        if at == len(classes):
            yield tuple(taken)
            return
        most = min(open_, len(classes[at].seats))
        if before[at] >= 0:
            most = min(most, taken[before[at]])
        for number in range(most, max(0, open_ - left[at + 1]) - 1, -1):
            taken[at] = number
            yield from go_on(at + 1, open_ - number)
        taken[at] = 0

    return go_on(0, count)

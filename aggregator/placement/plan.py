"""A request against one layout: which seats could serve which need; known once for all nodes that are built alike."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Final, NamedTuple

from aggregator.ledger.state import State
from aggregator.ledger.words import Mode
from aggregator.placement import mig
from aggregator.placement.layout import Layout, bits
from aggregator.placement.request import Affinity, Isolation, Resolved, Strategy, Wanted
from schemas.device import DeviceKind

KEPT: Final = 20_000
"""Answers that a plan remembers before it begins anew: one for each way in which a node may be occupied."""


class Part(NamedTuple):
    """A need on a layout."""

    candidates: int
    number: int
    mode: Mode
    starts: dict[int, mig.Start]
    """Seat -> where the partition of `profile` would lie; {} for a whole device."""
    profile: str


class Limit(NamedTuple):
    """Of some seats no more than so many may be given: what is left of a tenant's quota of a variant."""

    variant: str
    """"": of all devices."""
    seats: int
    left: int


class Plan:
    """What a request asks of nodes of one layout."""

    def __init__(self, layout: Layout, resolved: Resolved, parts: tuple[Part, ...], limits: tuple[Limit, ...]) -> None:
        request = resolved.request
        self.layout: Final = layout
        self.parts: Final = parts
        self.limits: Final = limits
        self.numa: Final = request.affinity.numa
        self.root: Final = request.affinity.pcie_root
        self.nvlink: Final = request.affinity.nvlink
        self.strategy: Final[Strategy] = request.strategy
        self.whole = request.isolation is Isolation.WHOLE_GROUP
        self.count: Final = sum(part.number for part in parts)
        self.candidates: Final = _union(part.candidates for part in parts)
        self.relevant: Final = (
            self.candidates
            | _union(layout.fellows[at] | layout.family[at] for at in bits(self.candidates))
            | (layout.linked if self.candidates & layout.linked else 0)
        )
        """Seats whose state can make a difference."""
        self.passed: Final = any(part.mode is Mode.PASSTHROUGH for part in parts)
        self.driven: Final = any(part.mode is Mode.DRIVER for part in parts)

    def loosened(self) -> "Plan":
        """Give the plan without whole groups: what it cannot do this one cannot either."""
        made = copy(self)
        made.whole = False
        return made


def _union(masks: Iterable[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def make_plan(
    state: State, layout: Layout, resolved: Resolved, filters: Sequence[int | None], left: dict[str, int]
) -> Plan:
    """Make a plan.

    `filters` has for each need the seats that its expression fits, None without one; `left` what is left of the
    tenant's quotas of variants.
    """
    parts = tuple(
        _part(state, layout, resolved, need, mask) for need, mask in zip(resolved.needs, filters, strict=True)
    )
    limits = tuple(
        Limit(name, seats, number)
        for name, number in sorted(left.items())
        if (seats := _of_variant(state, layout, name))
    )
    return Plan(layout, resolved, parts, limits)


def _of_variant(state: State, layout: Layout, name: str) -> int:
    return sum(1 << at for at, seat in enumerate(layout.seats) if not name or state.is_variant(seat.profiles, name))


def _part(state: State, layout: Layout, resolved: Resolved, need: Wanted, fits: int | None) -> Part:
    request = resolved.request
    mask = 0
    starts: dict[int, mig.Start] = {}
    made: dict[tuple[int, ...], bool] = {}
    for at, seat in enumerate(layout.seats):
        if fits is not None and not fits >> at & 1:
            continue
        if need.variant is not None and seat.profiles not in made:
            made[seat.profiles] = need.variant.names(state.profiles[number] for number in seat.profiles)
        if need.variant is not None and not made[seat.profiles]:
            continue
        if request.affinity.numa is Affinity.REQUIRE and seat.numa is None:
            continue
        if request.affinity.pcie_root is Affinity.REQUIRE and seat.root is None:
            continue
        if need.mode is Mode.PASSTHROUGH and request.isolation is Isolation.SINGLETON and not _alone(layout, at):
            continue
        if need.profile:
            start = _start(state, layout, at, need.profile)
            if start is None:
                continue
            starts[at] = start
        mask |= 1 << at
    return Part(mask, need.count, need.mode, starts, need.profile)


def _alone(layout: Layout, at: int) -> bool:
    """Tell whether a seat is alone in its group; of one without a group nobody knows with whom it shares."""
    return layout.seats[at].group is not None and not layout.fellows[at]


def _start(state: State, layout: Layout, at: int, profile: str) -> mig.Start | None:
    seat = layout.seats[at]
    if seat.kind is not DeviceKind.GPU:
        return None
    told: object = None
    for number in seat.profiles:
        told = state.profiles[number].capabilities.get("mig_placements", told)
    taken = [part.placement for part in layout.seats if part.parent == at and part.kind is DeviceKind.GPU_PARTITION]
    return mig.best_start(profile, told if isinstance(told, list) else [], taken)

"""A request against one layout: which seats could serve which need; known once for all nodes that are built alike."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Final, NamedTuple

from aggregator.ledger.state import State
from aggregator.ledger.words import Mode
from aggregator.placement import mig
from aggregator.placement.layout import Layout, Seat, bits
from aggregator.placement.request import Affinity, Isolation, Resolved, Strategy, Wanted
from aggregator.placement.summary import Masks
from schemas.device import DeviceKind
from schemas.mig import SLICES, WHOLE, read_placements

KEPT: Final = 20_000
"""Answers that a plan remembers before it begins anew: one for each way in which a node may be occupied."""


class Part(NamedTuple):
    """A need on a layout."""

    candidates: int
    number: int
    mode: Mode
    profile: str = ""
    """Of partitions that are to be made; several may lie on one GPU."""
    tables: dict[int, mig.Table] = {}  # noqa: RUF012 - never changed
    """Seat -> how partitions can lie there; {} for whole devices."""


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
        self.own_roots: Final = request.affinity.pcie_root is not Affinity.NONE
        """Whether it matters that a device has its root for itself."""
        self.numa_places: Final = _by(layout, "numa") if self.numa is not Affinity.NONE else ()
        self.root_places: Final = _by(layout, "root", apart=True) if self.own_roots else ()
        """Seats on each NUMA node, and below each root; one without a root has its own."""
        self.nvlink: Final = request.affinity.nvlink
        self.strategy: Final[Strategy] = request.strategy
        self.whole = request.isolation is Isolation.WHOLE_GROUP
        self.wholes: Final = tuple(need for need, part in enumerate(parts) if not part.profile)
        """The needs that are for devices as they are."""
        self.divisions: Final = tuple(need for need, part in enumerate(parts) if part.profile)
        """Those that are for partitions to be made."""
        self.count: Final = sum(part.number for part in parts if not part.profile)
        self.candidates: Final = _union(part.candidates for part in parts)
        self.relevant: Final = (
            self.candidates
            | _union(layout.fellows[at] | layout.family[at] for at in bits(self.candidates))
            | (layout.linked if self.candidates & layout.linked else 0)
        )
        """Seats whose state can make a difference."""
        self.divisible: Final = _union(parts[need].candidates for need in self.divisions)
        """GPUs that partitions might be made on."""
        self.slices: Final = _union(WHOLE << SLICES * at for at in bits(self.divisible))
        self.passed: Final = any(part.mode is Mode.PASSTHROUGH for part in parts)
        self.driven: Final = any(part.mode is Mode.DRIVER for part in parts if not part.profile)

    def occupied(self, masks: Masks, at: int) -> int:
        """Give the slices of a GPU that are not to be had."""
        return self.layout.divided.get(at, 0) | (masks.slices >> SLICES * at & WHOLE)

    def table(self, at: int) -> mig.Table:
        """Give how partitions can lie on a GPU of `divisible`."""
        return next(self.parts[need].tables[at] for need in self.divisions if at in self.parts[need].tables)

    def room(self, need: int, masks: Masks, seats: int) -> int:
        """Give for how much of one need some seats have room, whatever the others take."""
        part = self.parts[need]
        if not part.profile:
            return seats.bit_count()
        return sum(mig.most(part.tables[at], part.profile, self.occupied(masks, at)) for at in bits(seats))

    def available(self, need: int, masks: Masks) -> int:
        """Give the seats that could serve a need now, whatever the others take."""
        part = self.parts[need]
        if part.profile:
            return part.candidates & masks.divide
        return part.candidates & (masks.passthrough if part.mode is Mode.PASSTHROUGH else masks.driver)

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


def _by(layout: Layout, name: str, *, apart: bool = False) -> tuple[int, ...]:
    """Give the seats in each place; those of which it is not known together, or each by itself."""
    found: dict[object, int] = {}
    for at, seat in enumerate(layout.seats):
        place = getattr(seat, name)
        key = ("seat", at) if apart and place is None else place
        found[key] = found.get(key, 0) | 1 << at
    return tuple(found.values())


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
    tables: dict[int, mig.Table] = {}
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
            table = _table(state, seat)
            if not mig.most(table, need.profile, layout.divided.get(at, 0)):
                continue
            tables[at] = table
        mask |= 1 << at
    return Part(mask, need.count, need.mode, need.profile, tables)


def _alone(layout: Layout, at: int) -> bool:
    """Tell whether a seat is alone in its group; of one without a group nobody knows with whom it shares."""
    return layout.seats[at].group is not None and not layout.fellows[at]


def _table(state: State, seat: Seat) -> mig.Table:
    told: object = None
    for number in seat.profiles if seat.kind is DeviceKind.GPU else ():
        told = state.profiles[number].capabilities.get("mig_placements", told)
    return read_placements(told)

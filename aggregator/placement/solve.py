"""The best choice of devices on one node: exact for what can be asked of a node, by counting classes.

Devices that nothing tells apart (`classes`) are interchangeable, so a choice is how many of each class serve each need.
Each need's choices are reduced to the best for each outcome that others could notice, and joined need by need; devices
are picked last. Required nearness on NUMA nodes and roots is solved place by place.
"""

from itertools import islice
from typing import Final, NamedTuple

from aggregator.ledger.words import Mode
from aggregator.placement import mig
from aggregator.placement.classes import classes_of, counts
from aggregator.placement.divide import Counts, Division, Made, divisions, made_by
from aggregator.placement.layout import bits
from aggregator.placement.plan import Plan
from aggregator.placement.rank import pack
from aggregator.placement.request import Affinity
from aggregator.placement.summary import Masks

CHOICES: Final = 20_000
"""Choices of one need that are looked at. Only a request for many of more than 16 devices that all differ has more:
then the rest is not looked at."""
OUTCOMES: Final = 5_000
"""Outcomes of several needs that are followed at once; beyond, the best ones."""


class Solution(NamedTuple):
    """What to take of a node."""

    rank: int
    seats: tuple[int, ...]
    """For each need a mask."""
    extra: int
    """Seats that whole groups add, for passthrough."""
    made: tuple[Made, ...] = ()
    """Partitions to be made; `seats` has their GPUs."""

    @property
    def used(self) -> int:
        """All seats together."""
        found = self.extra
        for mask in self.seats:
            found |= mask
        return found


class Failure(NamedTuple):
    """Why a node cannot."""

    condition: str
    """`count`, or what of the devices that are left stands in the way: `affinity`, `fit`."""
    missing: int
    """Devices that it is short of; 0 when their number is not what is wrong."""


def fill_of(plan: Plan, masks: Masks) -> int:
    """Give how much that fits a node has left after the choice, without what whole groups take.

    In devices; where partitions are to be made, each slice that they could take counts too, before the choice.
    """
    union = 0
    for need in plan.wholes:
        union |= plan.available(need, masks)
    left = max(0, union.bit_count() - plan.count)
    taken = sum((plan.occupied(masks, at)).bit_count() for at in bits(masks.divide & plan.divisible))
    slices = sum(mig.slices(plan.table(at)) for at in bits(masks.divide & plan.divisible))
    return left + slices - taken


def solve(plan: Plan, masks: Masks) -> Solution | Failure:
    """Give the best choice of a plan under masks."""
    available = []
    missing = 0
    for need, part in enumerate(plan.parts):
        mask = plan.available(need, masks)
        if plan.whole and part.mode is Mode.PASSTHROUGH:
            mask = _whole(plan, masks, mask)
        missing += max(0, part.number - plan.room(need, masks, mask))
        available.append(mask)
    if missing:
        return Failure("count", missing)
    best: Solution | None = None
    enough = False
    for near in _places(plan, available):
        if all(plan.room(need, masks, near[need]) >= part.number for need, part in enumerate(plan.parts)):
            enough = True
            found = Search(plan, masks, near).best()
            if found is not None and (best is None or found.rank < best.rank):
                best = found
    if best is None:
        return Failure("fit" if enough and plan.nvlink is not Affinity.REQUIRE else "affinity", 0)
    return best


def _whole(plan: Plan, masks: Masks, mask: int) -> int:
    """Leave the seats whose whole group can be taken."""
    fit = masks.passthrough | masks.out
    for at in bits(mask & plan.layout.grouped):
        if plan.layout.fellows[at] & ~fit:
            mask &= ~(1 << at)
    return mask


def _places(plan: Plan, available: list[int]) -> list[list[int]]:
    """Give what is available, once for each NUMA node or root where all of it would have to be."""
    found = [available]
    for required, name in ((plan.numa, "numa"), (plan.root, "root")):
        if required is Affinity.REQUIRE and any(available):
            groups: dict[int, int] = {}
            for at, seat in enumerate(plan.layout.seats):
                groups[getattr(seat, name)] = groups.get(getattr(seat, name), 0) | 1 << at
            found = [[mask & place for mask in one] for one in found for place in groups.values()]
    return found


Key = tuple[int, int, tuple[Counts, ...]]
"""What others notice of a choice: NUMA nodes, shared roots, how many of each class that is not one need's own; need by
need, or together where it does not matter whose they are."""


class Search:
    """One node, one occupancy, one place."""

    def __init__(self, plan: Plan, masks: Masks, available: list[int]) -> None:
        self.plan = plan
        self.masks = masks
        self.available = available
        self.layout = plan.layout
        self.classes = classes_of(plan, masks, available)
        self.fill = fill_of(plan, masks)
        self.own = 0
        """Seats that have their root for themselves, where that matters."""
        if plan.root is not Affinity.NONE:
            self.own = sum(one.mask for one in self.classes if not one.root)
        self._division: dict[Counts, Division] = {}
        self.coupled = any(one.coupled for one in self.classes)

    def best(self) -> Solution | None:
        """Give the best choice, None when there is none."""
        outcomes: dict[Key, tuple[int, tuple[Counts, ...]]] = {(0, 0, ()): (0, ())}
        for need in self.plan.wholes:
            outcomes = self._join(outcomes, self._choices(need, self.plan.parts[need].number))
        if self.plan.divisions:
            outcomes = self._join(outcomes, self._divisions())
        best: Solution | None = None
        for _, counted in sorted(outcomes.values()):
            units = self._pick(counted)
            if units is None:
                continue
            picked, division = self._by_need(units, counted)
            rank, extra = self.judge(picked, division.loss if division else 0)
            if rank is not None and (best is None or rank < best.rank):
                made = tuple(made_by(self.plan, self.classes, division, units[-1])) if division else ()
                best = Solution(rank, picked, extra, made)
        return best

    def _divisions(self) -> list[tuple[Key, int, Counts]]:
        """Give for each outcome of all partitions together the best way to make them."""
        plan = self.plan
        best: dict[Key, tuple[int, Division]] = {}
        coupled = {one.number for one in self.classes if one.coupled}
        for one in divisions(plan, self.masks, self.classes):
            shared = tuple(count for count in one.counts if count[0] in coupled)
            key: Key = (one.numa, one.roots, (shared,)) if plan.wholes else (0, 0, ((),))
            roots = max(0, one.roots.bit_count() + one.own - 1)
            topology = (0, max(0, one.numa.bit_count() - 1), roots, 0)
            rank = pack(topology, (0, 0, one.loss), self.fill, plan.strategy)
            before = best.get(key)
            if before is None or (rank, one) < before:
                best[key] = (rank, one)
        self._division = {one.counts: one for _, one in best.values()}
        return [(key, rank, one.counts) for key, (rank, one) in best.items()]

    def _by_need(self, units: tuple[int, ...], counted: tuple[Counts, ...]) -> tuple[tuple[int, ...], Division | None]:
        """Give for each need its seats: of what is needed whole, and then of all partitions together, the units."""
        plan = self.plan
        if not plan.divisions:
            return units, None
        division = self._division[counted[-1]]
        found = [0] * len(plan.parts)
        for need, mask in zip(plan.wholes, units, strict=False):
            found[need] = mask
        for one in made_by(plan, self.classes, division, units[-1]):
            found[one.need] |= 1 << one.seat
        return tuple(found), division

    def _choices(self, need: int, count: int) -> list[tuple[Key, int, Counts]]:
        """Give for each outcome of one need its best choice."""
        mine = [one for one in self.classes if one.needs >> need & 1]
        best: dict[Key, tuple[int, Counts]] = {}
        single = len(self.plan.parts) == 1 and not self.coupled
        for vector in islice(counts(mine, count), CHOICES):
            used = numa = roots = 0
            shared: list[tuple[int, int]] = []
            for one, number in zip(mine, vector, strict=True):
                if number:
                    used |= one.first[number]
                    numa |= one.numa
                    roots |= one.root
                    if one.coupled:
                        shared.append((one.number, number))
            key: Key = (0, 0, ((),)) if single else (numa, roots, (tuple(shared),))
            masks = tuple(used if at == need else 0 for at in range(len(self.plan.parts)))
            rank = self._rank(masks, self._extra(masks))
            before = best.get(key)
            if before is None or rank < before[0]:
                chosen = tuple((one.number, number) for one, number in zip(mine, vector, strict=True) if number)
                best[key] = (rank, chosen)
        return [(key, rank, chosen) for key, (rank, chosen) in best.items()]

    def _join(
        self, outcomes: dict[Key, tuple[int, tuple[Counts, ...]]], choices: list[tuple[Key, int, Counts]]
    ) -> dict[Key, tuple[int, tuple[Counts, ...]]]:
        sizes = {one.number: len(one.seats) for one in self.classes}
        joined: dict[Key, tuple[int, tuple[Counts, ...]]] = {}
        for (numa, roots, shared), (rank, chosen) in outcomes.items():
            for (more_numa, more_roots, more_shared), more_rank, counted in choices:
                both: dict[int, int] = {}
                for number, many in (*(one for each in shared for one in each), *more_shared[0]):
                    both[number] = both.get(number, 0) + many
                if any(many > sizes[number] for number, many in both.items()):
                    continue
                noticed = (tuple(sorted(both.items())),) if self._alike else (*shared, *more_shared)
                key = (numa | more_numa, roots | more_roots, noticed)
                total = rank + more_rank
                before = joined.get(key)
                if before is None or total < before[0]:
                    joined[key] = (total, (*chosen, counted))
        if len(joined) > OUTCOMES:
            joined = dict(sorted(joined.items(), key=lambda item: item[1][0])[:OUTCOMES])
        return joined

    @property
    def _alike(self) -> bool:
        """Whether it is all the same which need a device serves."""
        return not (self.plan.passed and self.plan.driven) and not self.plan.divisions

    def _pick(self, counted: tuple[Counts, ...]) -> tuple[int, ...] | None:
        """Pick devices: of each class the first ones, in the order of slots."""
        taken: dict[int, int] = {}
        picked = []
        for chosen in counted:
            mask = 0
            for number, many in chosen:
                one, begin = self.classes[number], taken.get(number, 0)
                if begin + many > len(one.seats):
                    return None
                mask |= one.first[begin + many] & ~one.first[begin]
                taken[number] = begin + many
            picked.append(mask)
        return tuple(picked)

    def _extra(self, picked: tuple[int, ...]) -> int:
        if not self.plan.whole:
            return 0
        used = found = 0
        for part, mask in zip(self.plan.parts, picked, strict=True):
            used |= mask
            if part.mode is Mode.PASSTHROUGH:
                for at in bits(mask & self.layout.grouped):
                    found |= self.layout.fellows[at]
        return found & ~used & self.masks.passthrough

    # --- judging ------------------------------------------------------------------------------------------------------

    def judge(self, picked: tuple[int, ...], loss: int = 0) -> tuple[int | None, int]:
        """Give the rank of a choice of seats, None when it is none; and what whole groups add to it.

        `loss`: what others lose by the partitions that are made.
        """
        extra = self._extra(picked)
        if not self._may(picked, extra):
            return None, extra
        return self._rank(picked, extra, loss), extra

    def _may(self, picked: tuple[int, ...], extra: int) -> bool:
        layout, plan = self.layout, self.plan
        passed, driven, divided = extra, 0, 0
        for part, mask in zip(plan.parts, picked, strict=True):
            if part.profile:
                divided |= mask
            elif part.mode is Mode.PASSTHROUGH:
                passed |= mask
            else:
                driven |= mask
        used = passed | driven
        if used & divided or any(layout.family[at] & used for at in bits(used & layout.familied)):
            return False
        for at in bits(driven):
            divided |= layout.shared[at]
        driven |= divided
        if driven and any(layout.fellows[at] & driven for at in bits(passed & layout.grouped)):
            return False
        fabric = passed & layout.in_fabric
        if fabric and fabric not in layout.fabric:
            return False
        partitions = sum(plan.parts[need].number for need in plan.divisions)
        for limit in plan.limits:
            if (used & limit.seats).bit_count() + (0 if limit.variant else partitions) > limit.left:
                return False
        if plan.nvlink is Affinity.REQUIRE:
            gpus = self._gpus(picked)
            return gpus == 0 or layout.islands(gpus)[0] == 1
        return True

    def near(self, used: int) -> bool:
        """Tell whether seats are as near as is required, where that was not seen to before."""
        for required, name in ((self.plan.numa, "numa"), (self.plan.root, "root")):
            if required is Affinity.REQUIRE and len({getattr(self.layout.seats[at], name) for at in bits(used)}) > 1:
                return False
        return True

    def _gpus(self, picked: tuple[int, ...]) -> int:
        """Give the GPUs that are to work together: whole ones."""
        found = 0
        for part, mask in zip(self.plan.parts, picked, strict=True):
            if not part.profile:
                found |= mask
        return found & self.layout.gpus

    def _rank(self, picked: tuple[int, ...], extra: int, loss: int = 0) -> int:
        plan, layout = self.plan, self.layout
        chosen = 0
        for mask in picked:
            chosen |= mask
        used = chosen | extra
        numa = roots = 0
        for one in self.classes:
            if one.mask & chosen:
                numa |= one.numa
                roots |= one.root
        own = (chosen & self.own).bit_count()
        islands = lacking = cut = 0
        gpus = self._gpus(picked)
        if gpus and plan.nvlink is not Affinity.NONE:
            islands, links = layout.islands(gpus)
            if gpus & (gpus - 1) and not layout.even:
                lacking = 4095 - min(4095, links)
        if gpus & layout.linked:
            cut = layout.cut(gpus, self.masks.passthrough & layout.linked & ~used)
        topology = (max(0, islands - 1), max(0, numa.bit_count() - 1), max(0, roots.bit_count() + own - 1), lacking)
        stranded = (self._broken(picked, used) + extra.bit_count(), cut, loss)
        return pack(topology, stranded, self.fill, plan.strategy)

    def _broken(self, picked: tuple[int, ...], used: int) -> int:
        """Count what others can no longer have because of a neighbour in its group."""
        if self.plan.whole or not used & self.layout.grouped:
            return 0
        found = 0
        for part, mask in zip(self.plan.parts, picked, strict=True):
            if part.mode is Mode.PASSTHROUGH:
                for at in bits(mask & self.layout.grouped):
                    found |= self.layout.fellows[at]
        return (found & self.masks.passthrough & ~used).bit_count()

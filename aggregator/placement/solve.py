"""The best choice of devices on one node: exact for what can be asked of a node, by counting classes.

Devices that nothing tells apart (`classes`) are interchangeable, so a choice is how many of each class serve each need.
Each need's choices are reduced to the best for each outcome that others could notice, and joined need by need; devices
are picked last. Required nearness on NUMA nodes and roots is solved place by place.
"""

from itertools import islice
from typing import Final, NamedTuple

from aggregator.ledger.words import Mode
from aggregator.placement.classes import classes_of, counts
from aggregator.placement.layout import bits
from aggregator.placement.plan import KEPT, Plan
from aggregator.placement.rank import WIDTH, pack
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


class Solver:
    """Solves a plan for any occupancy of its layout, and remembers."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._known: dict[Masks, Solution | Failure] = {}
        self._promises: dict[Masks, int] = {}
        full = (1 << plan.layout.size) - 1
        self.best = self.solve(Masks(full, full, 0))
        self.hopeless = isinstance(self.best, Failure) and (
            not plan.whole or isinstance(solve(plan.loosened(), Masks(full, full, 0)), Failure)
        )
        """Whether no node that is built like this ever can; a whole group may be smaller while some of it is away."""
        """On a node that is all free. A Failure: no node that is built like this ever can."""

    def solve(self, masks: Masks) -> Solution | Failure:
        """Give the best choice, or why there is none."""
        key = self.key(masks)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            known = self._known[key] = solve(self.plan, key)
        return known

    def key(self, masks: Masks) -> Masks:
        """Give what of the masks makes a difference to the plan."""
        plan = self.plan
        relevant = plan.relevant
        return Masks(
            masks.passthrough & relevant,
            masks.driver & relevant if plan.driven else 0,
            masks.out & relevant if plan.whole else 0,
        )

    def promise(self, masks: Masks) -> int:
        """Give a rank that no choice under these masks is better than; below 0: so many devices are missing. Cheap."""
        try:
            return self._promises[masks]
        except KeyError:
            if len(self._promises) >= KEPT:
                self._promises.clear()
            found = self._promises[masks] = -self.count_missing(masks) or self._bound(masks)
            return found

    def _bound(self, masks: Masks) -> int:
        plan = self.plan
        if plan.whole or isinstance(self.best, Failure):
            return 0
        topology = self.best.rank >> 4 * WIDTH << 4 * WIDTH
        return topology | pack((0, 0, 0, 0), (0, 0, 0), fill_of(plan, masks), plan.strategy)

    def count_missing(self, masks: Masks) -> int:
        """Give how many devices a node is short of, by number alone."""
        return sum(
            max(0, part.number - (part.candidates & _of(masks, part.mode)).bit_count()) for part in self.plan.parts
        )


def _of(masks: Masks, mode: Mode) -> int:
    return masks.passthrough if mode is Mode.PASSTHROUGH else masks.driver


def fill_of(plan: Plan, masks: Masks) -> int:
    """Give how many fitting devices a node has left after the choice, without what whole groups take."""
    union = 0
    for part in plan.parts:
        union |= part.candidates & _of(masks, part.mode)
    return max(0, union.bit_count() - plan.count)


def solve(plan: Plan, masks: Masks) -> Solution | Failure:
    """Give the best choice of a plan under masks."""
    available = []
    missing = 0
    for part in plan.parts:
        mask = part.candidates & _of(masks, part.mode)
        if plan.whole and part.mode is Mode.PASSTHROUGH:
            mask = _whole(plan, masks, mask)
        missing += max(0, part.number - mask.bit_count())
        available.append(mask)
    if missing:
        return Failure("count", missing)
    best: Solution | None = None
    enough = False
    for near in _places(plan, available):
        if all(mask.bit_count() >= part.number for mask, part in zip(near, plan.parts, strict=True)):
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


Counts = tuple[tuple[int, int], ...]
"""(class, how many of it)."""
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
        self.coupled = any(one.coupled for one in self.classes)

    def best(self) -> Solution | None:
        """Give the best choice, None when there is none."""
        outcomes: dict[Key, tuple[int, tuple[Counts, ...]]] = {(0, 0, ()): (0, ())}
        for need, part in enumerate(self.plan.parts):
            outcomes = self._join(outcomes, self._choices(need, part.number))
        best: Solution | None = None
        for _, counted in sorted(outcomes.values()):
            picked = self._pick(counted)
            if picked is None:
                continue
            rank, extra = self.judge(picked)
            if rank is not None and (best is None or rank < best.rank):
                best = Solution(rank, picked, extra)
        return best

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
        return not (self.plan.passed and self.plan.driven) and not any(part.profile for part in self.plan.parts)

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

    def judge(self, picked: tuple[int, ...]) -> tuple[int | None, int]:
        """Give the rank of a choice of seats, None when it is none; and what whole groups add to it."""
        extra = self._extra(picked)
        if not self._may(picked, extra):
            return None, extra
        return self._rank(picked, extra), extra

    def _may(self, picked: tuple[int, ...], extra: int) -> bool:
        layout, plan = self.layout, self.plan
        passed, driven = extra, 0
        for part, mask in zip(plan.parts, picked, strict=True):
            if part.mode is Mode.PASSTHROUGH:
                passed |= mask
            else:
                driven |= mask
        used = passed | driven
        if used & layout.familied and any(layout.family[at] & used for at in bits(used & layout.familied)):
            return False
        if driven and any(layout.fellows[at] & driven for at in bits(passed & layout.grouped)):
            return False
        fabric = passed & layout.in_fabric
        if fabric and fabric not in layout.fabric:
            return False
        if any((used & limit.seats).bit_count() > limit.left for limit in plan.limits):
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

    def _rank(self, picked: tuple[int, ...], extra: int) -> int:
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
        stranded = (self._broken(picked, used) + extra.bit_count(), cut, self._mig_loss(picked))
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

    def _mig_loss(self, picked: tuple[int, ...]) -> int:
        return sum(
            part.starts[at].loss
            for part, mask in zip(self.plan.parts, picked, strict=True)
            if part.starts
            for at in bits(mask)
        )

"""A plan with what it remembers: solved once for each way in which a node may be occupied."""

from collections.abc import Sequence

from aggregator.ledger.words import Mode
from aggregator.placement.plan import KEPT, Plan
from aggregator.placement.rank import WIDTH, pack, pack_fill
from aggregator.placement.solve import Failure, Solution, fill_of, solve
from aggregator.placement.summary import Masks


class Solver:
    """Solves a plan for any occupancy of its layout, and remembers."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._known: dict[Masks, Solution | Failure] = {}
        self._promises: dict[Masks, int] = {}
        self._bounds: dict[Masks, int] = {}
        self._wholes = [(part.candidates, part.number, part.mode is Mode.PASSTHROUGH) for part in plan.parts]
        full = (1 << plan.layout.size) - 1
        self.best = self.solve(Masks(full, full, 0, full))
        self.hopeless = isinstance(self.best, Failure) and (
            not plan.whole or isinstance(solve(plan.loosened(), Masks(full, full, 0, full)), Failure)
        )
        """Whether no node that is built like this ever can; a whole group may be smaller while some of it is away."""
        """On a node that is all free. A Failure: no node that is built like this ever can."""
        self._bounded = isinstance(self.best, Solution) and not plan.whole
        self._topology = self.best.rank >> 4 * WIDTH << 4 * WIDTH if isinstance(self.best, Solution) else 0

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
            masks.divide & plan.divisible,
            masks.slices & plan.slices,
        )

    def promise(self, masks: Masks) -> int:
        """Give a rank that no choice under these masks is better than; below 0: so many devices are missing.

        The cheapest there is, for it is asked of every node.
        """
        try:
            return self._promises[masks]
        except KeyError:
            if len(self._promises) >= KEPT:
                self._promises.clear()
            found = self._promises[masks] = self._promise(masks)
            return found

    def _promise(self, masks: Masks) -> int:
        plan = self.plan
        missing = union = 0
        if plan.divisions:
            missing, left = self.count_missing(masks), fill_of(plan, masks)
        else:
            for candidates, number, passed in self._wholes:
                there = candidates & (masks.passthrough if passed else masks.driver)
                union |= there
                missing += max(0, number - there.bit_count())
            left = max(0, union.bit_count() - plan.count)
        if missing:
            return -missing
        return self._topology | pack_fill(left, plan.strategy) if self._bounded else 0

    def bound(self, masks: Masks) -> int:
        """Give what `promise` gives, by the NUMA nodes and roots that are needed at least: closer, and not as cheap."""
        known = self._bounds.get(masks)
        if known is None:
            if len(self._bounds) >= KEPT:
                self._bounds.clear()
            known = self._bounds[masks] = self._bound(masks)
        return known

    def _bound(self, masks: Masks) -> int:
        plan, promise = self.plan, self.promise(masks)
        if promise <= 0 or not (plan.numa_places or plan.root_places):
            return promise  # some devices are missing, or nothing is known that bounds it
        available = [plan.available(need, masks) for need in range(len(plan.parts))]
        numa = self._fewest(masks, available, plan.numa_places)
        roots = self._fewest(masks, available, plan.root_places)
        nearest = pack((0, numa, roots, 0), (0, 0, 0), 0, plan.strategy)
        rest = (1 << 4 * WIDTH) - 1
        return max(promise & ~rest, nearest & ~rest) | promise & rest

    def _fewest(self, masks: Masks, available: list[int], places: Sequence[int]) -> int:
        """Give in how many places beyond one the devices must lie at least."""
        if len(places) < 2:
            return 0
        plan, most = self.plan, 1
        together = [True] * len(places)
        for need, mask in enumerate(available):
            number = plan.parts[need].number
            if plan.divisions:
                room = [plan.room(need, masks, mask & place) for place in places]
            else:
                room = [(mask & place).bit_count() for place in places]
            for at, one in enumerate(room):
                if one < number:
                    together[at] = False
            needed = left = 0
            for one in sorted(room, reverse=True):
                if left >= number:
                    break
                needed, left = needed + 1, left + one
            most = max(most, needed)
        return max(most - 1, 0 if any(together) else 1)

    def count_missing(self, masks: Masks) -> int:
        """Give how many devices a node is short of, by number alone."""
        plan = self.plan
        return sum(
            max(0, part.number - plan.room(need, masks, plan.available(need, masks)))
            for need, part in enumerate(plan.parts)
        )

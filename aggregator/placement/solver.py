"""A plan with what it remembers: solved once for each way in which a node may be occupied."""

from aggregator.placement.plan import KEPT, Plan
from aggregator.placement.rank import WIDTH, pack
from aggregator.placement.solve import Failure, Solution, fill_of, solve
from aggregator.placement.summary import Masks


class Solver:
    """Solves a plan for any occupancy of its layout, and remembers."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._known: dict[Masks, Solution | Failure] = {}
        self._promises: dict[Masks, int] = {}
        full = (1 << plan.layout.size) - 1
        self.best = self.solve(Masks(full, full, 0, full))
        self.hopeless = isinstance(self.best, Failure) and (
            not plan.whole or isinstance(solve(plan.loosened(), Masks(full, full, 0, full)), Failure)
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
            masks.divide & plan.divisible,
            masks.slices & plan.slices,
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
        plan = self.plan
        return sum(
            max(0, part.number - plan.room(need, masks, plan.available(need, masks)))
            for need, part in enumerate(plan.parts)
        )

"""Several instances of a gang on one node."""

from itertools import islice
from typing import Final

from aggregator.ledger.words import Mode
from aggregator.placement.classes import counts
from aggregator.placement.layout import bits
from aggregator.placement.plan import Plan
from aggregator.placement.solve import Search, Solution
from aggregator.placement.solver import Solver
from aggregator.placement.summary import Masks
from schemas.mig import SLICES

TRIES: Final = 2_000
"""Occupancies that are looked at for one more instance on a node, when the best first choice leaves no room for it."""


def after(plan: Plan, masks: Masks, taken: Solution) -> Masks:
    """Give what the same claim may still be given on a node."""
    layout = plan.layout
    passed, driven, divided = taken.extra, 0, 0
    for part, mask in zip(plan.parts, taken.seats, strict=True):
        if part.profile:
            divided |= mask
        elif part.mode is Mode.PASSTHROUGH:
            passed |= mask
        else:
            driven |= mask
    used = gone = passed | driven
    gone |= divided
    for at in bits(driven):
        divided |= layout.shared[at]
    for at in bits(used & layout.familied):
        gone |= layout.family[at]
    beside_passed = beside_driven = 0
    for at in bits(passed & layout.grouped):
        beside_passed |= layout.fellows[at]
    for at in bits((driven | divided) & layout.grouped):
        beside_driven |= layout.fellows[at]
    passthrough = masks.passthrough & ~gone & ~beside_driven
    out = masks.out
    if plan.whole:
        out |= used  # a group that is the claim's own is whole without what it has already
    slices = masks.slices
    for one in taken.made:
        slices |= one.place.mask << SLICES * one.seat
    divide = masks.divide & ~used & ~beside_passed
    return Masks(passthrough, masks.driver & ~gone & ~beside_passed, out, divide, slices)


def stack(solver: Solver, masks: Masks, most: int) -> list[Solution]:
    """Give as many instances as fit, at most `most`, each the best after those before it where that costs none."""
    greedy = _greedy(solver, masks, most)
    plan = solver.plan
    could = min(
        plan.room(need, masks, plan.available(need, masks)) // part.number for need, part in enumerate(plan.parts)
    )
    if len(greedy) >= min(most, could):
        return greedy
    searched = _Deeper(solver).most(solver.key(masks), min(most, could))
    return searched if len(searched) > len(greedy) else greedy


def _greedy(solver: Solver, masks: Masks, most: int) -> list[Solution]:
    found: list[Solution] = []
    while len(found) < most:
        one = solver.solve(masks)
        if not isinstance(one, Solution):
            break
        found.append(one)
        masks = after(solver.plan, masks, one)
    return found


class _Deeper:
    """Looks for the most instances, whatever the choice of each."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._known: dict[Masks, list[Solution]] = {}
        self._tries = TRIES

    def most(self, masks: Masks, wanted: int) -> list[Solution]:
        known = self._known.get(masks)
        if known is not None:
            return known
        best: list[Solution] = []
        plan = self._solver.plan
        for one in self._choices(masks):
            if self._tries <= 0:
                break
            self._tries -= 1
            found = [one, *(self.most(after(plan, masks, one), wanted - 1) if wanted > 1 else ())]
            if len(found) > len(best):
                best = found
            if len(best) >= wanted:
                break
        self._known[masks] = best
        return best

    def _choices(self, masks: Masks) -> list[Solution]:
        """Give the choices for one instance, the best first: of one need all that differ, of several the best."""
        plan = self._solver.plan
        best = self._solver.solve(masks)
        if not isinstance(best, Solution):
            return []
        if len(plan.parts) > 1 or plan.divisions:
            return [best]
        part = plan.parts[0]
        search = Search(plan, masks, [plan.available(0, masks)])
        found = {best.seats: best}
        for vector in islice(counts(search.classes, part.number), TRIES):
            seats = 0
            for one, number in zip(search.classes, vector, strict=True):
                seats |= one.first[number]
            rank, extra = search.judge((seats,))
            if rank is not None and search.near(seats):
                found.setdefault((seats,), Solution(rank, (seats,), extra))
        return sorted(found.values())

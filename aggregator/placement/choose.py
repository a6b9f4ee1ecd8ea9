"""The best nodes for a request: nodes in equal shape are solved once, the most promising first.

Ties go to the node whose id comes first, so that equal states give equal answers. Amounts and the node's selector are
checked node by node, on those that would be taken.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace, merge
from operator import itemgetter
from typing import Final, NamedTuple

from aggregator.ledger.asks import node_closed
from aggregator.ledger.model import Node
from aggregator.ledger.state import State
from aggregator.placement.index import Index
from aggregator.placement.layout import Layout, bits
from aggregator.placement.plan import Plan, make_plan
from aggregator.placement.request import Isolation, Resolved, Strategy, predicate
from aggregator.placement.solve import Failure, Solution
from aggregator.placement.solver import Solver
from aggregator.placement.stacking import stack
from aggregator.placement.summary import Masks, Summary

MOST_ON_NODE: Final = 64
"""Instances on one node that are counted, when nothing bounds them."""


class Chosen(NamedTuple):
    """One instance on a node."""

    node: str
    plan: Plan
    solution: Solution


class Group(NamedTuple):
    """Nodes that a plan sees alike."""

    solver: Solver
    masks: Masks
    nodes: list[list[str]]
    """Sorted lists of ids."""


class Solvers:
    """Plans that were made, with what they remember; the oldest go first."""

    MOST = 256

    def __init__(self) -> None:
        self._known: dict[object, Solver] = {}

    def get(
        self, state: State, layout: Layout, resolved: Resolved, filters: tuple[int | None, ...], left: dict[str, int]
    ) -> Solver:
        """Give the solver of a request on a layout."""
        limits = tuple((name, number, state.variants.get(name)) for name, number in sorted(left.items()))
        key = (layout, resolved.key, filters, limits)
        found = self._known.pop(key, None)
        if found is None:
            found = Solver(make_plan(state, layout, resolved, filters, left))
            if len(self._known) >= self.MOST:
                del self._known[next(iter(self._known))]
        self._known[key] = found
        return found


class Chooser:
    """One request against one index."""

    def __init__(self, index: Index, solvers: Solvers, resolved: Resolved, *, quotas: bool = True) -> None:
        """Without `quotas`, as if the tenant had none."""
        self.index = index
        self.state = index.state
        self.solvers = solvers
        self.resolved = resolved
        self.request = resolved.request
        self.left = quota_left(index.state, resolved) if quotas else {}
        """Variant -> how many of it the tenant may still have."""
        self._promised: list[tuple[int, Group]] | None = None
        self.odd = self._odd()
        """Nodes where this tenant is given more than others, or that it puts up with."""

    def _odd(self) -> set[str]:
        found = set(self.index.special.get(self.request.tenant, ()))
        if self.request.tolerations:
            rules = set(self.request.tolerations)
            found |= {name for name in self.index.marked if self.index.nodes[name].taints & rules}
        return found

    # --- one instance -------------------------------------------------------------------------------------------------

    def choose(self) -> list[Chosen] | None:
        """Give where all instances go, None when they do not fit; fewer than all are of no use."""
        if not self.resolved.needs:
            return self._amounts_alone()
        if self.request.instances > 1:
            return self._gang()
        best: Chosen | None = None
        for bound, first, group in self._promising():
            if best is not None and (bound, first) > (best.solution.rank, best.node):
                break
            found = group.solver.solve(group.masks)
            if isinstance(found, Failure) or (best is not None and found.rank > best.solution.rank):
                continue
            name = next((name for name in _in_order(group) if self.takes(name)), None)
            if name is not None and (best is None or (found.rank, name) < (best.solution.rank, best.node)):
                best = Chosen(name, group.solver.plan, found)
        return None if best is None else [best]

    def _promising(self) -> Iterator[tuple[int, str, Group]]:
        """Yield groups behind a rank that none is better than, and the id of their first node: the lowest first.

        A closer bound is looked for only where the cheap one does not settle it.
        """
        waiting = [
            (promise, group.nodes[0][0] if len(group.nodes) == 1 else min(one[0] for one in group.nodes), at, group)
            for at, (promise, group) in enumerate(self.promised())
            if promise >= 0 and not group.solver.hopeless
        ]
        heapify(waiting)
        while waiting:
            promise, first, at, group = waiting[0]
            bound = group.solver.bound(group.masks)
            if bound > promise:
                heapreplace(waiting, (bound, first, at, group))
            else:
                heappop(waiting)
                yield promise, first, group

    def groups(self) -> Iterator[Group]:
        """Yield all nodes, those together that are seen alike; without those that never can."""
        return (group for _, group in self.promised())

    def promised(self) -> list[tuple[int, Group]]:
        """Give each group behind its promise (`Solver.promise`)."""
        if self._promised is None:
            self._promised = [(group.solver.promise(group.masks), group) for group in self._grouped()]
        return self._promised

    def _grouped(self) -> Iterator[Group]:
        filtered = any(need.where for need in self.resolved.needs)
        for layout, shapes in self.index.shapes.items():
            if filtered:
                yield from self._filtered(layout)
                continue
            solver = self.solver(layout)
            if solver.hopeless:
                continue
            alike: dict[Masks, list[list[str]]] = {}
            key = solver.key
            for masks, nodes in shapes.items():
                chosen = [name for name in nodes if name not in self.odd] if self.odd else nodes
                if chosen:
                    alike.setdefault(key(masks), []).append(chosen)
            for masks, lists in alike.items():
                yield Group(solver, masks, lists)
        if not filtered:
            for name in sorted(self.odd):
                summary = self.index.nodes[name]
                yield Group(self.solver(summary.layout), self.masks(summary), [[name]])

    def _filtered(self, layout: Layout) -> Iterator[Group]:
        solvers: dict[tuple[int | None, ...], Solver] = {}
        alike: dict[tuple[tuple[int | None, ...], Masks], list[str]] = {}
        for summary in self.index.in_layout(layout):
            filters = self.filters(summary)
            solver = solvers.get(filters)
            if solver is None:
                solver = solvers[filters] = self.solver_of(summary)
            alike.setdefault((filters, solver.key(self.masks(summary))), []).append(summary.node)
        for (filters, masks), nodes in alike.items():
            yield Group(solvers[filters], masks, [sorted(nodes)])

    def solver(self, layout: Layout) -> Solver:
        """Give the solver of a layout, for needs without expressions."""
        return self.solvers.get(self.state, layout, self.resolved, (None,) * len(self.resolved.needs), self.left)

    def solver_of(self, summary: Summary) -> Solver:
        """Give the solver of a node."""
        return self.solvers.get(self.state, summary.layout, self.resolved, self.filters(summary), self.left)

    def masks(self, summary: Summary) -> Masks:
        """Give what of a node this tenant may be given."""
        if summary.node in self.odd:
            return summary.masks_for(self.state, self.request.tenant, self.request.tolerations)
        return summary.masks

    def filters(self, summary: Summary) -> tuple[int | None, ...]:
        """Give for each need the seats that its expression fits."""
        return tuple(self._fits(summary, need.where) if need.where else None for need in self.resolved.needs)

    def _fits(self, summary: Summary, text: str) -> int:
        known = summary.filters.get(text)
        if known is None:
            fits = predicate(text, "device")
            known = sum(1 << at for at, device in enumerate(summary.devices) if fits(device) is True)
            summary.filters[text] = known
        return known

    # --- nodes --------------------------------------------------------------------------------------------------------

    def takes(self, name: str, instances: int = 1) -> bool:
        """Tell whether a node is selected, and has the amounts for so many instances."""
        return self.selected(name) and (not self.resolved.amounts or self.room(name) >= instances)

    def selected(self, name: str) -> bool:
        """Tell whether the node fits the request's selector."""
        text = self.request.where
        if not text:
            return True
        summary = self.index.nodes[name]
        known = summary.selected.get(text)
        if known is None:
            known = predicate(text, "node")(self.state.nodes[name]) is True
            summary.selected[text] = known
        return known

    def room(self, name: str) -> int:
        """Give for how many instances a node has the amounts."""
        return min(self.amount_room(name, amount) for amount in self.resolved.amounts)

    def amount_room(self, name: str, amount: str) -> int:
        """Give for how many instances a node has one amount; 0 when it is not known what there is."""
        node = self.state.nodes[name]
        capacity = self.state.capacity(node, amount)
        if capacity is None:
            return 0
        return max(0, capacity - node.used.get(amount, 0)) // self.resolved.amounts[amount]

    # --- gangs, and amounts alone -------------------------------------------------------------------------------------

    def _gang(self) -> list[Chosen] | None:
        """Place instance by instance: nodes in the order of their rank; on each as many as may be, or turn about."""
        ranked = []
        for group in self.groups():
            found = group.solver.solve(group.masks)
            if isinstance(found, Solution):
                ranked.append((found.rank, group))
        ranked.sort(key=itemgetter(0))
        stacks: list[list[Chosen]] = []
        total = 0
        turns = self.request.strategy is Strategy.SPREAD
        for rank, same in _by_rank(ranked):
            del rank
            for name, group in merge(*(_named(group) for group in same), key=itemgetter(0)):
                most = min(self.request.per_node, self.room(name)) if self.resolved.amounts else self.request.per_node
                if not turns and not self.left:
                    most = min(most, self.request.instances - total)
                if most < 1 or not self.selected(name):
                    continue
                stacks.append([Chosen(name, group.solver.plan, one) for one in stack(group.solver, group.masks, most)])
                total += len(stacks[-1])
                if (
                    total >= self.request.instances
                    and not self.left
                    and not (turns and len(stacks) < self.request.instances)
                ):
                    return self._limited(stacks, turns=turns)
        return self._limited(stacks, turns=turns) if total >= self.request.instances else None

    def capacity(self) -> int:
        """Give how many instances there is room for; at most `per_node` on a node where that is more than one."""
        most = self.request.per_node if self.request.per_node > 1 else MOST_ON_NODE
        if not self.resolved.needs:
            open_ = [name for name, summary in self.index.nodes.items() if not summary.closed and self.selected(name)]
            return sum(min(most, self.room(name)) for name in open_)
        found = 0
        for group in self.groups():
            fit = len(stack(group.solver, group.masks, most))
            for name in _in_order(group) if fit else ():
                if self.selected(name):
                    found += min(fit, self.room(name)) if self.resolved.amounts else fit
        return found

    def _limited(self, stacks: list[list[Chosen]], *, turns: bool) -> list[Chosen] | None:
        """Take as many as are asked for, within what is left of quotas of variants."""
        ordered = (
            [one[turn] for turn in range(self.request.per_node) for one in stacks if turn < len(one)]
            if turns
            else [chosen for one in stacks for chosen in one]
        )
        if not self.left:
            return ordered[: self.request.instances]
        left = dict(self.left)
        found: list[Chosen] = []
        for chosen in ordered:
            used = chosen.solution.used
            counted = {limit.variant: (limit.seats & used).bit_count() for limit in chosen.plan.limits}
            if all(left[variant] >= number for variant, number in counted.items()):
                found.append(chosen)
                for variant, number in counted.items():
                    left[variant] -= number
        return found[: self.request.instances] if len(found) >= self.request.instances else None

    def _amounts_alone(self) -> list[Chosen] | None:
        """Place a request without devices: by how much of the scarcest amount is left."""
        state, request = self.state, self.request
        offers = []
        for name, summary in self.index.nodes.items():
            node = state.nodes[name]
            if (summary.closed and node_closed(state, node, request.tolerations)) or not self.selected(name):
                continue
            left = self._left_permille(node)
            if left >= 0:
                offers.append((-left if request.strategy is Strategy.SPREAD else left, name))
        offers.sort()
        found: list[Chosen] = []
        none = Solution(0, (), 0)
        for _, name in offers:
            plan = self.solver(self.index.nodes[name].layout).plan
            found += [Chosen(name, plan, none)] * min(request.per_node, self.room(name))
            if len(found) >= request.instances:
                return found[: request.instances]
        return None

    def _left_permille(self, node: Node) -> int:
        """Give how much of the scarcest amount is left after one instance, in thousandths; below 0: not enough."""
        least = 1000
        for amount, number in self.resolved.amounts.items():
            capacity = self.state.capacity(node, amount)
            left = -1 if capacity is None else capacity - node.used.get(amount, 0) - number
            if capacity is None or left < 0:
                return -1
            least = min(least, 1000 * left // max(1, capacity))
        return least


def quota_left(state: State, resolved: Resolved) -> dict[str, int]:
    """Give what is left of quotas that a choice of devices could exceed: of each variant, and of all devices ("")."""
    quota = state.quota(resolved.request.tenant)
    if quota is None or not resolved.needs:
        return {}
    tenant = state.tenants.get(resolved.request.tenant)
    found = {}
    for name, limit in quota.limits.items():
        kind, _, variant = name.partition(":")
        if kind == "devices" and variant:
            held = sum(
                number
                for profiles, number in (tenant.profiles if tenant else {}).items()
                if state.is_variant(profiles, variant)
            )
            found[variant] = max(0, limit - held)
        elif name == "devices":
            found[""] = max(0, limit - (tenant.used.get("devices", 0) if tenant else 0))
    whole = resolved.request.isolation is Isolation.WHOLE_GROUP  # which may add to what is asked for
    return {variant: left for variant, left in found.items() if whole or (variant and left < resolved.devices)}


def _in_order(group: Group) -> Iterator[str]:
    return merge(*group.nodes) if len(group.nodes) > 1 else iter(group.nodes[0])


def _named(group: Group) -> Iterator[tuple[str, Group]]:
    return ((name, group) for name in _in_order(group))


def _by_rank(ranked: list[tuple[int, Group]]) -> Iterator[tuple[int, list[Group]]]:
    at = 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        yield ranked[at][0], [group for _, group in ranked[at:end]]
        at = end


def seats(chosen: Chosen) -> Iterator[int]:
    """Yield the seats of an instance, need by need, then what whole groups add."""
    for mask in chosen.solution.seats:
        yield from bits(mask)
    yield from bits(chosen.solution.extra)

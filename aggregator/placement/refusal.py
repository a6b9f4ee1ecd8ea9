"""Why a request was refused: what each condition removed, and the node that came nearest."""

from typing import Final

import msgspec

from aggregator.ledger.asks import Ask, Objection, over_quota
from aggregator.ledger.state import State
from aggregator.placement.choose import Chooser, Group
from aggregator.placement.layout import bits
from aggregator.placement.never import never
from aggregator.placement.plan import Plan
from aggregator.placement.request import Resolved
from aggregator.placement.solve import Failure, Solution
from aggregator.placement.solver import Solver
from aggregator.placement.summary import DIVIDED, RELATION, Masks, Summary

DEVICES: Final = "devices"
NODES: Final = "nodes"
_FIRST: Final = ("count", "affinity", "fit", "node.selector")
_ORDER: Final = ("lifecycle", "reach", "taint", "node", RELATION, DIVIDED)


class Condition(msgspec.Struct, frozen=True):
    """What one condition removed, of what those before it had left."""

    condition: str
    """`matching` (what there is of what is asked for), `node.selector`, `lifecycle.<state>`, `reach.<state>`,
    `taint.<rule>`, `node.<why>`, `relation`, `divided`; of the nodes then `count`, `affinity`, `fit`, `node.selector`,
    `amount.<name>`; at last `quota.<name>`."""
    of: str
    """`devices` or `nodes`."""
    removed: int
    left: int


class Refusal(msgspec.Struct, frozen=True):
    """Why there is no place."""

    message: str
    conditions: list[Condition]
    nearest: str = ""
    """The node that is short of the least; "" when none, even all free, could."""
    missing: int = 0
    """Devices that it is short of, by number."""
    quota: list[Objection] = []
    """Limits of the tenant that the request would exceed, wherever it went."""
    nearest_name: str = ""
    """Host name of the nearest node; "" where it has none."""


class Nearest(msgspec.Struct, frozen=True, order=True):
    """How far a node is from being able to: devices, then everything else that is wrong with it."""

    unsure: bool
    """Whether it may be that it never can: then every other node comes first."""
    missing: int
    others: int
    node: str


def quota_objections(state: State, resolved: Resolved) -> list[Objection]:
    """Give the limits that a request exceeds whatever is chosen for it."""
    request = resolved.request
    amounts = {amount: number * request.instances for amount, number in resolved.amounts.items()}
    ask = Ask(request.tenant, request.consumer, [], {"?": amounts} if amounts else {})
    return list(over_quota(state, ask, unchosen=resolved.devices))


def refuse(limited: Chooser) -> Refusal:
    """Say why a request that found no place found none. Quotas come last: what else is wrong is told without them."""
    resolved = limited.resolved
    chooser = Chooser(limited.index, limited.solvers, resolved, quotas=False) if limited.left else limited
    conditions = _devices(chooser) if resolved.needs else []
    near, nodes = _nodes(chooser)
    conditions += nodes
    quota = quota_objections(chooser.state, resolved)
    if not quota and limited is not chooser and chooser.choose() is not None:
        quota = [_left(resolved, variant, left) for variant, left in limited.left.items()]
    left = nodes[-1].left if nodes else len(chooser.index.nodes)
    conditions += [Condition(objection.reason, NODES, left, 0) for objection in quota]
    if near is None:
        message = _message(resolved, conditions, near, quota, "") if quota else never(chooser)
        return Refusal(message, conditions, quota=quota)
    node = chooser.state.nodes[near.node]
    message = _message(resolved, conditions, near, quota, chooser.state.called(node))
    return Refusal(message, conditions, near.node, near.missing, quota, node.name)


def _left(resolved: Resolved, variant: str, left: int) -> Objection:
    of = f"devices of {variant}" if variant else "devices"
    message = f"tenant {resolved.request.tenant} may have {left} more {of}, too few for any choice"
    return Objection(f"quota.devices:{variant}".removesuffix(":"), message)


def _message(
    resolved: Resolved, conditions: list[Condition], near: Nearest | None, quota: list[Objection], called: str
) -> str:
    """Say it in a line; `called` names the nearest node for people."""
    if quota:
        return "; ".join(objection.message for objection in quota)
    assert near is not None
    told = ", ".join(
        f"{one.condition} {one.removed}" for one in conditions if one.removed and one.condition != "matching"
    )
    instances = f"{resolved.request.instances} times " if resolved.request.instances > 1 else ""
    short = f", which is short of {near.missing}" if near.missing else ""
    return f"no place for this {instances}now: removed by {told or 'nothing'}; nearest is node {called}{short}"


# --- devices ----------------------------------------------------------------------------------------------------------


def _devices(chooser: Chooser) -> list[Condition]:
    matching, removed = _counted(chooser)
    left = matching
    conditions = [Condition("matching", DEVICES, 0, matching)]
    for word in sorted(removed, key=_place):
        if removed[word]:
            left -= removed[word]
            conditions.append(Condition(word, DEVICES, removed[word], left))
    return conditions


def _place(word: str) -> tuple[int, str]:
    kind = word.partition(".")[0]
    if word == "node.selector":
        return -1, word
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER)), word


def _counted(chooser: Chooser) -> tuple[int, dict[str, int]]:
    """Count what there is of what is asked for, and what each condition removes of it."""
    if chooser.request.where or any(need.where for need in chooser.resolved.needs):
        return _walked(chooser)
    matching = 0
    removed: dict[str, int] = {}
    index = chooser.index
    for layout, words in index.counts.items():
        plan = chooser.solver(layout).plan
        matching += plan.candidates.bit_count() * sum(len(nodes) for nodes in index.shapes[layout].values())
        for word, numbers in words.items():
            removed[word] = removed.get(word, 0) + sum(numbers[at] for at in bits(_removable(plan, word)))
    for name in chooser.odd:
        summary = index.nodes[name]
        plan = chooser.solver(summary.layout).plan
        for word, mask in summary.reasons.items():
            removed[word] -= (mask & _removable(plan, word)).bit_count()
        _add(removed, _reasons(chooser, summary), plan)
    return matching, removed


def _walked(chooser: Chooser) -> tuple[int, dict[str, int]]:
    matching = 0
    removed: dict[str, int] = {}
    for summary in chooser.index.nodes.values():
        plan = chooser.solver_of(summary).plan
        matching += plan.candidates.bit_count()
        if not chooser.selected(summary.node):
            removed["node.selector"] = removed.get("node.selector", 0) + plan.candidates.bit_count()
            continue
        _add(removed, _reasons(chooser, summary), plan)
    return matching, removed


def _reasons(chooser: Chooser, summary: Summary) -> dict[str, int]:
    if summary.node in chooser.odd:
        return summary.reasons_for(chooser.state, chooser.request.tenant, chooser.request.tolerations)
    return summary.reasons


def _add(removed: dict[str, int], reasons: dict[str, int], plan: Plan) -> None:
    for word, mask in reasons.items():
        removed[word] = removed.get(word, 0) + (mask & _removable(plan, word)).bit_count()


def _removable(plan: Plan, word: str) -> int:
    """Give the candidates that a condition could remove: of a divided GPU more partitions can be made."""
    return plan.candidates & ~plan.divisible if word == DIVIDED else plan.candidates


# --- nodes ------------------------------------------------------------------------------------------------------------


def _nodes(chooser: Chooser) -> tuple[Nearest | None, list[Condition]]:
    """Count the nodes that each condition of a whole node removes, and find the one that comes nearest."""
    removed: dict[str, int] = {}
    total = len(chooser.index.nodes)
    if chooser.resolved.needs:
        near, seen = _by_groups(chooser, removed)
        removed["count"] = removed.get("count", 0) + total - seen  # the others are built such that they never can
    else:
        _by_amounts(chooser, list(chooser.index.nodes), removed)
        near = _nearest_by_amounts(chooser)
    near = _closed(chooser, near)
    left, conditions = total, []
    for word in (*_FIRST, *sorted(removed.keys() - {*_FIRST})):
        if removed.get(word):
            left -= removed[word]
            conditions.append(Condition(word, NODES, removed[word], left))
    return near, conditions


def _by_groups(chooser: Chooser, removed: dict[str, int]) -> tuple[Nearest | None, int]:
    """Add what removes each node that could be built for this; give the nearest one, and how many such nodes are."""
    near: Nearest | None = None
    seen = short = 0
    for promise, group in chooser.promised():
        nodes = group.nodes
        number = len(nodes[0]) if len(nodes) == 1 else sum(map(len, nodes))
        seen += number
        if promise < 0:
            short += number
            found: Solution | Failure = Failure("count", -promise)
        else:
            found = group.solver.solve(group.masks)
            if isinstance(found, Failure):
                removed[found.condition] = removed.get(found.condition, 0) + number
            else:
                for names in nodes:
                    _by_amounts(chooser, names, removed)
        if not group.solver.hopeless and (near is None or -promise <= near.missing or near.unsure):
            near = _nearer(chooser, near, group, found)
    removed["count"] = removed.get("count", 0) + short
    return near, seen


def _by_amounts(chooser: Chooser, names: list[str], removed: dict[str, int]) -> None:
    """Add what removes nodes that have the devices."""
    if chooser.resolved.amounts or chooser.request.where:
        for name in names:
            word = _wrong(chooser, name)
            if word:
                removed[word] = removed.get(word, 0) + 1


def _wrong(chooser: Chooser, name: str) -> str:
    if not chooser.selected(name):
        return "node.selector"
    for amount in chooser.resolved.amounts:
        if chooser.amount_room(name, amount) < 1:
            return f"amount.{amount}"
    if not chooser.resolved.needs:
        return chooser.index.nodes[name].closed
    return ""


def _nearer(chooser: Chooser, near: Nearest | None, group: Group, found: Solution | Failure) -> Nearest | None:
    missing = found.missing if isinstance(found, Failure) else 0
    unfit = isinstance(found, Failure) and not missing  # enough devices, and not such as are asked for
    unsure = isinstance(group.solver.best, Failure)
    if near is not None and (unsure, missing) > (near.unsure, near.missing):
        return near
    for names in group.nodes:
        for name in names:
            if chooser.index.nodes[name].closed or not chooser.selected(name):
                continue
            one = Nearest(unsure, missing, unfit + _short(chooser, name), name)
            near = one if near is None or one < near else near
            if one.others == unfit:
                break  # the rest of the list comes later by name
    return near


def _short(chooser: Chooser, name: str) -> int:
    return sum(chooser.amount_room(name, amount) < 1 for amount in chooser.resolved.amounts)


def _nearest_by_amounts(chooser: Chooser) -> Nearest | None:
    found = [
        Nearest(False, 0, _short(chooser, name), name)
        for name, summary in chooser.index.nodes.items()
        if not summary.closed and chooser.selected(name)
    ]
    return min(found, default=None)


def _closed(chooser: Chooser, near: Nearest | None) -> Nearest | None:
    """Look at nodes that would have enough, were they open."""
    for name in sorted(chooser.index.closed):
        summary = chooser.index.nodes[name]
        if not chooser.selected(name):
            continue
        missing, unsure = 0, False
        if chooser.resolved.needs:
            solver = chooser.solver_of(summary)
            if solver.hopeless:
                continue
            unsure = isinstance(solver.best, Failure)
            missing = _missing_if_open(chooser, solver, summary)
        found = Nearest(unsure, missing, 1 + _short(chooser, name), name)
        near = found if near is None or found < near else near
    return near


def _missing_if_open(chooser: Chooser, solver: Solver, summary: Summary) -> int:
    masks = chooser.masks(summary)
    open_ = summary.reasons.get(summary.closed, 0)
    return solver.count_missing(
        Masks(masks.passthrough | open_, masks.driver | open_, masks.out, masks.divide | open_, masks.slices)
    )

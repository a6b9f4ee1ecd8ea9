"""What would have to change for a refused request to succeed: an irreducible set of blockers.

Every fact that is in the way on the node that came nearest has an edit that would end it. With all of them made the
request succeeds. Then it is tried without each, the hardest to change first, and what is not needed is left out. What
remains is enough, and none of it is superfluous; both are checked on a hypothetical state, by the code that places.

Nobody is sent away for what a clean would do: when the nearest node wants what somebody has, a few nodes are looked at
on which nothing more is needed than cleaning what is nobody's.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from aggregator.ledger import in_use
from aggregator.ledger.asks import Objection, apart, behind, unshown
from aggregator.ledger.model import Device, Node, Taint
from aggregator.ledger.relations import unjoined
from aggregator.ledger.state import State
from aggregator.ledger.words import CONFLICT, Lifecycle, Reach
from aggregator.placement.choose import Chooser, Solvers
from aggregator.placement.edits import (
    AddAmount,
    AnyEdit,
    DeviceSeen,
    FreeDevice,
    Hypothesis,
    NodeSpeaks,
    OpenNode,
    RemoveTaint,
    SetQuota,
)
from aggregator.placement.index import Index
from aggregator.placement.layout import bits
from aggregator.placement.refusal import Refusal, quota_objections
from aggregator.placement.request import Isolation, Resolved
from aggregator.placement.solve import Solution
from aggregator.placement.summary import Layouts

T = TypeVar("T")
_HARD: Final = (
    Lifecycle.RETIRED,
    Lifecycle.FOREIGN,
    Lifecycle.HOST,
    Lifecycle.SUSPECT,
    Lifecycle.ASSIGNED,
    Lifecycle.PROVISIONING,
    Lifecycle.RESERVED,
    Lifecycle.QUARANTINED,
    Lifecycle.CLEANING,
    Lifecycle.DIRTY,
)
"""The hardest to end first."""
_SOMEBODYS: Final = frozenset(
    {
        "device.in_use",
        *(f"lifecycle.{one.value}" for one in _HARD[1:7]),
    }
)
"""Reasons of blockers whose end takes a device from somebody."""
_IDLE: Final = frozenset(f"lifecycle.{one.value}" for one in _HARD[7:])
"""Conditions that a clean ends."""
_TRIES: Final = 3
"""Nodes that are looked at for a milder way; each is as dear as the nearest was."""


class Blocker(msgspec.Struct, frozen=True):
    """A fact that is in the way, and the change that would end it."""

    reason: str
    message: str
    edit: AnyEdit
    node: str = ""
    device: str = ""
    node_name: str = ""
    """The node's host name; "" where it has none, or it is about no node."""


def blockers(index: Index, resolved: Resolved, refusal: Refusal) -> list[Blocker] | None:
    """Give an irreducible set of blockers; None when no change of state would help."""
    chooser = Chooser(index, Solvers(), resolved)
    nodes = _concerned(Chooser(index, Solvers(), resolved, quotas=False), refusal)
    if not nodes:
        return None
    found = _enough(chooser, nodes)
    if found is not None and resolved.request.instances == 1 and any(_takes(one) for one in found):
        for name in _unclean(chooser):
            milder = _enough(chooser, [name])
            if milder is not None and not any(_takes(one) for one in milder):
                found = milder
                break
    return None if found is None else [_named(index.state, blocker) for blocker in found]


def _enough(chooser: Chooser, nodes: Sequence[str]) -> list[Blocker] | None:
    """Give an irreducible set for some nodes; None when no change there would help."""
    found = list(_all(chooser, nodes))
    check = _Check(chooser.state, chooser.resolved, nodes)
    return irreducible(found, check) if check(found) else None


def _takes(blocker: Blocker) -> bool:
    """Tell whether its change takes something from somebody."""
    return blocker.reason in _SOMEBODYS


def _unclean(chooser: Chooser) -> list[str]:
    """Give a few nodes that have enough once what is nobody's is clean, those first where the least is to be cleaned.

    Only counted: whether it fits is for `_enough` to say.
    """
    wanted = sum(1 if need.profile else need.count for need in chooser.resolved.needs)
    if not wanted:
        return []
    found: list[tuple[int, str]] = []
    for name, summary in chooser.index.nodes.items():
        if summary.closed or not chooser.selected(name):
            continue
        hard = clean = 0
        for word, mask in summary.reasons.items():
            if word in _IDLE:
                clean |= mask
            else:
                hard |= mask
        left = chooser.solver_of(summary).plan.relevant & ~hard
        if left.bit_count() >= wanted:
            found.append(((left & clean).bit_count(), name))
    return [name for _, name in heapq.nsmallest(_TRIES, found)]


def _named(state: State, blocker: Blocker) -> Blocker:
    node = state.nodes.get(blocker.node)
    return blocker if node is None else msgspec.structs.replace(blocker, node_name=node.name)


def irreducible(items: Sequence[T], works: Callable[[Sequence[T]], bool]) -> list[T]:
    """Leave out of `items`, the earlier ones first, what `works` does not need: halves, then ever smaller pieces."""
    kept = list(items)
    size = max(1, len(kept) // 2)
    while True:
        at, shrunk = 0, False
        while at < len(kept):
            trial = kept[:at] + kept[at + size :]
            if works(trial):
                kept, shrunk = trial, True
            else:
                at += size
        if size == 1 and not shrunk:
            return kept
        size = max(1, size // 2)


class _Check:
    """Whether a request succeeds on some nodes once some blockers are gone."""

    def __init__(self, state: State, resolved: Resolved, nodes: Sequence[str]) -> None:
        self._state = state
        self._resolved = resolved
        self._nodes = nodes
        self._layouts = Layouts()
        self._solvers = Solvers()

    def __call__(self, gone: Sequence[Blocker]) -> bool:
        state = Hypothesis(self._state, self._nodes).apply(blocker.edit for blocker in gone).state
        if quota_objections(state, self._resolved):
            return False
        index = Index(state, self._layouts)
        index.refresh()
        return Chooser(index, self._solvers, self._resolved).choose() is not None


def _concerned(chooser: Chooser, refusal: Refusal) -> list[str]:
    """Give the nodes on which the request should succeed: the nearest; for a gang as many more as it may need."""
    if not refusal.nearest:
        return []
    request = chooser.request
    if request.instances == 1:
        return [refusal.nearest]
    near = sorted(_reach(chooser) if chooser.resolved.needs else _reach_by_amounts(chooser))
    return [name for _, _, name in near[: request.instances]]


def _reach(chooser: Chooser) -> Iterator[tuple[bool, int, str]]:
    """Yield the nodes that could ever hold an instance: whether one holds none now, what it is short of, its id.

    All that hold one come first: with them left out, more would be changed elsewhere than has to be.
    """
    for group in chooser.groups():
        if group.solver.hopeless:
            continue
        fits = isinstance(group.solver.solve(group.masks), Solution)
        missing = group.solver.count_missing(group.masks)
        for name in (name for names in group.nodes for name in names):
            if chooser.selected(name):
                yield not (fits and chooser.takes(name)), missing + bool(chooser.index.nodes[name].closed), name


def _reach_by_amounts(chooser: Chooser) -> Iterator[tuple[bool, int, str]]:
    for name, summary in chooser.index.nodes.items():
        if chooser.selected(name):
            yield bool(summary.closed) or not chooser.takes(name), 0, name


def _all(chooser: Chooser, nodes: Sequence[str]) -> Iterator[Blocker]:
    """Yield every fact that could be in the way, the hardest to change first."""
    state, rules = chooser.state, set(chooser.request.tolerations) - {CONFLICT}
    found: list[tuple[int, int, Blocker]] = []
    for name in nodes:
        summary = chooser.index.nodes[name]
        layout = summary.layout
        relevant = chooser.solver_of(summary).plan.relevant if chooser.resolved.needs else 0
        taken = sum(1 << at for at, device in enumerate(summary.devices) if device.lifecycle is not Lifecycle.FREE)
        found += [(_hardness(blocker), 0, blocker) for blocker in _of_node(state, state.nodes[name], rules)]
        for at in bits(relevant):
            beside = ((layout.fellows[at] | layout.family[at]) & taken).bit_count()  # more that would have to change
            mine = _of_device(state, summary.devices[at], rules)
            found += [(_hardness(blocker), -beside, blocker) for blocker in mine]
        for at, partition in summary.planned if chooser.resolved.needs else ():
            if relevant >> at & 1:
                found += [(_hardness(blocker), 0, blocker) for blocker in _of_device(state, partition, rules)]
    yield from (blocker for _, _, blocker in sorted(found, key=lambda one: one[:2]))
    for name in nodes:
        yield from _of_amounts(chooser, state.nodes[name])
    yield from (_of_quota(chooser, objection) for objection in quota_objections(state, chooser.resolved))
    yield from _of_variants(chooser)


def _hardness(blocker: Blocker) -> int:
    kind, _, word = blocker.reason.partition(".")
    if kind == "lifecycle":
        place = _HARD.index(Lifecycle(word))
        return place if place < 7 else place + 10
    return {"device": _HARD.index(Lifecycle.FOREIGN), "reach": 11, "taint": 12, "node": 13}[kind]


def _of_node(state: State, node: Node, rules: set[str]) -> Iterator[Blocker]:
    name = state.called(node)
    for word, why in (
        ("cordoned", node.cordoned),
        ("draining", node.draining),
        ("retired", "for good" if node.retired else ""),
        ("maintenance", "still" if node.maintenance_until_ns is not None else ""),
    ):
        if why:
            yield Blocker(f"node.{word}", f"node {name} is {word}: {why}", OpenNode(node.id), node.id)
            break
    if not node.live:
        yield Blocker("reach.stale", f"node {name} is silent", NodeSpeaks(node.id), node.id)
    elif node.shown != state.generation:
        yield Blocker("reach.unverified", unshown(state, node), NodeSpeaks(node.id), node.id)
    elif node.publisher in state.unread:
        yield Blocker("node.unread", behind(state, node), NodeSpeaks(node.id), node.id)
    for taint in _each_rule(node.taints.values(), rules):
        message = f"node {name} is marked by {taint.rule}: {taint.evidence}"
        yield Blocker(f"taint.{taint.rule}", message, RemoveTaint(node.id, taint.rule), node.id)


def _of_device(state: State, device: Device, rules: set[str]) -> Iterator[Blocker]:
    if device.lifecycle is not Lifecycle.FREE:
        holder = f" for claim {device.hold.claim}" if device.hold else ""
        message = f"{device.id} is {device.lifecycle.value}{holder}"
        yield Blocker(f"lifecycle.{device.lifecycle.value}", message, FreeDevice(device.id), device.node, device.id)
    elif user := in_use.busy(state, device):
        yield Blocker("device.in_use", f"{device.id} is {user}", FreeDevice(device.id), device.node, device.id)
    if device.reach is not Reach.LIVE:
        message = f"{device.id} is {device.reach.value}"
        yield Blocker(f"reach.{device.reach.value}", message, DeviceSeen(device.id), device.node, device.id)
    elif unjoined(device):
        reason = f"reach.{Reach.UNVERIFIED.value}"
        yield Blocker(reason, apart(device), DeviceSeen(device.id), device.node, device.id)
    for taint in _each_rule(device.taints.values(), rules):
        message = f"{device.id} is marked by {taint.rule}: {taint.evidence}"
        edit = RemoveTaint(device.node, taint.rule, device.id)
        yield Blocker(f"taint.{taint.rule}", message, edit, device.node, device.id)


def _each_rule(marks: Iterable[Taint], tolerated: set[str]) -> Iterable[Taint]:
    """Give one mark of each rule that is not tolerated: they are taken off together."""
    return {mark.rule: mark for mark in marks if mark.rule not in tolerated}.values()


def _of_amounts(chooser: Chooser, node: Node) -> Iterator[Blocker]:
    instances = min(chooser.request.per_node, chooser.request.instances)
    for amount, number in chooser.resolved.amounts.items():
        capacity = chooser.state.capacity(node, amount)
        free = 0 if capacity is None else capacity - node.used.get(amount, 0)
        for instance in range(1, instances + 1):
            short = number * instance - max(free, number * (instance - 1))
            if short > 0:
                message = f"node {chooser.state.called(node)} is short of {short} {amount}"
                yield Blocker(f"amount.{amount}", message, AddAmount(node.id, amount, short), node.id)
                free += short


def _of_quota(chooser: Chooser, objection: Objection) -> Blocker:
    name = objection.reason.removeprefix("quota.")
    request, kind = chooser.request, name.partition(":")[0]
    tenant = chooser.state.tenants.get(request.tenant)
    more = {"claims": 1, "devices": chooser.resolved.devices}
    more |= {amount: number * request.instances for amount, number in chooser.resolved.amounts.items()}
    limit = (tenant.used.get(kind, 0) if tenant else 0) + more.get(kind, 0)
    return Blocker(objection.reason, objection.message, SetQuota(request.tenant, name, limit))


def _of_variants(chooser: Chooser) -> Iterator[Blocker]:
    """Yield the quotas of single variants of which too little may be left."""
    request = chooser.request
    most = chooser.resolved.devices
    if request.isolation is Isolation.WHOLE_GROUP:  # which may add any device of a node
        most += request.instances * max(summary.layout.size for summary in chooser.index.nodes.values())
    for variant, left in chooser.left.items():
        if left < most:
            name = f"devices:{variant}" if variant else "devices"
            quota = chooser.state.quota(request.tenant)
            limit = (quota.limits.get(name, 0) if quota else 0) - left + most
            message = f"tenant {request.tenant} may have {left} more of {name}"
            yield Blocker(f"quota.{name}", message, SetQuota(request.tenant, name, limit))

"""Gangs of partitions, whole devices and both: placed whenever trying everything does, and every refusal explained."""

from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aggregator.ledger.asks import Ask, Pick, objections
from aggregator.ledger.entries import NodeOrdered
from aggregator.ledger.model import Device
from aggregator.ledger.state import State
from aggregator.ledger.words import Mode
from aggregator.placement.edits import FreeDevice, Hypothesis, OpenNode
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Affinities, Affinity, Need, Request, Strategy
from tests.aggregator.placement.test_partitions_brute import NONE, Gpu, build, gpus, places
from tests.aggregator.placement.worlds import asked

Taken = frozenset[tuple[str, Mode, str]]
"""Device, mode and plan of what a gang has on a node so far."""


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A gang of one to three needs, of which each is for one or two partitions, GPUs or functions."""
    needs = []
    for profile in draw(st.lists(st.sampled_from(["1g", "2g", "3g", "4g", ""]), min_size=1, max_size=2, unique=True)):
        variant = draw(st.sampled_from(["A", "A", "B"]) if profile else st.sampled_from(["A", "B", "VF"]))
        mode = None if profile else draw(st.sampled_from(Mode))
        needs.append(Need(variant, profile=profile, mode=mode, count=draw(st.sampled_from([1, 1, 2]))))
    instances = draw(st.integers(2, 4))
    return Request(
        "t1",
        "job",
        needs=needs,
        amounts=draw(st.sampled_from([{}, {}, {"vcpus": 20}])),
        instances=instances,
        per_node=draw(st.integers(1, instances)),
        affinity=Affinities(draw(st.sampled_from(Affinity)), NONE, NONE),
        strategy=draw(st.sampled_from(list(Strategy))),
    )


# --- trying everything ------------------------------------------------------------------------------------------------


def feasible(state: State, request: Request) -> bool:
    """Tell whether there is any way at all; the ledger's objections are the judge."""
    quota = state.quota(request.tenant)
    wanted = request.instances * sum(need.count for need in request.needs)
    if quota is not None and wanted > quota.limits.get("devices", wanted):
        return False
    room = 0
    for node in state.nodes:
        room += most_on(state, request, node, min(request.per_node, request.instances - room))
        if room >= request.instances:
            return True
    return False


def most_on(state: State, request: Request, node: str, wanted: int) -> int:
    """Give how many instances a node holds, at most `wanted`."""
    for amount, number in request.amounts.items():
        there = state.nodes[node]
        wanted = min(wanted, ((state.capacity(there, amount) or 0) - there.used.get(amount, 0)) // number)
    devices = list(state.devices_of(node))
    reached: set[Taken] = {frozenset()}
    for instances in range(wanted):
        more = {one for taken in reached for one in _one_more(state, request, devices, taken)}
        if not more:
            return instances
        reached = more
    return wanted


def _one_more(state: State, request: Request, devices: list[Device], taken: Taken) -> Iterator[Taken]:
    rooms: list[int | None] = [0, 1] if request.affinity.numa is Affinity.REQUIRE else [None]
    for room in rooms:
        near = [one for one in devices if room is None or one.get("numa_node") == room]
        yield from _picked(state, request, near, 0, taken)


def _picked(state: State, request: Request, devices: list[Device], at: int, taken: Taken) -> Iterator[Taken]:
    if at == len(request.needs):
        yield taken
        return
    need = request.needs[at]
    every = [
        one
        for device in devices
        if state.is_variant(device.profiles, need.variant)
        for one in _each(device, need)
        if one not in taken and _may(state, taken | {one})
    ]
    for chosen in combinations(every, need.count):
        if need.count == 1 or _may(state, taken.union(chosen)):
            yield from _picked(state, request, devices, at + 1, taken.union(chosen))


def _each(device: Device, need: Need) -> Iterator[tuple[str, Mode, str]]:
    if not need.profile:
        yield device.id, need.mode or Mode.PASSTHROUGH, ""
        return
    for profile, start, size in places(need.variant):
        if profile == need.profile:
            yield device.id, Mode.DRIVER, f"{profile}@{start}:{size}"


def _may(state: State, taken: Taken) -> bool:
    picks = [Pick(device, mode, profile=plan) for device, mode, plan in sorted(taken, key=str)]
    against = objections(state, Ask("t1", "x", picks))
    return all(one.reason.startswith("quota.") for one in against)


# --- claims of the tests ----------------------------------------------------------------------------------------------

fleets = st.lists(st.lists(gpus(), min_size=1, max_size=2), min_size=1, max_size=3)
quotas = st.sampled_from([{}, {}, {}, {"devices": 3}])
two_divided = [Gpu("A", None, None, ["1g@6:1", "3g@0:4"], "planned")]
both_sizes = [Need("A", profile="1g"), Need("A", profile="2g")]


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(fleets, requests(), quotas, st.booleans())
@example([two_divided, two_divided, [Gpu("A", None, None, [], "planned")]], asked(*both_sizes, instances=2), {}, False)
def test_a_gang_is_placed_whenever_it_can_be_and_else_explained(
    fleet: list[list[Gpu]], request: Request, quota: dict[str, int], cordoned: bool
) -> None:
    book = build(fleet, quota)
    if cordoned:
        book.write([NodeOrdered("n0", cordoned="fan")])
    placer = Placer()
    if feasible(book.state, request):
        book.decide(placer.grant(book.state, request, "new"))
        wanted = request.instances * sum(need.count for need in request.needs)
        assert wanted == len(book.state.claims["new"].devices)
        return
    with pytest.raises(NotPlacedError) as refused:
        placer.place(book.state, request)
    blockers = placer.explain(book.state, request, refused.value.refusal)
    if blockers is None:
        assert not feasible(_all_free(book.state), request)
        return
    assert blockers
    for left_out in (None, *blockers):
        edits = [one.edit for one in blockers if one is not left_out]
        assert feasible(Hypothesis(book.state).apply(edits).state, request) is (left_out is None)


def _all_free(state: State) -> State:
    hypothesis = Hypothesis(state).apply(FreeDevice(name) for name in state.devices)
    hypothesis.apply(OpenNode(node) for node in state.nodes)
    hypothesis.state.quotas = {}
    return hypothesis.state

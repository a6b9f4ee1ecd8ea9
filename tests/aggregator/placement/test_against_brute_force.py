"""On small random fleets placement finds a place whenever there is one, the best one, and explains every refusal."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.ledger import asks
from aggregator.ledger.entries import NodeOrdered, NodeReached, QuotaSet
from aggregator.ledger.model import Quota
from aggregator.ledger.relations import blocked
from aggregator.ledger.words import Mode
from aggregator.placement.edits import Hypothesis
from aggregator.placement.index import Index
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Affinities, Affinity, Isolation, Need, Request, Strategy
from aggregator.placement.summary import summarise
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement import brute
from tests.aggregator.placement.worlds import Spec, build, name_variants

modes = st.sampled_from([Mode.PASSTHROUGH, Mode.PASSTHROUGH, Mode.DRIVER])
lifecycles = st.sampled_from(
    ["free"] * 8
    + ["dirty", "foreign", "held:t1:passthrough", "held:t2:passthrough", "held:t1:driver", "held:t2:driver"]
)
affinities = st.sampled_from(list(Affinity))


@st.composite
def nodes(draw: st.DrawFn) -> list[Spec]:
    """A node of up to seven devices: GPUs in a graph of links, ports and their functions."""
    specs: list[Spec] = []
    count = draw(st.integers(1, 5))
    grouped, places = draw(st.booleans()), draw(st.booleans())
    for _ in range(count):
        specs.append(_spec(draw, draw(st.sampled_from(["V100", "V100", "H100"])), grouped, places))
    if draw(st.booleans()):
        port = len(specs)
        specs.append(_spec(draw, "CX7", grouped, places))
        for _ in range(draw(st.integers(0, 2))):
            specs.append(_spec(draw, "VF", grouped, places, parent=port))
    graph = draw(st.sampled_from(["none", "even", "any"]))
    edges = {
        (one, other): 2 if graph == "even" else draw(st.sampled_from([0, 1, 2]))
        for one in range(count)
        for other in range(one)
        if graph != "none"
    }
    made = []
    for at, spec in enumerate(specs):
        mine = {
            peer: number
            for peer in range(count)
            if peer != at and (number := edges.get((max(at, peer), min(at, peer)), 0))
        }
        made.append(Spec(**{**_fields(spec), "links": mine}))
    return made


def _fields(spec: Spec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


def _spec(draw: st.DrawFn, variant: str, grouped: bool, places: bool, parent: int = -1) -> Spec:
    return Spec(
        variant,
        draw(st.sampled_from([None, 1, 1, 2, 3])) if grouped else None,
        draw(st.sampled_from([None, 0, 1])) if places else 0,
        draw(st.sampled_from([None, 1, 2])) if places else None,
        parent,
        draw(lifecycles),
        draw(st.sampled_from([""] * 7 + ["xid"])),
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    needs = draw(
        st.lists(
            st.builds(
                Need,
                variant=st.sampled_from(["V100", "V100", "H100", "CX7", "VF"]),
                count=st.integers(1, 3),
                mode=modes,
            ),
            min_size=1,
            max_size=3,
        )
    )
    isolation = draw(st.sampled_from([Isolation.OWN_GROUP, Isolation.OWN_GROUP, *Isolation]))
    if all(need.mode is Mode.DRIVER for need in needs):
        isolation = Isolation.OWN_GROUP
    nvlink = draw(affinities) if any(need.variant in ("V100", "H100") for need in needs) else Affinity.PREFER
    return Request(
        "t1",
        "vm",
        needs=needs,
        amounts=draw(st.sampled_from([{}, {"vcpus": 4}, {"vcpus": 60}])),
        isolation=isolation,
        affinity=Affinities(draw(affinities), draw(affinities), nvlink),
        strategy=draw(st.sampled_from(list(Strategy))),
        tolerations=draw(st.sampled_from([[], ["xid"]])),
    )


def world(fleet: list[list[Spec]], quota: dict[str, int], closed: str) -> Book:
    book = Book()
    name_variants(book)
    for number, specs in enumerate(fleet):
        build(book, f"n{number}", specs, vcpus=48)
    if quota:
        book.write([QuotaSet(Quota("t1", quota))])
    if closed == "cordoned":
        book.write([NodeOrdered("n0", cordoned="fan")])
    elif closed == "silent":
        book.write([NodeReached("n0", live=False)])
    return book


fleets = st.lists(nodes(), min_size=1, max_size=3)
quotas = st.sampled_from([{}, {}, {"devices": 3}, {"devices:V100": 1}, {"devices:H100": 0, "claims": 2}])
ends = st.sampled_from(["", "", "cordoned", "silent"])


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(fleets, requests(), quotas, ends)
def test_it_finds_a_place_whenever_there_is_one_and_the_best(
    fleet: list[list[Spec]], request: Request, quota: dict[str, int], closed: str
) -> None:
    book = world(fleet, quota, closed)
    expected = brute.best(book.state, request)
    placer = Placer()
    if expected is None:
        with pytest.raises(NotPlacedError) as refused:
            placer.place(book.state, request)
        _explained(book, placer, request, refused.value)
        return
    placement = placer.dry_run(book.state, request)
    assert expected == placement.instances[0].rank
    book.decide(placer.grant(book.state, request, "new"))
    assert [pick.device for pick in placement.ask.devices] == [held.device for held in book.state.claims["new"].devices]


@st.composite
def varied(draw: st.DrawFn) -> list[Spec]:
    """A node with some devices of each of four kinds, nearly all of them free."""
    grouped, places = draw(st.booleans()), draw(st.booleans())
    ends = st.sampled_from(["free"] * 14 + ["dirty", "held:t2:passthrough"])
    found: list[Spec] = []
    for variant, most in (("V100", 3), ("H100", 3), ("CX7", 3), ("VF", 3)):
        for _ in range(draw(st.integers(2, most))):
            spec = _spec(draw, variant, grouped, places)
            found.append(Spec(**{**_fields(spec), "lifecycle": draw(ends), "taint": ""}))
    port = next(at for at, spec in enumerate(found) if spec.variant == "CX7")
    return [Spec(**{**_fields(one), "parent": port}) if one.variant == "VF" else one for one in found]


@st.composite
def many_kinds(draw: st.DrawFn) -> Request:
    """A request for four or five kinds at once; two of five are of one variant, in two modes or one."""
    variants = draw(st.permutations(["V100", "H100", "CX7", "VF"]))
    variants += draw(st.lists(st.sampled_from(["V100", "VF"]), max_size=1))
    needs = [Need(variant, count=draw(st.sampled_from([1, 1, 2])), mode=draw(modes)) for variant in variants]
    nvlink = draw(st.sampled_from([Affinity.NONE, Affinity.PREFER]))
    near = st.sampled_from([Affinity.PREFER, Affinity.PREFER, *Affinity])
    affinity = Affinities(draw(near), draw(near), nvlink)
    return Request("t1", "vm", needs=needs, affinity=affinity, strategy=draw(st.sampled_from(list(Strategy))))


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(varied(), min_size=1, max_size=2), many_kinds())
def test_of_more_than_three_kinds_too_and_within_five_percent(fleet: list[list[Spec]], request: Request) -> None:
    book = world(fleet, {}, "")
    expected = brute.best(book.state, request)
    placer = Placer()
    if expected is None:
        with pytest.raises(NotPlacedError) as refused:
            placer.place(book.state, request)
        _explained(book, placer, request, refused.value)
        return
    found = placer.dry_run(book.state, request).instances[0].rank
    assert expected <= found <= expected * 1.05


def _explained(book: Book, placer: Placer, request: Request, refused: NotPlacedError) -> None:
    """The blockers removed make it succeed, and none is superfluous; there are none only when nothing would help."""
    blockers = placer.explain(book.state, request, refused.refusal)
    if blockers is None:
        assert brute.best(_all_free(book), request) is None
        return
    assert blockers
    for left_out in (None, *blockers):
        edits = [blocker.edit for blocker in blockers if blocker is not left_out]
        state = Hypothesis(book.state).apply(edits).state
        assert (brute.best(state, request) is not None) is (left_out is None)


def _all_free(book: Book) -> Any:
    from aggregator.placement.edits import AddAmount, DeviceSeen, FreeDevice, NodeSpeaks, OpenNode, RemoveTaint

    hypothesis = Hypothesis(book.state)
    for device in list(book.state.devices.values()):
        hypothesis.apply([FreeDevice(device.id), DeviceSeen(device.id)])
        hypothesis.apply([RemoveTaint(device.node, rule, device.id) for rule in device.taints])
    for node in book.state.nodes:
        hypothesis.apply([OpenNode(node), NodeSpeaks(node), AddAmount(node, "vcpus", 1000)])
    hypothesis.state.quotas = {}
    return hypothesis.state


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(fleets, ends)
def test_masks_say_what_the_ledger_says(fleet: list[list[Spec]], closed: str) -> None:
    book = world(fleet, {}, closed)
    state = book.state
    index = Index(state)
    index.refresh()
    for name in state.nodes:
        summary = summarise(state, name, index.layouts)
        for tenant in ("t1", "t2", "nobody"):
            masks = summary.masks_for(state, tenant, ())
            for at, device in enumerate(summary.devices):
                free = asks.unschedulable(state, device) is None
                for mode, mask in ((Mode.PASSTHROUGH, masks.passthrough), (Mode.DRIVER, masks.driver)):
                    can = free and blocked(state, device, tenant, mode) is None
                    assert can is bool(mask >> at & 1), (device.id, tenant, mode)
        assert summary.masks in index.shapes[index.nodes[name].layout]

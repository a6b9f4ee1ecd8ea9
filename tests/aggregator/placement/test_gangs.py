"""Gangs: all instances or none, so many on a node, turn about or packed; feasible whenever there is room."""

from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.ledger import asks
from aggregator.ledger.entries import QuotaSet
from aggregator.ledger.model import Quota
from aggregator.placement.edits import Hypothesis
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Affinities, Affinity, Need, Request, Strategy
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import Spec, asked, build, name_variants, simulated


def nodes_of(book: Book, request: Request) -> list[str]:
    return [instance.node for instance in Placer().dry_run(book.state, request).instances]


@pytest.fixture
def book() -> Book:
    found = Book()
    name_variants(found)
    for node in ("n1", "n2", "n3"):
        build(found, node, [Spec("V100", group=at) for at in range(4)], vcpus=10)
    return found


def test_each_instance_has_a_node_of_its_own_unless_more_are_allowed(book: Book) -> None:
    assert ["n1", "n2", "n3"] == nodes_of(book, asked(Need("V100"), instances=3))
    with pytest.raises(NotPlacedError):
        nodes_of(book, asked(Need("V100"), instances=4))
    assert ["n1"] * 3 + ["n2"] * 3 == nodes_of(book, asked(Need("V100"), instances=6, per_node=3))


def test_spread_goes_round(book: Book) -> None:
    request = asked(Need("V100"), instances=5, per_node=3, strategy=Strategy.SPREAD)
    assert ["n1", "n2", "n3", "n1", "n2"] == nodes_of(book, request)


def test_amounts_of_all_instances_on_a_node_add_up(book: Book) -> None:
    request = asked(Need("V100"), amounts={"vcpus": 4}, instances=6, per_node=4)
    assert ["n1", "n1", "n2", "n2", "n3", "n3"] == nodes_of(book, request)
    with pytest.raises(NotPlacedError):
        nodes_of(book, asked(Need("V100"), amounts={"vcpus": 4}, instances=7, per_node=4))
    assert ["n1", "n1", "n2"] == nodes_of(book, Request("t", "c", amounts={"vcpus": 5}, instances=3, per_node=2))


def test_a_gang_is_one_claim_all_or_none(book: Book) -> None:
    placer = Placer()
    book.decide(placer.grant(book.state, asked(Need("V100", count=4), instances=3), "c1"))
    assert 12 == len(book.state.claims["c1"].devices)
    sequence = book.state.sequence
    with pytest.raises(NotPlacedError):
        placer.grant(book.state, asked(Need("V100"), instances=1), "c2")
    assert sequence == book.state.sequence


def test_a_gang_keeps_within_the_quota_of_a_variant() -> None:
    book = Book()
    name_variants(book)
    build(book, "n1", [Spec("V100", group=1)])
    build(book, "n2", [Spec("V100", group=1)])
    build(book, "n3", [Spec("H100", group=1)])
    book.write([QuotaSet(Quota("t1", {"devices:V100": 1}))])
    anything = asked(Need(where="device.kind == 'gpu'"), instances=2)
    assert {"n1", "n3"} == set(nodes_of(book, anything))
    with pytest.raises(NotPlacedError, match="V100"):
        nodes_of(book, asked(Need("V100"), instances=2))


def test_a_gang_of_64_nodes_is_placed_on_64_nodes() -> None:
    book = simulated("v100-shared", 70)
    nodes = nodes_of(book, asked(Need("V100", count=6), instances=64))
    assert (64, 64) == (len(nodes), len(set(nodes)))


specs = st.lists(
    st.builds(
        Spec,
        st.just("V100"),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([0, 1]),
        lifecycle=st.sampled_from(["free", "free", "free", "dirty", "held:t1:passthrough", "held:t2:passthrough"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(specs, min_size=1, max_size=2), st.integers(1, 3), st.integers(2, 4), st.integers(1, 4), st.booleans())
def test_a_gang_is_placed_whenever_it_can_be(
    fleet: list[list[Spec]], count: int, instances: int, per_node: int, numa: bool
) -> None:
    book = Book()
    name_variants(book)
    for number, one in enumerate(fleet):
        build(book, f"n{number}", one)
    per_node = min(per_node, instances)
    affinity = Affinities(numa=Affinity.REQUIRE if numa else Affinity.PREFER)
    request = asked(Need("V100", count=count), instances=instances, per_node=per_node, affinity=affinity)
    most = sum(min(per_node, _most(book, node, count, numa, per_node)) for node in book.state.nodes)
    if most >= instances:
        assert instances == len(nodes_of(book, request))
    else:
        with pytest.raises(NotPlacedError):
            nodes_of(book, request)


def _most(book: Book, node: str, count: int, numa: bool, wanted: int) -> int:
    """Count by trying everything how many instances a node can hold."""
    free = [
        device
        for device in book.state.devices_of(node)
        if not list(asks.objections(book.state, asks.Ask("t1", "x", [asks.Pick(device.id)])))
    ]

    def go_on(left: list[str], depth: int) -> int:
        best = 0
        for chosen in combinations(left, count) if depth else ():
            if numa and len({book.state.devices[name].get("numa_node") for name in chosen}) > 1:
                continue
            best = max(best, 1 + go_on([name for name in left if name not in chosen], depth - 1))
            if best == depth:
                break
        return best

    return go_on([device.id for device in free], wanted)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(specs, min_size=1, max_size=3), st.integers(1, 2), st.integers(2, 4), st.integers(1, 3))
def test_the_blockers_of_a_gang_are_enough_and_none_is_superfluous(
    fleet: list[list[Spec]], count: int, instances: int, per_node: int
) -> None:
    book = Book()
    name_variants(book)
    for number, one in enumerate(fleet):
        build(book, f"n{number}", one)
    placer = Placer()
    request = asked(Need("V100", count=count), instances=instances, per_node=min(per_node, instances))
    try:
        placer.place(book.state, request)
    except NotPlacedError as error:
        blockers = placer.explain(book.state, request, error.refusal)
        if blockers is None:
            room = sum(min(request.per_node, len(one) // count) for one in fleet)
            assert room < instances
            return
        for left_out in (None, *blockers):
            state = Hypothesis(book.state).apply(one.edit for one in blockers if one is not left_out).state
            if left_out is None:
                Placer().place(state, request)
            else:
                with pytest.raises(NotPlacedError):
                    Placer().place(state, request)

"""Devices are chosen near each other, by graphs of links that are no equivalence as by switches and sockets."""

from itertools import combinations

import pytest

from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Affinities, Affinity, Need, Request, Strategy
from collectors.simulated.models import CUBE_MESH
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import Spec, asked, build, grant, name_variants, simulated

REQUIRED = Affinities(nvlink=Affinity.REQUIRE)


def chosen(book: Book, request: Request) -> set[int]:
    """Give the numbers, by address, of the GPUs that would be taken on the one node."""
    picks = Placer().dry_run(book.state, request).ask.devices
    order = sorted(device.slot.address for device in book.state.devices.values())
    return {order.index(book.state.devices[pick.device].slot.address) for pick in picks}


@pytest.fixture
def mesh() -> Book:
    """Eight V100 in a cube mesh."""
    book = Book()
    name_variants(book)
    links = [{peer: number for peer, number in enumerate(row) if number} for row in CUBE_MESH]
    build(book, "n1", [Spec("V100", group=at, numa=at // 4, links=links[at]) for at in range(8)])
    return book


def test_two_gpus_of_a_cube_mesh_have_a_double_link(mesh: Book) -> None:
    one, other = chosen(mesh, asked(Need("V100", count=2)))
    assert 2 == CUBE_MESH[one][other]


def test_four_gpus_of_a_cube_mesh_are_a_full_quad(mesh: Book) -> None:
    quad = chosen(mesh, asked(Need("V100", count=4)))
    assert quad in ({0, 1, 2, 3}, {4, 5, 6, 7})
    assert all(CUBE_MESH[one][other] for one, other in combinations(quad, 2))


def test_what_is_left_of_a_cube_mesh_is_as_connected_as_it_can_be(mesh: Book) -> None:
    placer = Placer()
    taken = [grant(mesh, placer, asked(Need("V100", count=2)), f"c{number}") for number in range(4)]
    assert 8 == len({device for pair in taken for device in pair})
    order = sorted(mesh.state.devices, key=lambda name: mesh.state.devices[name].slot.address)
    assert [2, 2, 2, 2] == [CUBE_MESH[order.index(one)][order.index(other)] for one, other in taken]


@pytest.mark.parametrize("count", [2, 3])
def test_a_required_island_is_connected_through_its_own_members_alone(count: int) -> None:
    """Bridges join pairs: two GPUs of different pairs are no island, however many are free."""
    book = Book()
    name_variants(book)
    free = ["free", "held:t2:driver", "free", "held:t2:driver", "free", "free"]
    build(book, "n1", [Spec("V100", lifecycle=free[at], links={at ^ 1: 4}) for at in range(6)])

    request = asked(Need("V100", count=count), affinity=REQUIRED)

    if count == 2:
        assert {4, 5} == chosen(book, request)
    else:
        with pytest.raises(NotPlacedError, match="no node can hold this"):  # pairs are what there is
            Placer().place(book.state, request)


def test_without_links_required_nearness_is_refused_and_preferred_is_not() -> None:
    book = simulated("v100-shared")
    assert 2 == len(Placer().dry_run(book.state, asked(Need("V100", count=2))).ask.devices)
    with pytest.raises(NotPlacedError, match="no node can hold this"):
        Placer().place(book.state, asked(Need("V100", count=2), affinity=REQUIRED))


def test_gpus_share_a_socket_where_they_can_and_must_where_that_is_required() -> None:
    book = Book()
    name_variants(book)
    build(book, "n1", [Spec("V100", numa=at % 2, lifecycle="held:t2:driver" if at == 0 else "free") for at in range(6)])
    assert {1, 3, 5} == chosen(book, asked(Need("V100", count=3)))
    assert 4 == len(chosen(book, asked(Need("V100", count=4))))
    with pytest.raises(NotPlacedError) as refused:
        Placer().place(book.state, asked(Need("V100", count=4), affinity=Affinities(numa=Affinity.REQUIRE)))
    assert not refused.value.refusal.nearest  # three on each socket: never


def test_a_gpu_and_a_port_below_one_root_are_found_together() -> None:
    book = Book()
    name_variants(book)
    specs = [Spec("V100", root=0, lifecycle="dirty"), Spec("V100", root=1), Spec("V100", root=2)]
    build(book, "n1", [*specs, Spec("CX7", root=0), Spec("CX7", root=2)])
    request = asked(Need("V100"), Need("CX7"), affinity=Affinities(pcie_root=Affinity.REQUIRE))
    assert {2, 4} == chosen(book, request)


def test_partitions_of_a_switch_are_given_whole() -> None:
    """What the fabric manager defines: all eight, two fours, and pairs only of the first four."""
    book = Book()
    name_variants(book)
    partitions = {"all": range(8), "a": range(4), "b": range(4, 8), "p0": (0, 1), "p1": (2, 3)}
    told = [[name for name, members in partitions.items() if at in members] for at in range(8)]
    links = [{peer: 18 for peer in range(8) if peer != at} for at in range(8)]
    build(book, "n1", [Spec("H100", group=at, links=links[at], partitions=told[at]) for at in range(8)])
    placer = Placer()
    assert {frozenset({0, 1}), frozenset({2, 3})} >= {frozenset(chosen(book, asked(Need("H100", count=2))))}
    assert chosen(book, asked(Need("H100", count=4))) in ({0, 1, 2, 3}, {4, 5, 6, 7})
    grant(book, placer, asked(Need("H100", count=2)), "pair")
    assert {4, 5, 6, 7} == chosen(book, asked(Need("H100", count=4)))
    for count in (1, 3, 8):
        with pytest.raises(NotPlacedError):
            Placer().place(book.state, asked(Need("H100", count=count)))


@pytest.mark.parametrize(
    ("strategy", "node"), [(Strategy.PACK, "n1"), (Strategy.SPREAD, "n2"), (Strategy.LEAST_STRANDED, "n1")]
)
def test_the_strategy_decides_between_nodes_of_equal_topology(strategy: Strategy, node: str) -> None:
    book = Book()
    name_variants(book)
    build(book, "n1", [Spec("V100"), Spec("V100"), Spec("V100", lifecycle="held:t2:driver")])
    build(book, "n2", [Spec("V100")] * 3)
    placement = Placer().dry_run(book.state, asked(Need("V100"), strategy=strategy))
    assert node == placement.instances[0].node


def test_least_stranded_breaks_no_group_that_pack_would_break() -> None:
    book = Book()
    name_variants(book)
    build(book, "n1", [Spec("V100", group=1), Spec("V100", group=1)])
    build(book, "n2", [Spec("V100", group=1), Spec("V100", group=2), Spec("V100", group=3)])
    nodes = {
        strategy: Placer().dry_run(book.state, asked(Need("V100"), strategy=strategy)).instances[0].node
        for strategy in (Strategy.PACK, Strategy.LEAST_STRANDED)
    }
    assert {Strategy.PACK: "n1", Strategy.LEAST_STRANDED: "n2"} == nodes

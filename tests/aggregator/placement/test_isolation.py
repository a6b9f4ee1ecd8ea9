"""IOMMU groups, functions, partitions: whose neighbour anybody may be (R002-1)."""

from collections import Counter

import pytest

from aggregator.ledger.words import Mode
from aggregator.placement.mig import bundles
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Affinities, Affinity, Isolation, Need
from schemas.mig import Place, read_place, read_placements, union
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import Spec, asked, build, grant, name_variants, simulated

WHOLE = Isolation.WHOLE_GROUP


def test_six_v100_in_four_groups_serve_four_tenants() -> None:
    book, placer = simulated("v100-shared"), Placer()
    groups = set()
    for number in range(4):
        (device,) = grant(book, placer, asked(Need("V100"), tenant=f"t{number}"), f"c{number}")
        groups.add(book.state.devices[device].group)
    assert {19, 32, 75, 87} == groups
    with pytest.raises(NotPlacedError) as refused:
        placer.place(book.state, asked(Need("V100"), tenant="t5"))
    removed = {one.condition: one.removed for one in refused.value.refusal.conditions}
    assert (4, 2) == (removed["lifecycle.reserved"], removed["relation"])


def test_the_first_claimer_owns_the_group_and_has_its_neighbour_for_the_asking() -> None:
    book, placer = simulated("v100-shared"), Placer()
    taken = [*grant(book, placer, asked(Need("V100", count=5)), "c1")]
    taken += grant(book, placer, asked(Need("V100")), "c2")
    assert 6 == len(set(taken))


def test_a_whole_group_is_taken_with_all_its_endpoints_and_no_larger_one_than_needed() -> None:
    book, placer = simulated("v100-shared"), Placer()
    pair = grant(book, placer, asked(Need("V100", count=2), isolation=WHOLE), "c1")
    assert 2 == len(pair)
    assert 1 == len(grant(book, placer, asked(Need("V100"), isolation=WHOLE), "c2"))
    assert 1 == len(grant(book, placer, asked(Need("V100"), isolation=WHOLE), "c3"))
    left = grant(book, placer, asked(Need("V100"), isolation=WHOLE), "c4")
    assert 2 == len(left)  # only a group of two is left: all of it
    assert 1 == len({book.state.devices[device].group for device in left})


def test_only_devices_alone_in_their_group_are_singletons() -> None:
    book, placer = simulated("v100-shared"), Placer()
    taken = grant(book, placer, asked(Need("V100", count=2), isolation=Isolation.SINGLETON), "c1")
    assert {32, 75} == {book.state.devices[device].group for device in taken}
    with pytest.raises(NotPlacedError):
        placer.place(book.state, asked(Need("V100"), isolation=Isolation.SINGLETON))


def test_a_port_and_its_functions_are_never_given_both() -> None:
    book = Book()
    name_variants(book)
    build(book, "n1", [Spec("CX7", group=1), Spec("VF", group=2, parent=0), Spec("VF", group=3, parent=0)])
    with pytest.raises(NotPlacedError):
        Placer().place(book.state, asked(Need("CX7"), Need("VF")))
    build(book, "n2", [Spec("CX7", group=1), Spec("VF", group=2, parent=0), Spec("CX7", group=3)])
    placement = Placer().dry_run(book.state, asked(Need("CX7"), Need("VF")))
    assert "n2" == placement.instances[0].node


def test_hundreds_of_functions_are_counted_not_enumerated() -> None:
    book, placer = simulated("a10-sriov"), Placer()
    assert 200 == len(set(grant(book, placer, asked(Need("VF", count=200)), "c1")))
    with pytest.raises(NotPlacedError) as refused:
        placer.place(book.state, asked(Need("VF", count=57)))
    assert 1 == refused.value.refusal.missing


def test_two_modes_in_one_group_are_no_choice() -> None:
    book = Book()
    name_variants(book)
    build(book, "n1", [Spec("V100", group=1), Spec("V100", group=1)])
    both = asked(Need("V100"), Need("V100", mode=Mode.DRIVER))
    with pytest.raises(NotPlacedError):
        Placer().place(book.state, both)
    build(book, "n2", [Spec("V100", group=1), Spec("V100", group=2)])
    assert "n2" == Placer().dry_run(book.state, both).instances[0].node


H100 = read_placements(
    [
        "1g.10gb:{0,1,2,3,4,5,6}:1",
        "1g.20gb:{0,2,4,6}:2",
        "2g.20gb:{0,2,4}:2",
        "3g.40gb:{0,4}:4",
        "4g.40gb:{0}:4",
        "7g.80gb:{0}:8",
    ]
)


@pytest.mark.parametrize(
    ("profile", "taken", "start"),
    [
        ("1g.10gb", [], 6),  # the last slice: what is left still holds 4g, 3g is lost anyway at 4
        ("1g.10gb", ["6:1"], 5),
        ("3g.40gb", [], 4),  # 4g can only be at 0
        ("3g.40gb", ["4:4"], 0),
        ("4g.40gb", ["4:4"], 0),
        ("4g.40gb", ["0:1"], None),
        ("2g.20gb", [], 4),
        ("7g.80gb", [], 0),
        ("7g.80gb", ["6:1"], None),
        ("9g", [], None),
    ],
)
def test_a_partition_lies_where_it_leaves_the_most(profile: str, taken: list[str], start: int | None) -> None:
    occupied = union(place for text in taken if (place := read_place(text)) is not None)
    found = [one.places[0][0].start for one in bundles(H100, occupied, (profile,), (1,))]
    assert ([] if start is None else [start]) == found


def test_several_partitions_are_made_at_once_where_they_fit_together() -> None:
    """One by one, 2g at 4 and then 1g at 6 would leave no room for 3g."""
    found = {one.counts: one.places for one in bundles(H100, 0, ("3g.40gb", "2g.20gb", "1g.10gb"), (1, 1, 2))}
    assert (Place(4, 4),) == found[1, 1, 2][0]
    assert [(0, 2), (2, 1), (3, 1)] == sorted((one.start, one.size) for each in found[1, 1, 2][1:] for one in each)
    assert (1, 2, 2) not in found


def test_partitions_to_be_made_name_parent_profile_and_place() -> None:
    book, placer = simulated("hgx-h100"), Placer()
    (pick,) = placer.dry_run(book.state, asked(Need("H100", profile="3g.40gb"))).ask.devices
    assert ("3g.40gb@4:4", Mode.DRIVER) == (pick.profile, pick.mode)


def test_what_is_divided_is_filled_before_what_is_whole() -> None:
    """Several claims and tenants share a GPU, and seven others stay whole; the ninth partition of 1g takes another."""
    book, placer = simulated("hgx-h100"), Placer()
    for number in range(4):
        request = asked(Need("H100", profile="1g.10gb", count=2), tenant=f"t{number % 2}")
        book.decide(placer.grant(book.state, request, f"c{number}"))
    parents = [held.parent for claim in book.state.live_claims() for held in claim.devices]
    assert [1, 7] == sorted(Counter(parents).values())
    whole = placer.dry_run(book.state, asked(Need("H100", count=6)))
    assert not {pick.device for pick in whole.ask.devices} & set(parents)
    with pytest.raises(NotPlacedError) as error:
        placer.dry_run(book.state, asked(Need("H100", count=7)))
    assert ("divided", 2, 6) in [(one.condition, one.removed, one.left) for one in error.value.refusal.conditions]
    blockers = placer.explain(book.state, asked(Need("H100", count=7)), error.value.refusal)
    assert blockers is not None
    assert ["lifecycle.reserved"] == [one.reason for one in blockers], "the GPU with one partition, not that with seven"


def test_partitions_and_whole_gpus_are_asked_for_together() -> None:
    book, placer = simulated("hgx-h100"), Placer()
    request = asked(
        Need("H100", count=7, mode=Mode.DRIVER),
        Need("H100", profile="3g.40gb"),
        Need("H100", profile="1g.10gb", count=3),
        affinity=Affinities(nvlink=Affinity.NONE),
    )
    book.decide(placer.grant(book.state, request, "c1"))
    assert 11 == len(book.state.claims["c1"].devices)
    with pytest.raises(NotPlacedError):
        placer.dry_run(book.state, asked(Need("H100", profile="2g.20gb")))
    placer.dry_run(book.state, asked(Need("H100", profile="1g.10gb")))


def test_a_gang_has_partitions_on_every_node_that_has_room() -> None:
    book, placer = simulated("hgx-h100", 2), Placer()
    request = asked(Need("H100", profile="3g.40gb", count=2), instances=16, per_node=8)
    book.decide(placer.grant(book.state, request, "c1"))
    assert 32 == len(book.state.claims["c1"].devices)
    with pytest.raises(NotPlacedError):
        placer.dry_run(book.state, asked(Need("H100", profile="3g.40gb")))

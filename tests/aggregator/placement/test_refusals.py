"""A refusal says what each condition removed, who came nearest, and what would have to change."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.ledger import claims, cleaning
from aggregator.ledger.entries import CheckpointShown, GenerationBegun, NodeSeen, QuotaSet, Tainted, VariantSet
from aggregator.ledger.model import Quota, Variant
from aggregator.placement.catalog import CatalogError
from aggregator.placement.edits import (
    AddAmount,
    AddNode,
    Clean,
    DrainNode,
    FreeDevice,
    Hypothesis,
    OpenNode,
    ReleaseClaim,
    RemoveTaint,
    SetQuota,
)
from aggregator.placement.explain import irreducible
from aggregator.placement.index import Index
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.refusal import Refusal
from aggregator.placement.request import (
    Affinities,
    Affinity,
    ContradictionError,
    Isolation,
    Need,
    Request,
    UnknownNameError,
)
from aggregator.placement.whatif import what_if, what_if_then
from schemas.device import DeviceKind
from tests.aggregator.ledger.rig import opened, settle
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import Spec, asked, build, cordon, grant, name_variants, silence, simulated


@pytest.fixture
def book() -> Book:
    found = Book()
    name_variants(found)
    build(found, "n1", [Spec("V100"), Spec("V100", lifecycle="dirty"), Spec("V100", taint="xid")], vcpus=8)
    build(found, "n2", [Spec("V100", lifecycle="held:t2:passthrough"), Spec("V100"), Spec("H100")], vcpus=8)
    build(found, "n3", [Spec("V100"), Spec("V100"), Spec("V100")], vcpus=8)
    return found


def refused(book: Book, request: Request) -> Refusal:
    with pytest.raises(NotPlacedError) as error:
        Placer().place(book.state, request)
    return error.value.refusal


def told(refusal: Refusal) -> list[tuple[str, int, int]]:
    return [(one.condition, one.removed, one.left) for one in refusal.conditions]


def test_each_condition_is_counted_in_the_order_of_the_filters(book: Book) -> None:
    cordon(book, "n3")
    refusal = refused(book, asked(Need("V100", count=3)))
    expected = [
        ("matching", 0, 8),
        ("lifecycle.dirty", 1, 7),
        ("lifecycle.reserved", 1, 6),
        ("taint.xid", 1, 5),
        ("node.cordoned", 3, 2),
        ("count", 3, 0),
    ]
    assert (expected, "n3") == (told(refusal), refusal.nearest)


def test_counts_are_the_same_with_and_without_a_walk_over_the_fleet(book: Book) -> None:
    silence(book, "n3")
    by_variant = told(refused(book, asked(Need("V100", count=3), tolerations=["other"])))
    walked = told(refused(book, asked(Need("V100", count=3, where="device.kind == 'gpu'"))))
    assert by_variant == walked
    tolerant = {one for one, _, _ in told(refused(book, asked(Need("V100", count=3), tolerations=["xid"])))}
    assert "taint.xid" not in tolerant


def test_counts_follow_the_ledger_as_it_changes(book: Book) -> None:
    placer = Placer()
    request = asked(Need("V100", count=4))
    for _ in range(2):
        with pytest.raises(NotPlacedError) as error:
            placer.place(book.state, request)
        fresh = refused(book, request)
        assert fresh == error.value.refusal
        grant(book, placer, asked(Need("V100")), f"c{book.state.sequence}")


def test_amounts_and_selectors_are_conditions_of_nodes(book: Book) -> None:
    book.write([NodeSeen("n1", labels={"rack": "a"})])
    request = asked(Need("V100"), amounts={"vcpus": 9}, where="node.labels['rack'] == 'a'")
    assert [("matching", 0, 8), ("node.selector", 5, 3)] == told(refused(book, request))[:2]
    assert ("amount.vcpus", 1, 0) in told(refused(book, request))


def blockers(book: Book, request: Request) -> Any:
    return Placer().explain(book.state, request, refused(book, request))


@pytest.mark.parametrize(
    ("request_", "edits"),
    [
        (asked(Need("V100"), amounts={"vcpus": 9}), [AddAmount("n1", "vcpus", 1)]),
        (asked(Need("H100"), Need("V100", count=2)), [FreeDevice("n2/0")]),
        (
            asked(Need("V100", count=3), where="node.name == 'host-n1'"),
            [RemoveTaint("n1", "xid", "n1/2"), FreeDevice("n1/1")],
        ),
        (asked(Need("V100", count=4)), None),
    ],
)
def test_blockers_are_facts_that_an_edit_ends(book: Book, request_: Request, edits: list[Any] | None) -> None:
    found = blockers(book, request_)
    assert edits == (None if found is None else [_numbered(book, one.edit) for one in found])


def _numbered(book: Book, edit: Any) -> Any:
    """Give an edit that names devices by node and number."""
    if not getattr(edit, "device", ""):
        return edit
    device = book.state.devices[edit.device]
    number = [one.id for one in book.state.devices_of(device.node)].index(device.id)
    return msgspec.structs.replace(edit, device=f"{device.node}/{number}")


def test_a_cordon_and_a_quota_are_blockers_together(book: Book) -> None:
    cordon(book, "n3")
    book.write([QuotaSet(Quota("t1", {"devices": 2}))])
    assert [OpenNode("n3"), SetQuota("t1", "devices", 3)] == [
        one.edit for one in blockers(book, asked(Need("V100", count=3)))
    ]


def test_the_nearest_node_is_one_that_can_at_all() -> None:
    """Of whole groups on one socket a node of two sockets has enough devices, and never where they are needed."""
    book = Book()
    name_variants(book)
    build(book, "n1", [Spec("V100", numa=0), Spec("V100", numa=1)])
    build(book, "n2", [Spec("V100", numa=0), Spec("V100", numa=0, lifecycle="dirty")])
    request = asked(Need("V100", count=2), isolation=Isolation.WHOLE_GROUP, affinity=Affinities(numa=Affinity.REQUIRE))
    assert "n2" == refused(book, request).nearest
    assert ["lifecycle.dirty"] == [one.reason for one in blockers(book, request)]


def test_nobody_is_sent_away_where_cleaning_would_do() -> None:
    """The nearest node is short of one device, which somebody has; the other of two, which are nobody's."""
    book = Book()
    name_variants(book)
    build(book, "n1", [Spec("V100"), Spec("V100", lifecycle="held:t2:passthrough")])
    build(book, "n2", [Spec("V100", lifecycle="dirty"), Spec("V100", lifecycle="dirty")])
    request = asked(Need("V100", count=2))
    assert ("n1", 1) == (refused(book, request).nearest, refused(book, request).missing)
    assert [("lifecycle.dirty", "n2")] * 2 == [(one.reason, one.node) for one in blockers(book, request)]
    only = asked(Need("V100", count=2), where='node.name == "host-n1"')
    assert ["lifecycle.reserved"] == [one.reason for one in blockers(book, only)]


def test_irreducible_leaves_out_the_earlier_of_two_that_do_equally_well() -> None:
    assert [7, 9] == irreducible(range(10), lambda kept: bool({3, 7} & {*kept}) and 9 in kept)


# --- what if ----------------------------------------------------------------------------------------------------------


def test_a_node_that_is_added_is_known_whatever_the_ledgers_generation(book: Book) -> None:
    generation = 1_795_000_000
    book.write([GenerationBegun(generation), *(CheckpointShown(node, generation) for node in book.state.nodes)])
    answer = what_if(Placer(), book.state, [AddNode("n3", 2)], asked(Need("V100", count=3)))
    assert (1, 3) == (answer.before.fits, answer.after.fits)


def test_a_refusal_calls_the_nearest_node_by_its_name(book: Book) -> None:
    cordon(book, "n3")
    refusal = refused(book, asked(Need("V100", count=3)))
    assert "n3" == refusal.nearest
    assert refusal.message.endswith("nearest is node host-n3")
    assert "host-n3" == refusal.nearest_name
    (blocker,) = Placer().explain(book.state, asked(Need("V100", count=3)), refusal) or []
    assert ("n3", "host-n3") == (blocker.node, blocker.node_name)
    assert blocker.message.startswith("node host-n3 is cordoned")


def test_a_name_that_two_nodes_have_is_told_with_the_id(book: Book) -> None:
    cordon(book, "n3")
    book.write([NodeSeen("n9", "host-n3", {})])
    request = asked(Need("V100", count=3))
    refusal = refused(book, request)
    assert refusal.message.endswith("nearest is node host-n3 (n3)")
    (blocker,) = Placer().explain(book.state, request, refusal) or []
    assert blocker.message.startswith("node host-n3 (n3) is cordoned")
    book.write([NodeSeen("n9", "another", {})])
    assert refused(book, request).message.endswith("nearest is node host-n3")


def test_what_if_compares_and_changes_nothing(book: Book) -> None:
    digest, placer = book.state.digest(), Placer()
    answer = what_if(placer, book.state, [AddNode("n3", 2)], asked(Need("V100", count=3)))
    assert (1, 3) == (answer.before.fits, answer.after.fits)
    answer = what_if(placer, book.state, [DrainNode("n3"), Clean("n1")], asked(Need("V100", count=2)))
    assert (True, True) == (answer.before.placement is not None, answer.after.placement is not None)
    assert ("n3", "n1") == tuple(
        one.placement.instances[0].node for one in (answer.before, answer.after) if one.placement
    )
    assert digest == book.state.digest()
    assert 1 == len(placer.place(book.state, asked(Need("V100", count=3))).instances)  # the index is as it was


def test_what_if_a_claim_were_over(book: Book) -> None:
    claim = next(iter(book.state.live_claims())).id
    request = asked(Need("V100", count=2), where="node.name == 'host-n2'")
    answer = what_if(Placer(), book.state, [ReleaseClaim(claim)], request)
    assert (0, 1) == (answer.before.fits, answer.after.fits)
    assert "t2" in book.state.tenants
    answer = what_if(Placer(), book.state, [DrainNode("host-n2")], request)
    assert [claim] == answer.displaced


def test_what_if_of_another_state_is_asked_alike(book: Book) -> None:
    request = asked(Need("V100", count=3))
    assert what_if(Placer(), book.state, [DrainNode("n3")], request) == what_if_then(
        book.state, [DrainNode("n3")], request
    )


@pytest.mark.parametrize("edit", [DrainNode("n33"), ReleaseClaim("c"), FreeDevice("gpu-x"), AddNode("n33")])
def test_an_edit_of_what_there_is_not_is_refused(book: Book, edit: Any) -> None:
    with pytest.raises(UnknownNameError):
        Hypothesis(book.state).apply([edit])


def test_marks_of_one_rule_by_two_alerts_are_one_blocker(book: Book) -> None:
    device = next(one for one in book.state.devices_of("n1") if one.taints)
    (mark,) = device.taints.values()
    book.write([Tainted(device.node, device.id, msgspec.structs.replace(mark, alert=alert)) for alert in ("f1", "f2")])
    request = asked(Need("V100", count=3), where="node.name == 'host-n1'")
    assert ["taint.xid", "lifecycle.dirty"] == [one.reason for one in blockers(book, request)]


# --- the index --------------------------------------------------------------------------------------------------------


def test_only_nodes_that_changed_are_looked_at_again(book: Book) -> None:
    placer = Placer()
    before = dict(placer.index(book.state).nodes)
    device = next(one for one in book.state.devices_of("n1") if one.taints)
    book.decide(cleaning.retire(book.state, [device.id], "op", "broken"))
    after = placer.index(book.state).nodes
    assert {"n1"} == {name for name in after if after[name] is not before[name]}


def test_an_index_that_followed_equals_one_that_is_new(book: Book) -> None:
    placer = Placer()
    for number in range(3):
        grant(book, placer, asked(Need("V100")), f"c{number}")
    book.decide(claims.release(book.state, "c1", who="op"))
    cordon(book, "n2")
    followed, new = placer.index(book.state), Index(book.state)
    new.refresh()

    def counts(index: Index) -> Any:
        return {
            (len(layout.seats), layout.seats): {word: numbers for word, numbers in words.items() if any(numbers)}
            for layout, words in index.counts.items()
        }

    assert counts(new) == counts(followed)
    assert {name: one.masks for name, one in new.nodes.items()} == {
        name: one.masks for name, one in followed.nodes.items()
    }


def test_a_variant_that_changes_is_another_one_at_once(book: Book) -> None:
    placer = Placer()
    request = asked(Need("H100", count=3))
    with pytest.raises(NotPlacedError):
        placer.place(book.state, request)
    book.write([VariantSet(Variant("H100", DeviceKind.GPU, "10de", "1db4"))])
    assert "n3" == placer.place(book.state, request).instances[0].node


async def test_the_index_keeps_up_without_a_request_and_with_a_ledger_that_was_read_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        placer = Placer()
        task = asyncio.create_task(placer.keep_up(ledger))
        try:
            await _until(lambda: {"n0", "n1"} == placer.looked_at)
            await ledger._build_again()
            await _until(lambda: {"n0", "n1"} == placer.looked_at and 1 == len(ledger.peek().listeners))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asked(Need("V100"), where='node.name == "n9"'), 'no node fits --where node.name == "n9"'),
        (asked(Need("H100", profile="9g.90gb")), "needs[0]: no GPU of variant H100 says that it can be divided"),
        (asked(Need("V100", count=9)), "no node can hold this, even if all of it were free"),
    ],
)
def test_what_never_can_be_is_told_by_what_is_wrong_with_it(book: Book, request_: Request, words: str) -> None:
    assert words in refused(book, request_).message


def test_profile_and_variant_that_there_are_not_are_told_with_near_names() -> None:
    book = simulated("hgx-h100")
    book.write([VariantSet(Variant("new", DeviceKind.GPU, "10de", "ffff"))])
    assert (
        "has the profile '2g.20g'. Did you mean '2g.20gb'"
        in refused(book, asked(Need("H100", profile="2g.20g"))).message
    )
    assert "needs[0]: there is no device of variant new on any node" == refused(book, asked(Need("new"))).message
    nothing = refused(book, asked(Need(where="device.kind == 'gp'"))).message
    assert nothing.startswith("needs[0]: no device of any node fits device.kind == 'gp'")


def test_change_that_nobody_can_mean_is_refused(book: Book) -> None:
    request = asked(Need("V100"))
    with pytest.raises(CatalogError, match="Did you mean 'claims'"):
        what_if(Placer(), book.state, [SetQuota("t1", "claim", 3)], request)
    with pytest.raises(ContradictionError, match="node host-n1 cannot be both"):
        what_if(Placer(), book.state, [DrainNode("n1"), OpenNode("host-n1")], request)

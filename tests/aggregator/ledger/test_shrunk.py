"""A node that tells less than claims hold of it is marked, and the mark goes when what they hold fits again."""

from functools import partial
from pathlib import Path

import pytest

from aggregator import claim_events
from aggregator.ledger import claims, shrunk
from aggregator.ledger.asks import Ask, objections
from aggregator.ledger.entries import RatioSet
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.marks import Target, taint
from aggregator.ledger.model import Taint
from aggregator.ledger.words import SHRUNK, Effect
from aggregator.marking import Marking
from aggregator.node_life import Life, life
from aggregator.placement import catalog
from schemas.device import DeviceKind, Document, Part
from tests.aggregator.ledger.rig import opened
from tests.aggregator.ledger.worlds import Book, begin

ASK = Ask("t1", "vm", amounts={"n1": {"vcpus": 40}})


def told(cores: int) -> Sighting:
    """Make what a node says of itself."""
    document = Document("node", DeviceKind.NODE, [], part=Part(), capabilities={"cores": cores})
    return Sighting("n1", "n1", "host", document, "b1")


@pytest.fixture
def book() -> Book:
    """A node of 48 cores, 40 of them given."""
    made = Book()
    begin(made)
    made.decide(claims.grant(made.state, ASK, "c-1"))
    return made


def shrink(book: Book, cores: int) -> None:
    book.write(observe(book.state, told(cores)))


def mark(book: Book) -> str:
    found = book.state.nodes["n1"].taints.get(SHRUNK)
    return "" if found is None else found.evidence


def test_a_total_below_what_is_given_marks_the_node(book: Book) -> None:
    shrink(book, 40)
    assert "" == mark(book), "what is given fits still"
    shrink(book, 8)
    assert "claims hold 40 vcpus, and the node has 8 to give" == mark(book)
    assert Effect.NO_SCHEDULE is book.state.nodes["n1"].taints[SHRUNK].effect
    asked = Ask("t2", "vm", amounts={"n1": {"memory_bytes": 1}})
    assert [f"taint.{SHRUNK}"] == [one.reason for one in objections(book.state, asked)], "of the other amount as well"
    assert book.state.claims["c-1"].amounts == ASK.amounts, "nothing is taken from the claim"


def test_each_total_that_is_told_while_marked_is_the_evidence(book: Book) -> None:
    shrink(book, 8)
    since = book.state.nodes["n1"].taints[SHRUNK].since_ns
    shrink(book, 6)
    assert "claims hold 40 vcpus, and the node has 6 to give" == mark(book)
    assert since == book.state.nodes["n1"].taints[SHRUNK].since_ns
    shrink(book, 48)
    assert "" == mark(book)


@pytest.mark.parametrize("by", ["claim", "ratio"])
async def test_the_mark_goes_when_what_is_given_fits_again(tmp_path: Path, by: str) -> None:
    async with opened(tmp_path / "ledger.db") as ledger:
        book = Book()
        begin(book)
        await ledger.decide(lambda _: ([one.entry for one in book.written], None))
        await ledger.decide(partial(claims.grant, ask=ASK, claim="c-1"))
        await ledger.decide(lambda state: (observe(state, told(20)), None))
        marking = Marking(ledger)
        await marking.tick()
        assert SHRUNK in ledger.peek().nodes["n1"].taints
        if by == "claim":
            await ledger.decide(partial(claims.release, claim="c-1"))
        else:
            await ledger.decide(lambda _: ([RatioSet("vcpus", 2.0)], None))
        await marking.tick()
        assert {} == ledger.peek().nodes["n1"].taints
        after = ledger.peek().sequence
        await marking.tick()
        assert after == ledger.peek().sequence, "once"


async def test_a_lower_policy_of_over_commit_marks_the_nodes_that_gave_more(tmp_path: Path) -> None:
    """Nothing is taken from anybody; nodes where it fits still are left, and the mark goes by itself."""
    async with opened(tmp_path / "ledger.db") as ledger:
        book = Book()
        begin(book)
        begin(book, "n2")
        await ledger.decide(lambda _: ([one.entry for one in book.written], None))
        await ledger.decide(partial(catalog.set_ratio, amount="vcpus", ratio=4.0, who="op"))
        for number, (node, vcpus) in enumerate((("n1", 40), ("n1", 60), ("n1", 9), ("n2", 40))):
            ask = Ask("t1", "vm", amounts={node: {"vcpus": vcpus}})
            await ledger.decide(partial(claims.grant, ask=ask, claim=f"c-{number}"))
        marking = Marking(ledger)
        await marking.tick()
        begun = ledger.peek().sequence
        await ledger.decide(partial(catalog.set_ratio, amount="vcpus", ratio=1.0, who="op"))
        await marking.tick()
        nodes = ledger.peek().nodes
        assert ["claims hold 109 vcpus, and the node has 48 to give"] == [
            mark.evidence for mark in nodes["n1"].taints.values()
        ]
        assert ({}, 109) == (nodes["n2"].taints, nodes["n1"].used["vcpus"])
        assert {"shrunk": "claims hold 109 vcpus, and the node has 48 to give"} == life_of(ledger, "n1").marks
        await ledger.decide(partial(claims.release, claim="c-2"))
        await marking.tick()
        await ledger.decide(partial(catalog.set_ratio, amount="vcpus", ratio=1.5, who="op"))
        await marking.tick()
        await ledger.decide(partial(claims.release, claim="c-0"))
        await marking.tick()
        assert {} == nodes["n1"].taints
        told = claim_events.events_of(ledger.peek(), await ledger.entries(begun))
        assert [
            ("node.overcommit_began", "n1", "claims hold 109 vcpus, and the node has 48 to give"),
            ("node.overcommit_began", "n1", "claims hold 100 vcpus, and the node has 72 to give"),
            ("node.overcommit_ended", "n1", "what claims hold fits again"),
        ] == [(one.type, one.subject, one.message) for one in told]


def life_of(ledger: Ledger, node: str) -> Life:
    found = life(ledger.peek(), node)
    assert found is not None
    return found


def test_a_persons_mark_of_that_name_is_theirs_to_take_off(book: Book) -> None:
    book.decide(taint(book.state, Target("n1"), Taint(SHRUNK, Effect.DRAIN, "mine", "token:ann", 1)))
    shrink(book, 8)
    assert "mine" == mark(book)
    shrink(book, 48)
    assert "mine" == mark(book)
    assert not shrunk.is_due(book.state, "n1")

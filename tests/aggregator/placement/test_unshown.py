"""After a ledger was lost or made anew, only nodes that have shown what they keep are placed on."""

import pytest

from aggregator.ledger import restoring
from aggregator.ledger.asks import Ask, objections
from aggregator.placement.edits import NodeSpeaks
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Need
from aggregator.placement.whatif import what_if
from schemas.claims import Checkpoint
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import Spec, asked, build, name_variants


@pytest.fixture
def book() -> Book:
    """Two nodes with a GPU each, of a ledger that was made anew; neither has shown anything."""
    made = Book()
    name_variants(made)
    for node in ("n1", "n2"):
        build(made, node, [Spec("V100")])
    made.decide(restoring.begin_generation(made.state, 0, "lost"))
    return made


@pytest.mark.parametrize("shown", ["n1", "n2"])
def test_the_node_that_has_shown_what_it_keeps_is_chosen(book: Book, shown: str) -> None:
    """Whoever was given something on the other one has it still: it is no candidate, and in nobody's way."""
    book.decide(restoring.show(book.state, [shown], Checkpoint(0, 0, [])))
    placer, request = Placer(), asked(Need("V100"))
    assert [shown] == [one.node for one in placer.dry_run(book.state, request).instances]
    book.decide(placer.grant(book.state, request, "c1"))
    with pytest.raises(NotPlacedError):
        placer.grant(book.state, request, "c2")


def test_refusal_counts_them_names_the_blocker_and_the_edit_that_ends_it(book: Book) -> None:
    placer, request = Placer(), asked(Need("V100", count=1), where="node.name == 'host-n1'")
    with pytest.raises(NotPlacedError) as refused:
        placer.place(book.state, request)
    assert ("reach.unverified", 1) in [(one.condition, one.removed) for one in refused.value.refusal.conditions]
    (blocker,) = placer.explain(book.state, request, refused.value.refusal) or []
    assert ("reach.unverified", NodeSpeaks("n1")) == (blocker.reason, blocker.edit)
    told = what_if(placer, book.state, [blocker.edit], request)
    assert (False, True) == (told.before.refusal is None, told.after.refusal is None)


def test_an_index_that_was_there_before_follows(book: Book) -> None:
    """The generation begins while placement is at work, and nodes show themselves one after the other."""
    placer, request = Placer(), asked(Need("V100"))
    for node in ("n2", "n1"):
        with pytest.raises(NotPlacedError):
            placer.place(book.state, request)
        book.decide(restoring.show(book.state, [node], Checkpoint(0, 0, [])))
        assert [node] == [one.node for one in placer.place(book.state, request).instances]
        book.decide(placer.grant(book.state, request, f"c-{node}"))


def test_amounts_of_a_node_that_has_not_shown_what_it_keeps_are_given_to_nobody(book: Book) -> None:
    """Whoever was given them by the ledger that was lost computes with them still."""
    placer, request = Placer(), asked(amounts={"vcpus": 40})
    ask = Ask("t1", "vm", amounts={"n1": {"vcpus": 40}})
    assert ["reach.unverified"] == [one.reason for one in objections(book.state, ask)]
    with pytest.raises(NotPlacedError) as refused:
        placer.place(book.state, request)
    refusal = refused.value.refusal
    assert [("reach.unverified", 2, 0)] == [(one.condition, one.removed, one.left) for one in refusal.conditions]
    assert 0 == what_if(placer, book.state, [], request).before.fits
    (blocker,) = placer.explain(book.state, request, refusal) or []
    assert ("reach.unverified", NodeSpeaks("n1")) == (blocker.reason, blocker.edit)
    book.decide(restoring.show(book.state, ["n2"], Checkpoint(0, 0, [])))
    assert ["n2"] == [one.node for one in placer.place(book.state, request).instances]
    book.decide(placer.grant(book.state, request, "c1"))
    with pytest.raises(NotPlacedError):
        placer.grant(book.state, request, "c2")

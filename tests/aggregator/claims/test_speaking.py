"""Which nodes a publisher speaks for, whatever runs begin: as who goes through all of them would say."""

from hypothesis import given
from hypothesis import strategies as st

from aggregator.ledger.entries import NodeRun, NodeSeen
from aggregator.speaking import Speaking
from tests.aggregator.ledger.worlds import Book

RUNS = st.lists(st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.sampled_from(["n1", "p1", "p2"]), st.booleans()))


@given(RUNS)
def test_kept_from_changes_is_what_the_state_says(runs: list[tuple[str, str, bool]]) -> None:
    book, speaking = Book(), Speaking()
    for number, (node, publisher, asked) in enumerate(runs):
        if node not in book.state.nodes:
            book.write([NodeSeen(node)])
        book.write([NodeRun(node, publisher, f"epoch-{number}", "b1")])
        if asked:
            assert node in speaking.changed(book.state)
    speaking.changed(book.state)
    for publisher in ("n1", "p1", "p2"):
        said = {one.id for one in book.state.nodes.values() if one.publisher == publisher}
        assert said == set(speaking.of(publisher))
    assert [] == speaking.changed(book.state)

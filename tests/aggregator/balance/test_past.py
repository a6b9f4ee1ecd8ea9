"""What is remembered of settled runs, and of those that are forgotten."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from aggregator.past import Past, PastLine, Places, Standing
from aggregator.progress import Tracker
from aggregator.store import Progress, Run, Stream
from schemas.verbosity import Level, RowClass

LINE = PastLine(RowClass.LOG, Level.DEBUG, Places(produced=3, numbered=2, folded=1, done=1, dropped={"expired": 1}))


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 2**62), min_size=1, max_size=40), st.integers(1, 50))
def test_the_newest_runs_are_remembered_and_no_other(ends: dict[str, int], remember: int) -> None:
    past = Past("n1")
    for epoch, ended_ns in ends.items():
        past = past.settle(epoch, ended_ns, (), remember)

    known = list(ends.items())[-remember:]
    forgotten = [ended for epoch, ended in ends.items() if (epoch, ended) not in known]
    assert dict(known) == {epoch: past.ended_ns(epoch) for epoch, _ in known}
    assert all(past.ended_ns(epoch) is None for epoch in ends.keys() - dict(known).keys())
    assert max(forgotten, default=None) == past.forgotten_ns


def test_counts_are_added_and_what_was_given_before_stays_as_it_was() -> None:
    first = Past("n1").settle("a", 1, [LINE])
    second = first.settle("b", 2, [LINE, PastLine(RowClass.EVENT, Level.ESSENTIAL, Places(done=9))])

    assert [LINE] == first.lines
    assert {"expired": 1} == LINE.places.dropped
    [log, event] = second.lines
    assert (6, 4, 2, 2, {"expired": 2}) == (
        log.places.produced,
        log.places.numbered,
        log.places.folded,
        log.places.done,
        log.places.dropped,
    )
    assert 9 == event.places.done


@pytest.mark.parametrize(
    ("epoch", "appended_ns", "age_ns", "known", "expected"),
    [
        ("b", 200, 0, False, Standing.REPEATED),
        ("b", 201, 0, False, Standing.SETTLED),
        ("a", 300, 200, False, Standing.FORGOTTEN),
        ("a", 300, 200, True, Standing.NEW),
        ("new", 300, 199, False, Standing.NEW),
        ("new", 100, 0, False, Standing.FORGOTTEN),
    ],
)
def test_what_a_batch_is(epoch: str, appended_ns: int, age_ns: int, known: bool, expected: Standing) -> None:
    past = Past("n1").settle("a", 100, (), 1).settle("b", 200, (), 1)
    assert expected == past.standing(epoch, appended_ns, age_ns, known=known)


def test_a_forgotten_run_that_came_is_remembered_again() -> None:
    past = Past("n1").settle("a", 100, (), 1).settle("b", 200, (), 1)
    tracker = Tracker(Progress(pasts=[past]))
    stream = Stream("n1", "a", RowClass.LOG, Level.DEBUG)
    assert Standing.FORGOTTEN == tracker.standing(stream, 300, 250)

    tracker.remember(Run("n1", "a"))

    assert Standing.SETTLED == tracker.standing(stream, 300, 250)
    assert Tracker(tracker.take_changes("log")).is_settled("n1", "a")

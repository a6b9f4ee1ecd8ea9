"""A frozen tracker stays what it was, and costs next to nothing: it is made on the event loop, for every balance."""

import time
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregator.progress import Tracker
from aggregator.store import Outcome, Run, Stream
from schemas.verbosity import Level, RowClass

MANY = [Stream(f"n{number}", "e1", RowClass.LOG, Level.DEBUG) for number in range(2000)]
STEP = st.tuples(st.sampled_from(MANY[:3]), st.integers(0, 20), st.integers(1, 5), st.sampled_from(Outcome))


def ended(tracker: Tracker) -> dict[tuple[Stream, Outcome], list[tuple[int, int]]]:
    """Give how all rows ended."""
    places = [(stream, outcome) for stream in tracker.streams() for outcome in Outcome]
    return {place: pairs for place in places if (pairs := tracker.outcome(*place).pairs())}


@given(st.lists(STEP | st.none(), max_size=30))
def test_what_happens_after_freezing_is_in_the_tracker_and_not_in_its_copies(steps: list[Any]) -> None:
    """None: freeze; else rows are marked, and every fifth time corrected or forgotten."""
    tracker, copies = Tracker(), []
    for number, step in enumerate(steps):
        if step is None:
            copies.append((frozen := tracker.frozen({}), ended(tracker)))
            assert ended(frozen) == ended(tracker)
            continue
        stream, first, rows, outcome = step
        tracker.mark(stream, first, first + rows, outcome)
        if number % 5 == 4:
            tracker.correct(stream, [(first, first + 1)], Outcome.QUARANTINED)
        elif number % 7 == 6:
            tracker.settle(Run(stream.publisher, stream.epoch), 1, ())
    for copy, before in copies:
        assert before == ended(copy)


def test_freezing_many_streams_costs_a_fraction_of_copying_their_rows() -> None:
    """It is done on the event loop, for every balance; the rows are copied as they change."""
    tracker = Tracker()
    for stream in MANY:
        tracker.mark(stream, 0, 5, Outcome.DONE)

    def took(work: Callable[[], object]) -> float:
        began = time.process_time()
        for _ in range(5):
            work()
        return time.process_time() - began

    def copied() -> object:
        return [{one: rows.copy() for one, rows in ways.items()} for ways in tracker._outcomes.values()]

    assert took(lambda: tracker.frozen({})) < took(copied) / 4

"""The balance: every number in one place, the first that holds it (promise 2; R001-15)."""

from collections.abc import Iterable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from aggregator.balance import Line, make_balance
from aggregator.progress import Tracker, merge_accounts
from aggregator.store import Outcome, Stream
from aggregator.unread import Unread
from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.batch import Envelope
from schemas.intervals import Interval
from schemas.verbosity import Level, RowClass

STREAM = Stream("n1", "e1", RowClass.TELEMETRY, Level.STANDARD)
NOW = 1_800_000_000_000_000_000


def word(
    numbered: int,
    spooled: list[Interval],
    *,
    number: int = 1,
    epoch: str = "e1",
    dropped: list[Dropped] | None = None,
    filtered: int = 0,
    before: list[EpochAccount] | None = None,
) -> Account:
    stream = StreamAccount(
        RowClass.TELEMETRY, Level.STANDARD, numbered + filtered, filtered, 0, numbered, spooled, dropped or []
    )
    return Account(number, [EpochAccount(epoch, "boot", [stream]), *(before or [])])


def line_of(tracker: Tracker, unread: Iterable[Envelope] = (), **more: Any) -> Line:
    waiting = Unread()
    for envelope in unread:
        waiting.note(envelope, NOW)
    [line] = make_balance({"store": tracker}, {"store": waiting}, now_ns=NOW, **more).lines
    return line


def test_each_number_is_in_one_place() -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(100, [(80, 100)], dropped=[Dropped("spool_full", [(60, 70)])], filtered=7))
    tracker.mark(STREAM, 0, 40, Outcome.DONE)
    tracker.mark(STREAM, 40, 45, Outcome.FILTERED)
    tracker.mark(STREAM, 45, 50, Outcome.QUARANTINED)
    unread = [Envelope("n1", "e1", RowClass.TELEMETRY, Level.STANDARD, 50, 10, 5)]

    line = line_of(tracker, unread=unread, quarantined=[(STREAM, (70, 75))], expired={"store": [(STREAM, (75, 80))]})

    assert (line.produced, line.filtered_at_source, line.numbered) == (107, 7, 100)
    assert (line.done, line.filtered, line.quarantined, line.in_log, line.expired) == (40, 5, 10, 10, 5)
    assert (line.dropped, line.spooled, line.stranded, line.unaccounted) == ({"spool_full": 10}, 20, 0, 0)


def test_a_row_that_nobody_has_is_unaccounted() -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(10, [(5, 10)]))
    tracker.mark(STREAM, 0, 4, Outcome.DONE)

    balance = make_balance({"store": tracker}, {}, now_ns=NOW)

    assert [line.unaccounted for line in balance.lines] == [1]
    assert (balance.closed, balance.settled) == (False, False)


def test_a_publisher_whose_own_sum_does_not_hold_is_seen() -> None:
    tracker = Tracker()
    stream = StreamAccount(RowClass.TELEMETRY, Level.STANDARD, 12, 1, 0, 10, [(0, 10)], [])
    tracker.hear("n1", "e1", NOW, Account(1, [EpochAccount("e1", "boot", [stream])]))

    assert line_of(tracker).unaccounted == 1


def test_what_is_done_counts_as_done_though_the_last_word_still_said_spooled() -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(10, [(0, 10)]))
    tracker.mark(STREAM, 0, 10, Outcome.DONE)

    line = line_of(tracker)

    assert (line.done, line.spooled) == (10, 0)


def test_rows_of_a_run_that_no_live_one_names_are_stranded_and_after_writing_off_lost() -> None:
    """A spool was deleted: its rows are shown, not forgotten."""
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(10, [(6, 10)]))
    tracker.mark(STREAM, 0, 6, Outcome.DONE)
    tracker.hear("n1", "e2", NOW + 1, word(3, [], epoch="e2"))
    tracker.mark(Stream("n1", "e2", RowClass.TELEMETRY, Level.STANDARD), 0, 3, Outcome.DONE)

    assert (line_of(tracker).stranded, line_of(tracker).unaccounted) == (4, 0)
    written_off = {("n1", "e1")}
    assert (line_of(tracker, written_off=written_off).lost, line_of(tracker, written_off=written_off).stranded) == (
        4,
        0,
    )


def test_what_a_publisher_that_was_given_up_still_had_is_lost_and_nobody_waits_for_it() -> None:
    """Its last run was written off like those before: no live one speaks for its spool (promise 2)."""
    tracker = Tracker()
    tracker.hear("n1", "e2", NOW, word(10, [(4, 10)], epoch="e2", before=word(8, [(6, 8)]).epochs))
    tracker.mark(Stream("n1", "e2", RowClass.TELEMETRY, Level.STANDARD), 0, 4, Outcome.DONE)
    tracker.mark(STREAM, 0, 6, Outcome.DONE)

    balance = make_balance({"store": tracker}, {}, written_off={("n1", "e1"), ("n1", "e2")}, now_ns=NOW)
    [line] = balance.lines

    assert (10, 0, 0, 8, 0) == (line.done, line.spooled, line.stranded, line.lost, line.unaccounted)
    assert balance.settled
    tracker.hear("n1", "e3", NOW, word(0, [], epoch="e3", before=word(8, [(6, 8)]).epochs))
    again = line_of(tracker, written_off={("n1", "e1"), ("n1", "e2")})
    assert (2, 6) == (again.spooled, again.lost)


def test_rows_of_an_earlier_run_that_the_live_one_names_are_spooled() -> None:
    tracker = Tracker()
    before = word(10, [(6, 10)]).epochs
    tracker.mark(STREAM, 0, 6, Outcome.DONE)
    tracker.hear("n1", "e2", NOW, word(0, [], epoch="e2", before=before))

    assert (line_of(tracker).spooled, line_of(tracker).stranded) == (4, 0)


def test_a_spool_restored_from_an_older_copy_strands_what_lies_between() -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(1000, [(900, 1000)]))
    tracker.mark(STREAM, 0, 900, Outcome.DONE)
    tracker.hear("n1", "e2", NOW, word(0, [], epoch="e2", before=word(500, [(400, 500)]).epochs))

    line = line_of(tracker)

    assert (line.numbered, line.done, line.stranded, line.unaccounted) == (1000, 900, 100, 0)


def test_dropped_rows_told_once_stay_told() -> None:
    """The publisher repeats them only until it is heard."""
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(10, [(5, 10)], dropped=[Dropped("spool_full", [(0, 5)])]))
    tracker.hear("n1", "e1", NOW, word(10, [(5, 10)], number=2))

    assert line_of(tracker).dropped == {"spool_full": 5}


def test_a_word_that_comes_late_changes_nothing() -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(10, [(5, 10)], number=2))
    tracker.hear("n1", "e1", NOW, word(5, [(0, 5)], number=1))
    tracker.hear("n1", "e2", NOW, word(0, [], epoch="e2", before=word(10, [(5, 10)]).epochs))
    tracker.hear("n1", "e1", NOW, word(7, [(5, 7)], number=3))

    assert tracker.words["n1"].epoch == "e2"


def test_age_of_the_last_word_is_shown() -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW - 5 * 10**9, word(0, [(0, 0)]))

    assert line_of(tracker).word_age_seconds == 5.0


INTERVAL = st.tuples(st.integers(0, 50), st.integers(1, 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))
OUTCOMES = st.lists(st.tuples(INTERVAL, st.sampled_from(Outcome)), max_size=12)


@given(outcomes=OUTCOMES, spooled=st.lists(INTERVAL, max_size=4), dropped=st.lists(INTERVAL, max_size=4),
       unread=st.lists(INTERVAL, max_size=4), numbered=st.integers(0, 70))  # fmt: skip
def test_places_always_add_up_to_what_was_numbered(
    outcomes: list[tuple[Interval, Outcome]],
    spooled: list[Interval],
    dropped: list[Interval],
    unread: list[Interval],
    numbered: int,
) -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(numbered, spooled, dropped=[Dropped("expired", dropped)] if dropped else []))
    for (first, end), outcome in outcomes:
        for low, high in tracker.missing(STREAM, first, end):
            tracker.mark(STREAM, low, high, outcome)
    envelopes = [Envelope("n1", "e1", RowClass.TELEMETRY, Level.STANDARD, low, high - low, 0) for low, high in unread]

    line = line_of(tracker, unread=envelopes)

    places = (line.done, line.filtered, line.quarantined, line.expired, line.in_log, line.spooled, line.stranded)
    assert sum(places) + sum(line.dropped.values()) + line.unaccounted == line.numbered
    covered = {
        n for low, high in (*spooled, *dropped, *unread, *(pair for pair, _ in outcomes)) for n in range(low, high)
    }
    assert line.unaccounted == len(set(range(numbered)) - covered)  # beyond its word, the publisher has them yet


def test_merging_keeps_what_is_not_said_again() -> None:
    known = word(10, [(5, 10)], dropped=[Dropped("spool_full", [(0, 2)])])
    told = word(12, [(8, 12)], number=2, dropped=[Dropped("spool_full", [(2, 4)])])

    merged = merge_accounts(known, told)

    assert merged == word(12, [(8, 12)], number=2, dropped=[Dropped("spool_full", [(0, 4)])])


def test_a_tracker_made_from_what_it_committed_is_the_same() -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(10, [(5, 10)]))
    tracker.mark(STREAM, 0, 5, Outcome.DONE)
    tracker.move("telemetry", 3, 17)
    again = Tracker(tracker.take_changes("log"))

    assert again.positions == {("telemetry", 3): 17}
    assert line_of(again) == line_of(tracker)
    assert not tracker.changed


def test_a_word_that_waits_in_the_log_counts_for_rows_that_overtook_it() -> None:
    """Rows and words travel in different topics: what the store has of a batch may be there before its word."""
    tracker = Tracker()
    tracker.mark(STREAM, 5, 10, Outcome.DONE)
    heartbeat = Envelope("n1", "e1", RowClass.EVENT, Level.ESSENTIAL, 0, 0, 0, account=word(20, [(0, 5), (10, 20)]))

    line = line_of(tracker, unread=[heartbeat])

    assert (20, 5, 15, 0) == (line.numbered, line.done, line.spooled, line.unaccounted)


def test_rows_before_a_later_one_that_no_word_has_told_of_are_still_at_the_publisher() -> None:
    """The newest is sent beside the oldest: until the next word, what lies between is on its way, not missing."""
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(3, [(0, 3)]))
    tracker.mark(STREAM, 0, 3, Outcome.DONE)
    tracker.mark(STREAM, 8, 10, Outcome.DONE)

    line = line_of(tracker)

    assert (10, 5, 5, 0) == (line.numbered, line.done, line.spooled, line.unaccounted)


@pytest.mark.parametrize("reason", ["done", "in_log", "stranded", "lost", "spooled", "unaccounted"])
def test_a_reason_that_is_called_like_a_place_is_a_reason_all_the_same(reason: str) -> None:
    """What a publisher gave up must not pass for what was stored, whatever it calls it."""
    tracker = Tracker()
    tracker.hear("n1", "e1", NOW, word(10, [], dropped=[Dropped(reason, [(0, 4)])]))
    tracker.mark(STREAM, 4, 10, Outcome.DONE)

    line = line_of(tracker)

    assert (6, 4, 0) == (line.done, sum(line.dropped.values()), line.unaccounted)
    assert (0, 0, 0, 0) == (line.in_log, line.stranded, line.lost, line.spooled)


def test_a_word_of_an_ended_run_that_is_found_later_is_late() -> None:
    """Retention kept it aside; by then a new run had spoken, which need not name one that has nothing left."""
    tracker, kept = Tracker(), Tracker()
    kept.hear("n1", "e1", NOW, word(10, [(5, 10)]))
    tracker.hear("n1", "e1", NOW + 1, word(10, [], number=2))
    tracker.hear("n1", "e2", NOW + 2, word(3, [(0, 3)], epoch="e2"))

    tracker.recall(kept.words.values())

    assert "e2" == tracker.words["n1"].epoch

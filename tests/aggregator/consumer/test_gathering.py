"""When a transaction has enough: by rows, by tables, and at once where somebody waits."""

import pytest

from aggregator.gathering import Gathered, Taken
from aggregator.log import Record
from aggregator.store import Rows, Stream
from schemas.batch import Block, Envelope
from schemas.verbosity import Level, RowClass

ROWS = 80


def taken(tables: int = 1, row_class: RowClass = RowClass.TELEMETRY, grant: str = "", fresh: int = ROWS) -> Taken:
    share = ROWS // tables
    blocks = [Block(f"m{at}", "n1", [], [["d"]], [0] * share, 1, [0] * share) for at in range(tables)]
    envelope = Envelope("n1", "epoch", row_class, Level.STANDARD, 0, ROWS, 0, grant=grant)
    rows = Rows("n1", row_class, Level.STANDARD, blocks)
    stream = Stream("n1", "epoch", row_class, Level.STANDARD)
    return Taken(rows, stream, [(0, fresh)], Record(0, 1, b""), envelope)


def gathered(rows: int, *, tables: int = 1) -> Gathered:
    result = Gathered()
    for _ in range(rows // ROWS):
        result.add(taken(tables))
    return result


@pytest.mark.parametrize(
    ("tables", "rows"), [(1, 4_000), (4, 4_000), (5, 5_040), (10, 10_000), (16, 16_000), (40, 16_000)]
)
def test_there_is_enough_with_a_thousand_rows_a_table_within_bounds(tables: int, rows: int) -> None:
    assert not gathered(rows - ROWS, tables=tables).enough
    assert gathered(rows, tables=tables).enough


def test_what_is_full_is_enough_and_nothing_more_is_read() -> None:
    assert not gathered(16_000 - ROWS).full
    assert gathered(16_000, tables=40).full


@pytest.mark.parametrize("urgent", [taken(row_class=RowClass.EVENT), taken(grant="g-1")])
def test_an_event_or_what_somebody_watches_does_not_wait_for_more(urgent: Taken) -> None:
    slow = gathered(4_000, tables=10)
    assert not slow.enough
    slow.add(urgent)
    assert slow.enough


def test_rows_that_were_there_before_do_not_count() -> None:
    result = Gathered()
    for _ in range(100):
        result.add(taken(fresh=1))
    assert not result.enough
    assert 100 == sum(one.fresh for one in result.batches)

"""What was committed of progress, read back and folded."""

from pathlib import Path

from aggregator.store import Position, Progress, Transaction
from tests.aggregator.store.places import DuckPlace


def test_the_position_written_last_counts_also_when_it_is_a_lower_one(tmp_path: Path) -> None:
    """A log put back from an older copy is read from its beginning, under the same id."""
    place = DuckPlace(tmp_path)
    store = place.store()
    store.open()
    for offset in (500, 20, 30):
        store.commit(Transaction([], Progress("log", [Position("telemetry", 3, offset)])))
    store.maintain(1)  # folds
    store.commit(Transaction([], Progress("log", [Position("event", 3, 7)])))

    assert [Position("event", 3, 7), Position("telemetry", 3, 30)] == store.open().positions
    place.close()

"""After a restart the newest values are in memory again, whatever a node's clock says."""

from pathlib import Path

from aggregator.query import SECOND
from aggregator.store_duckdb import DuckStore
from tests.contract.store_rows import CATALOGUE, T0, block, rows_of, transaction

HOUR = 3600


def written(folder: Path) -> Path:
    """Leave a store in which node1 and node2 told something just now, and node3 from an hour ahead."""
    path = folder / "store.duckdb"
    store = DuckStore(path, CATALOGUE)
    store.open()
    blocks = [
        block("gpu", {"power_watts": [1.0, 2.0]}, subject="node1", seconds=[550, 590]),
        block("gpu", {"power_watts": [3.0]}, subject="node2", seconds=[595]),
        block("gpu", {"power_watts": [4.0, 5.0]}, subject="node3", seconds=[600 + HOUR - 10, 600 + HOUR]),
    ]
    store.commit(transaction(rows_of(*blocks)))
    store.close()
    return path


def remembered(path: Path, now_seconds: float) -> tuple[list[float], bool]:
    """Give the last values in memory after opening at that moment, and whether the last 30 s are covered."""
    now = T0 + round(now_seconds * SECOND)
    store = DuckStore(path, CATALOGUE, wall_ns=lambda: now)
    store.open()
    try:
        last = store.view().last
        values = [fields["power_watts"][1] for fields in last.newest("gpu", ("power_watts",)).values() if fields]
        return sorted(values), last.covers(now - 30 * SECOND)
    finally:
        store.close()


def test_a_node_that_is_ahead_hides_nobodys_last_value(tmp_path: Path) -> None:
    assert ([2.0, 3.0, 5.0], True) == remembered(written(tmp_path), 600)


def test_a_clock_that_is_behind_everybodys_still_finds_the_newest(tmp_path: Path) -> None:
    values, _ = remembered(written(tmp_path), -1e6)
    assert [5.0] == values

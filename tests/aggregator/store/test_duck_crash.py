"""SIGKILL at any moment leaves rows, position and seen rows in step, and nothing that was acknowledged is missing."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from aggregator.query import Order, Query
from tests.aggregator.store.places import DuckPlace
from tests.contract.store_rows import column
from tests.needs import REPOSITORY

ROUNDS = 4
"""A few here; `make soak` runs `-k crash --crash-rounds` long enough to matter."""


def run_writer(path: Path, *failpoint: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.aggregator.store.crashing_writer", str(path), *failpoint]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def check(folder: Path, acknowledged: int) -> None:
    """Compare rows, position and seen rows with each other, and with what the writer was told."""
    place = DuckPlace(folder)
    store = place.store()
    progress = store.open()
    offset = progress.positions[0].offset if progress.positions else 0
    query = Query(measurement="oracle", since=0, order=Order.OLDEST, limit=100_000)
    stored = column(place.queries(store).run(query), "number") if offset else []
    assert list(range(offset)) == stored
    assert ([(0, offset)] if offset else []) == [(one.first, one.end) for one in progress.seen]
    assert offset >= acknowledged
    place.close()


def test_killed_at_random_rows_and_position_are_in_step(tmp_path: Path) -> None:
    """R001-6: the same file, killed and reopened again and again."""
    for round_ in range(ROUNDS):
        writer = run_writer(tmp_path / "store.duckdb")
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        wanted = acknowledged + 50 * (5 + 6 * round_)
        while acknowledged < wanted:
            acknowledged = int(writer.stdout.readline())
        time.sleep(0.003 * round_)
        writer.kill()
        rest = [int(line) for line in writer.communicate()[0].split()]
        check(tmp_path, rest[-1] if rest else acknowledged)


@pytest.mark.parametrize(
    ("failpoint", "count", "kept"),
    [
        ("store.commit.begun", "4", 150),
        ("store.commit.written", "4", 150),
        ("store.commit.committed", "4", 200),
        ("store.upkeep.begun", "1", 350),
        ("store.upkeep.written", "1", 350),
        ("store.upkeep.committed", "1", 350),
        ("store.checkpointed", "2", 700),
    ],
)
def test_killed_at_a_named_point_exactly_the_committed_is_there(
    tmp_path: Path, failpoint: str, count: str, kept: int
) -> None:
    writer = run_writer(tmp_path / "store.duckdb", failpoint, count)
    told, _ = writer.communicate(timeout=60)
    assert -9 == writer.returncode
    acknowledged = int(told.split()[-1])
    check(tmp_path, acknowledged)
    place = DuckPlace(tmp_path)
    assert kept == place.store().open().positions[0].offset
    place.close()

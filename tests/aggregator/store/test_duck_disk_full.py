"""A real file system of 16 MB under the store, full, then freed: no row lost, none doubled."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.query import Aggregate, Asked, Query
from aggregator.store_duckdb import DuckStore
from schemas.errors import StoreError
from tests.aggregator.store.places import DuckPlace
from tests.contract.store_rows import block, rows_of, seen, transaction
from tests.needs import unmet


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        unmet("mounting a file system of 16 MB needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        unmet(f"mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def write(store: DuckStore, at: int) -> None:
    """Commit 500 rows, numbered by their offset, that do not compress."""
    words = [f"{number * 2654435761 % 2**64:016x}" * 8 for number in range(at, at + 500)]
    rows = rows_of(block("oracle", {"number": list(range(at, at + 500)), "word": words}, seconds=range(at, at + 500)))
    store.commit(transaction(rows, offset=at + 500, seen=[seen(at, at + 500)]))


@pytest.mark.parametrize("upkeep", [False, True])
def test_a_full_disk_loses_and_doubles_nothing(small_disk: Path, upkeep: bool) -> None:
    """Full in a commit, or full in a checkpoint, which invalidates the open database: close, open, go on (R001-15)."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(7 << 20))
    place = DuckPlace(small_disk)
    store = place.store()
    at = 0
    store.open()
    failures = 0
    with contextlib.suppress(StoreError):
        for count in range(1000):
            write(store, at)
            at += 500
            if upkeep and count % 4 == 3:
                store.maintain(0)
    assert at < 500_000, "the disk never got full"
    for _ in range(3):  # as the consumer does: close, wait, open, again from what was committed
        try:
            store.close()
            progress = store.open()
            at = progress.positions[0].offset
            for _ in range(8):
                write(store, at)
                at += 500
        except StoreError:
            failures += 1
    assert failures
    ballast.unlink()
    with contextlib.suppress(StoreError):
        store.close()
    at = store.open().positions[0].offset
    for _ in range(8):
        write(store, at)
        at += 500
    store.maintain(0)
    asked = (Asked("number", Aggregate.COUNT), Asked("number", Aggregate.MAX), Asked("number", Aggregate.SUM))
    result = place.queries(store).run(Query(measurement="oracle", since=0, asked=asked, group=()))
    assert [[at], [at - 1], [at * (at - 1) // 2]] == result.data
    assert [(0, at)] == [(one.first, one.end) for one in store.open().seen]
    place.close()

"""A damaged spool file: whatever is gone, the agent starts again, and what is lost is told, not forgotten."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from collectors.spool import NewBatch, Spool
from collectors.spool_file import SpoolFile
from schemas.account import StreamAccount
from schemas.errors import SpoolError
from schemas.verbosity import Level, RowClass
from tests.collectors.spool.layout import body

SOURCE = ("kmsg", "log")


def open_spool(folder: Path) -> Spool:
    return Spool.open(folder / "spool.db", "node", "boot", max_bytes=64 << 20, synchronous="OFF")


def filled(folder: Path, batches: int = 20) -> str:
    """Leave a spool of one run with rows held and rows given up; give the run's epoch."""
    spool = open_spool(folder)
    for number in range(batches):
        spool.commit([NewBatch(RowClass.LOG, Level.STANDARD, 10, body(number))],
                     positions={SOURCE: str(number)})  # fmt: skip
    spool.drop([held.id for held in spool.pending()[5:8]], "spool_full")
    spool.close()
    return spool.epoch


def change(folder: Path, *statements: str) -> None:
    """Do to the file what damage does."""
    db = sqlite3.connect(folder / "spool.db", isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def tear(folder: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    db = sqlite3.connect(folder / "spool.db")
    (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    with (folder / "spool.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


class Torn:
    """A spool file of which the page of a body is damaged, and no other."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def body(self, _id: int) -> bytes:
        """See `SpoolFile`."""
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT | 2 << 8  # an extended code: SQLITE_CORRUPT_SEQUENCE
        raise error


def told(spool: Spool, epoch: str) -> StreamAccount:
    [one] = [one for one in spool.account().epochs if one.epoch == epoch]
    [stream] = one.streams
    return stream


def of_reasons(stream: StreamAccount) -> dict[str, list[tuple[int, int]]]:
    return {one.reason: one.intervals for one in stream.dropped}


def test_without_the_table_of_runs_they_are_made_again_from_the_rest(tmp_path: Path) -> None:
    epoch = filled(tmp_path)
    tear(tmp_path, "epoch")

    salvaged = open_spool(tmp_path)

    stream = told(salvaged, epoch)
    assert (200, [(0, 50), (80, 200)]) == (stream.numbered, stream.spooled)
    assert {"spool_full": [(50, 80)]} == of_reasons(stream)
    assert {"log": "19"} == salvaged.positions("kmsg")


def test_what_the_disk_does_not_give_now_stays_and_what_is_damaged_is_given_up(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.commit([NewBatch(RowClass.LOG, Level.STANDARD, 10, body(0))])
    [held] = spool.pending()
    spool._file.db.set_progress_handler(lambda: 1, 1)
    with pytest.raises(SpoolError, match="cannot be read: interrupted"):
        spool.body(held)
    spool._file.db.set_progress_handler(None, 1)
    assert body(0) == spool.body(held)

    spool._file = Torn(spool._file)  # type: ignore[assignment]
    assert spool.body(held) is None
    assert {"corrupt": [(0, 10)]} == of_reasons(told(spool, spool.epoch))
    spool.close()


def test_without_runs_and_batches_streams_and_what_was_given_up_are_told(tmp_path: Path) -> None:
    epoch = filled(tmp_path)
    tear(tmp_path, "epoch")
    tear(tmp_path, "batch")

    salvaged = open_spool(tmp_path)

    stream = told(salvaged, epoch)
    assert (200, []) == (stream.numbered, stream.spooled)
    assert {"spool_full": [(50, 80)], "corrupt": [(0, 50), (80, 200)]} == of_reasons(stream)


def test_with_nothing_left_but_what_was_given_up_that_is_told(tmp_path: Path) -> None:
    epoch = filled(tmp_path)
    for table in ("epoch", "batch", "stream"):
        tear(tmp_path, table)

    stream = told(open_spool(tmp_path), epoch)

    assert (80, []) == (stream.numbered, stream.spooled)
    assert {"spool_full": [(50, 80)], "corrupt": [(0, 50)]} == of_reasons(stream)


@pytest.mark.parametrize("table", ["epoch", "stream", "batch", "dropped", "position"])
def test_any_table_may_be_unreadable_and_the_spool_works_on(tmp_path: Path, table: str) -> None:
    filled(tmp_path)
    tear(tmp_path, table)

    salvaged = open_spool(tmp_path)
    [held] = salvaged.commit([NewBatch(RowClass.LOG, Level.STANDARD, 1, b"x")])
    salvaged.close()

    assert held.id in [one.id for one in open_spool(tmp_path).pending()]


@pytest.mark.parametrize(
    "nonsense",
    [
        "UPDATE batch SET level = 77 WHERE id = 12",
        "UPDATE batch SET class = 'x' WHERE id = 12",
        "UPDATE batch SET first = -5 WHERE id = 12",
        "UPDATE batch SET size = 999999999 WHERE id = 12",
        "UPDATE batch SET body = x'00' WHERE id = 12",
    ],
)
def test_a_row_of_nonsense_is_lost_by_itself_and_told(tmp_path: Path, nonsense: str) -> None:
    """A flipped bit need not break SQLite's structure."""
    epoch = filled(tmp_path)
    change(tmp_path, nonsense)

    stream = told(open_spool(tmp_path), epoch)

    assert {"spool_full": [(50, 80)], "corrupt": [(110, 120)]} == of_reasons(stream)
    assert [(0, 50), (80, 110), (120, 200)] == stream.spooled


def test_rows_of_a_run_that_is_not_in_its_table_are_taken_up(tmp_path: Path) -> None:
    """Sound by itself, each table; together they are not: no reason to refuse to start."""
    epoch = filled(tmp_path)
    change(tmp_path, "DELETE FROM epoch", "DELETE FROM stream")

    stream = told(open_spool(tmp_path), epoch)

    assert (200, [(0, 50), (80, 200)]) == (stream.numbered, stream.spooled)
    assert {"spool_full": [(50, 80)]} == of_reasons(stream)


def test_what_a_crash_left_of_a_salvage_is_discarded(tmp_path: Path) -> None:
    epoch = filled(tmp_path)
    tear(tmp_path, "epoch")
    (tmp_path / "spool.db.salvaging").write_bytes(os.urandom(5000))

    assert [(0, 50), (80, 200)] == told(open_spool(tmp_path), epoch).spooled
    assert not (tmp_path / "spool.db.salvaging").exists()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_crash_while_files_change_their_names_is_made_good(tmp_path: Path, moved: int) -> None:
    """What was saved is complete, and some of the damaged file's parts are set aside: the others follow."""
    (tmp_path / "sound").mkdir()
    epoch = filled(tmp_path / "sound")
    (tmp_path / "sound" / "spool.db").rename(tmp_path / "spool.db.salvaged")
    parts = ["spool.db-wal", "spool.db"]
    for name in parts[moved:]:
        (tmp_path / name).write_bytes(b"damaged")

    assert [(0, 50), (80, 200)] == told(open_spool(tmp_path), epoch).spooled
    assert not (tmp_path / "spool.db.salvaged").exists()
    aside = [file.read_bytes() for file in sorted(tmp_path.glob("spool.db.damaged-*"))]
    assert [b"damaged"] * (2 - moved) == aside


def test_many_rows_are_saved_in_one_transaction(tmp_path: Path) -> None:
    """A flush for each row would take minutes on a disk: 5,000 batches are saved in seconds."""
    spool = open_spool(tmp_path)
    for _ in range(50):
        spool.commit([NewBatch(RowClass.LOG, Level.STANDARD, 1, body(1, rows=1))] * 100)
    spool.close()
    tear(tmp_path, "epoch")
    began = time.monotonic()

    salvaged = Spool.open(tmp_path / "spool.db", "node", "boot")

    assert 5000 == len(salvaged)
    assert time.monotonic() - began < 5.0

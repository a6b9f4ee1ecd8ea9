"""What the spool promises beyond the model: importance, durability, damage, versions."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.spool import NewBatch, Spool
from schemas.errors import SpoolError
from schemas.verbosity import Level, RowClass


def open_spool(folder: Path, max_bytes: int = 1 << 20) -> Spool:
    return Spool.open(folder / "spool.db", "node", "boot", max_bytes=max_bytes)


def kept(spool: Spool) -> list[tuple[RowClass, Level, int]]:
    return [(held.row_class, held.level, held.order) for held in spool.pending()]


def test_the_least_important_goes_first_oldest_first(tmp_path: Path) -> None:
    """Promise 4 (R001-15): debug before detailed before standard, oldest first."""
    spool = open_spool(tmp_path, max_bytes=80_000)  # 60,000 for telemetry and logs
    for level in (Level.STANDARD, Level.DEBUG, Level.DETAILED, Level.ESSENTIAL):
        for _ in range(3):
            spool.commit([NewBatch(RowClass.TELEMETRY, level, 1, b"x" * 5000)])

    spool.commit([NewBatch(RowClass.TELEMETRY, Level.ESSENTIAL, 1, b"x" * 10_000)])

    assert [level for _, level, _ in kept(spool)] == [
        *[Level.STANDARD] * 3, Level.DEBUG, *[Level.DETAILED] * 3, *[Level.ESSENTIAL] * 4,
    ]  # fmt: skip
    dropped = {stream.level: stream.dropped for stream in spool.account().epochs[0].streams}
    assert [(one.reason, one.intervals) for one in dropped[Level.DEBUG]] == [("spool_full", [(0, 2)])]


def test_events_have_room_of_their_own(tmp_path: Path) -> None:
    """A flood of telemetry takes no event's place, and the other way round."""
    spool = open_spool(tmp_path, max_bytes=80_000)
    spool.commit([NewBatch(RowClass.EVENT, Level.ESSENTIAL, 1, b"e" * 4000)])
    for _ in range(40):
        spool.commit([NewBatch(RowClass.TELEMETRY, Level.ESSENTIAL, 1, b"x" * 5000)])

    assert kept(spool)[0] == (RowClass.EVENT, Level.ESSENTIAL, 0)
    assert spool.bytes_held <= 80_000


def test_superseded_documents_go_before_live_ones(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=80_000)  # 10,000 for documents
    for device in ("gpu:a", "gpu:b", "gpu:a"):
        spool.commit([NewBatch(RowClass.CAPABILITY, Level.ESSENTIAL, 1, b"d" * 3000, document=device)])

    spool.commit([NewBatch(RowClass.CAPABILITY, Level.ESSENTIAL, 1, b"d" * 3000, document="gpu:c")])

    assert [held.document for held in spool.pending()] == ["gpu:b", "gpu:a", "gpu:c"]
    [stream] = spool.account().epochs[0].streams
    assert [(one.reason, one.intervals) for one in stream.dropped] == [("superseded", [(0, 1)])]


def test_rows_of_an_earlier_run_keep_their_epoch_and_are_spoken_for(tmp_path: Path) -> None:
    first = open_spool(tmp_path)
    first.commit([NewBatch(RowClass.TELEMETRY, Level.STANDARD, 7, b"x")])
    first.close()

    second = open_spool(tmp_path)

    assert second.epoch != first.epoch
    assert second.predecessors() == [first.epoch]
    live, before = second.account().epochs
    assert (live.epoch, before.epoch) == (second.epoch, first.epoch)
    assert before.streams[0].spooled == [(0, 7)]


def test_a_settled_run_is_forgotten_only_after_its_last_word_was_heard(tmp_path: Path) -> None:
    first = open_spool(tmp_path)
    first.commit([NewBatch(RowClass.TELEMETRY, Level.STANDARD, 7, b"x")])
    first.close()
    second = open_spool(tmp_path)
    unheard = second.account()
    second.forget([held.id for held in second.pending()])

    second.acknowledge(unheard)  # that word still said "spooled"
    assert second.predecessors() == [first.epoch]

    second.acknowledge(second.account())
    assert second.predecessors() == []


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"not a database at all" * 1000)

    spool = open_spool(tmp_path)

    assert len(spool) == 0
    assert list(tmp_path.glob("spool.db.damaged-*"))


def test_a_newer_spool_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_spool(tmp_path).close()
    db = sqlite3.connect(tmp_path / "spool.db")
    db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(SpoolError, match="newer Muster"):
        open_spool(tmp_path)

    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "spool.db")
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()

    with pytest.raises(SpoolError, match="not a Muster spool"):
        open_spool(tmp_path)


_WRITER = """
import sys
from pathlib import Path
from collectors.spool import NewBatch, Spool
from schemas.verbosity import Level, RowClass
spool = Spool.open(Path(sys.argv[1]), "node", "boot", max_bytes=1 << 30)
number = int(spool.positions("test").get("n", "0"))
while True:
    number += 1
    spool.commit([NewBatch(RowClass.EVENT, Level.ESSENTIAL, 3, b"x" * 100)], None, {("test", "n"): str(number)})
    print(number, flush=True)
"""


def test_what_was_committed_is_there_after_sigkill(tmp_path: Path) -> None:
    """Promise 1: a row exists from its spool commit; rows, numbers and position are one transaction."""
    path = tmp_path / "spool.db"
    told = 0
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(40):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        told = int(rest[-1]) if rest and rest[-1].isdigit() and int(rest[-1]) > told else told
        child.wait()
        child.stdout.close()

    spool = Spool.open(path, "node", "boot", max_bytes=1 << 30)
    position = int(spool.positions("test")["n"])
    rows = sum(stream.numbered for epoch in spool.account().epochs for stream in epoch.streams)

    assert position >= told
    assert rows == 3 * position
    assert sum(held.rows for held in spool.pending()) == rows

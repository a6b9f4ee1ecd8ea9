"""One spool file of many publishers: one transaction for all, each with its own numbers, epochs and room."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.spool import Counts, Filling, NewBatch, Spool, commit_together, open_spools
from collectors.spool_file import SpoolFile
from schemas.errors import SpoolError
from schemas.verbosity import Level, RowClass

WHO = [("alpha", "boot-a"), ("beta", "boot-b")]


def open_both(folder: Path, *, max_bytes: int = 1 << 20, later: bool = False) -> tuple[list[Spool], SpoolFile]:
    return open_spools(folder / "spool.db", WHO, max_bytes=max_bytes, later=later)


def telemetry(rows: int, size: int = 10) -> NewBatch:
    return NewBatch(RowClass.TELEMETRY, Level.STANDARD, rows, b"x" * size)


def numbered(spool: Spool) -> int:
    return sum(stream.numbered for epoch in spool.account().epochs for stream in epoch.streams)


def test_each_publisher_has_its_own_numbers_and_account(tmp_path: Path) -> None:
    (alpha, beta), _ = open_both(tmp_path)

    commit_together([Filling(alpha, [telemetry(5), telemetry(7)]), Filling(beta, [telemetry(3)])])

    assert [(held.first, held.rows) for held in alpha.pending()] == [(0, 5), (5, 7)]
    assert [(held.first, held.rows) for held in beta.pending()] == [(0, 3)]
    assert alpha.epoch != beta.epoch
    assert (numbered(alpha), numbered(beta)) == (12, 3)


def test_batch_ids_are_distinct_over_all_publishers(tmp_path: Path) -> None:
    """Bodies are read and forgotten by id: one that two publishers shared would harm both."""
    (alpha, beta), _ = open_both(tmp_path)
    alpha.commit([telemetry(1)])
    beta.commit([NewBatch(RowClass.TELEMETRY, Level.STANDARD, 1, b"beta's")])
    alpha.commit([telemetry(1)])

    ids = [held.id for spool in (alpha, beta) for held in spool.pending()]
    alpha.forget(ids)

    assert len(set(ids)) == 3
    assert len(alpha) == 0
    assert [beta.body(held) for held in beta.pending()] == [b"beta's"]


def test_a_commit_that_fails_keeps_nothing_of_anybody(tmp_path: Path) -> None:
    """The disk refuses: numbers, counts and what would have been given up stay as they were."""
    (alpha, beta), file = open_both(tmp_path, max_bytes=1 << 17)
    alpha.commit([telemetry(1, 90_000)])
    before = [spool.account().epochs for spool in (alpha, beta)]
    file.db.execute("CREATE TRIGGER full BEFORE INSERT ON batch BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    fillings = [Filling(alpha, [telemetry(2, 20_000)], {(RowClass.LOG, Level.DEBUG): Counts(filtered=4)}),
                Filling(beta, [telemetry(2)], {}, {("oracle", "n"): "1"})]  # fmt: skip

    with pytest.raises(SpoolError, match="disk full"):
        commit_together(fillings)

    assert [spool.account().epochs for spool in (alpha, beta)] == before
    assert beta.positions("oracle") == {}
    file.db.execute("DROP TRIGGER full")
    commit_together(fillings)
    assert (numbered(alpha), numbered(beta)) == (3, 2)
    assert beta.positions("oracle") == {"n": "1"}


def test_room_is_made_at_the_cost_of_the_same_publisher_alone(tmp_path: Path) -> None:
    (alpha, beta), _ = open_both(tmp_path, max_bytes=80_000)
    beta.commit([telemetry(1, 20_000)])
    for _ in range(10):
        alpha.commit([telemetry(1, 20_000)])

    assert len(beta) == 1
    assert alpha.bytes_held == 60_000
    [stream] = alpha.account().epochs[0].streams
    assert [(one.reason, one.intervals) for one in stream.dropped] == [("spool_full", [(0, 7)])]


def test_what_makes_room_is_given_up_in_the_transaction_of_what_needs_it(tmp_path: Path) -> None:
    """A crash in between would have lost rows without a reason told, or told a reason for rows that are there."""
    spool = Spool.open(tmp_path / "spool.db", "node", "boot", max_bytes=80_000)
    for _ in range(4):
        spool.commit([telemetry(1, 20_000)])
    spool.close()

    again = Spool.open(tmp_path / "spool.db", "node", "boot", max_bytes=80_000)

    [before] = [epoch for epoch in again.account().epochs if epoch.epoch == spool.epoch]
    [stream] = before.streams
    assert stream.spooled == [(1, 4)]
    assert [(one.reason, one.intervals) for one in stream.dropped] == [("spool_full", [(0, 1)])]


def test_forgetting_later_is_done_by_the_next_commit_of_anybody(tmp_path: Path) -> None:
    (alpha, beta), file = open_both(tmp_path, later=True)
    alpha.commit([telemetry(1)])
    alpha.forget([held.id for held in alpha.pending()])
    assert file.db.execute("SELECT count(*) FROM batch").fetchone() == (1,)

    beta.commit([telemetry(1)])

    assert list(file.db.execute("SELECT publisher FROM batch")) == [("beta",)]


def test_forgetting_later_can_be_done_without_anything_to_commit(tmp_path: Path) -> None:
    (alpha, _), file = open_both(tmp_path, later=True)
    alpha.commit([telemetry(1)])
    alpha.forget([held.id for held in alpha.pending()])

    file.flush()

    assert file.db.execute("SELECT count(*) FROM batch").fetchone() == (0,)


def test_a_restart_names_the_predecessors_of_each_publisher(tmp_path: Path) -> None:
    (alpha, beta), file = open_both(tmp_path)
    commit_together([Filling(alpha, [telemetry(5)]), Filling(beta, [telemetry(3)])])
    file.close()

    (alpha_again, beta_again), _ = open_both(tmp_path)

    assert alpha_again.predecessors() == [alpha.epoch]
    assert beta_again.predecessors() == [beta.epoch]
    assert [held.rows for held in beta_again.pending()] == [3]


def test_a_publisher_that_is_not_named_keeps_its_rows_and_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fleet that is started smaller for once, or a node that is given another id, does not lose what was there."""
    (_, beta), file = open_both(tmp_path)
    beta.commit([telemetry(3)])
    file.close()

    _, file = open_spools(tmp_path / "spool.db", WHO[:1], max_bytes=1 << 20)
    file.close()
    [told] = caplog.messages
    assert "publisher=beta rows=3" in told

    (_, beta_again), _ = open_both(tmp_path)
    assert [held.rows for held in beta_again.pending()] == [3]
    assert [told] == caplog.messages


_WRITER = """
import sys
from pathlib import Path
from collectors.spool import Filling, NewBatch, commit_together, open_spools
from schemas.verbosity import Level, RowClass
spools, _ = open_spools(Path(sys.argv[1]), [(f"node-{n}", "boot") for n in range(20)], max_bytes=1 << 30, later=True)
while True:
    commit_together([Filling(one, [NewBatch(RowClass.EVENT, Level.ESSENTIAL, 3, b"x" * 100)]) for one in spools])
    for one in spools:
        one.forget([held.id for held in one.pending()][:-5])
    print(flush=True)
"""


def test_a_commit_of_many_is_there_whole_after_sigkill(tmp_path: Path) -> None:
    """Promise 1 for a fleet: after any number of kills all publishers have numbered equally many rows."""
    path = tmp_path / "spool.db"
    commits = 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(30):
            commits += bool(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()

    db = sqlite3.connect(path)
    totals = {rows for (rows,) in db.execute("SELECT sum(numbered) FROM stream GROUP BY publisher")}
    [rows] = totals
    assert rows >= 3 * commits

"""A real file system of 16 MB fills up under spool, log and store, and is freed: everything goes on by itself."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.spool import NewBatch, Spool
from schemas.verbosity import Level, RowClass
from tests.acceptance.stage import stage, until
from tests.faults.disks import Ballast, small_disk
from tests.faults.rig import Bench, config, rounds


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give a Muster whose parts are started one by one; a short time-out keeps a stuck request short."""
    with stage(tmp_path / "m", config(more="[publish]\ntimeout_seconds = 5\n")) as muster:
        yield Bench(muster)


def move(file: Path, where: Path) -> None:
    """Let a database live elsewhere, by a link; what SQLite keeps beside it follows."""
    for part in file.parent.glob(file.name + "*"):
        if part.suffix != ".lock":
            shutil.move(part, where / part.name)
    file.symlink_to(where / file.name)


@pytest.mark.parametrize("number", rounds(5))
def test_full_disk_under_the_spool_makes_sources_wait_and_loses_nothing(
    bench: Bench, tmp_path: Path, number: int
) -> None:
    """The agent lives on and commits again when there is room: no committed row is lost, none comes twice."""
    agent = bench.muster.data_dir / "agent"
    with small_disk(tmp_path / "disk.img", agent) as disk:
        try:
            ballast = Ballast(disk)
            bench.start("agent")
            bench.grows()
            ballast.fill()
            until("the full disk to be noticed", lambda: "spool_commit_failed" in bench.muster.log())
            stuck = bench.committed()
            time.sleep(2)
            assert stuck == bench.committed()
            ballast.free()
            bench.grows()
            bench.start("aggregator")
            bench.ready()
            bench.grows()
            bench.quiesce().expect_exact()
        finally:
            bench.muster.stop()


@pytest.mark.parametrize("number", rounds(5))
def test_spool_that_filled_its_disk_drains_without_anybody_freeing_room(
    bench: Bench, tmp_path: Path, number: int
) -> None:
    """Forgetting must not need room that is not there: an aggregator that comes back is enough."""
    agent = bench.muster.data_dir / "agent"
    with small_disk(tmp_path / "disk.img", agent) as disk:
        try:
            bench.start("agent")
            bench.grows()
            Ballast(disk).fill()
            until("the full disk to be noticed", lambda: "spool_commit_failed" in bench.muster.log())
            committed = bench.committed()
            bench.start("aggregator")
            bench.ready()
            until("commits to go on", lambda: bench.committed() > committed + 1000)
            bench.quiesce().expect_exact()
        finally:
            bench.muster.stop()


def test_essential_rows_take_the_place_of_debug_rows_on_a_full_disk(tmp_path: Path) -> None:
    """Many times as many as there is room for, and the spool can still be emptied (promise 4)."""
    with small_disk(tmp_path / "disk.img", tmp_path / "disk", 64 << 20) as disk:
        spool = Spool.open(disk / "spool.db", "node", "boot")
        try:
            for _ in range(1500):
                spool.commit([NewBatch(RowClass.TELEMETRY, Level.DEBUG, 10, os.urandom(5000))])
            Ballast(disk).fill()
            for size in (3000, 20_000, 200, 50_000) * 100:
                spool.commit([NewBatch(RowClass.TELEMETRY, Level.ESSENTIAL, 10, os.urandom(size))])
            essential, debug = spool.account().epochs[0].streams
            assert (4000, 15_000) == (essential.numbered, debug.numbered)
            for stream in (essential, debug):
                gone = [pair for one in stream.dropped for pair in one.intervals]
                assert stream.numbered == sum(end - first for first, end in (*gone, *stream.spooled))
            assert debug.spooled[0][0] > 0
            assert essential.spooled[-1][1] == essential.numbered
            while len(spool):
                spool.forget([held.id for held in spool.pending()[:100]])
        finally:
            spool.close()


@pytest.mark.parametrize("number", rounds(5))
@pytest.mark.parametrize("full", ["log", "store", "everything"])
def test_full_disk_under_the_aggregator_loses_and_repeats_nothing(
    bench: Bench, tmp_path: Path, full: str, number: int
) -> None:
    """What is not acknowledged stays in the spool, what is not stored stays in the log; freed, all of it arrives."""
    folder = bench.muster.data_dir / "aggregator"
    bench.start("aggregator")
    bench.ready()
    bench.muster.stop("aggregator")
    aside = tmp_path / "aside"
    shutil.move(folder, aside)
    mount = tmp_path / "disk" if full == "log" else folder
    with small_disk(tmp_path / "disk.img", mount) as disk:
        if full == "log":
            shutil.copytree(aside, folder)
            move(folder / "log.db", disk)
        else:
            shutil.copytree(aside, folder, dirs_exist_ok=True)
        if full == "store":
            (tmp_path / "large").mkdir()
            for name in ("log.db", "control.db"):
                move(folder / name, tmp_path / "large")
        ballast = Ballast(disk)
        try:
            bench.start("aggregator")
            bench.start("agent")
            bench.ready()
            until("rows in the store", bench.stored)
            ballast.fill()
            _becomes_stuck(bench, full)
            assert bench.muster.processes["aggregator"].poll() is None
            bench.grows()
            ballast.free()
            until("the spool to drain", lambda: bench.spooled() < 20)
            until("the store to follow", lambda: bench.get("/readyz"))
            bench.grows()
            bench.quiesce().expect_exact()
        finally:
            bench.muster.stop()


def _becomes_stuck(bench: Bench, full: str) -> None:
    """Wait until it shows: requests are refused with 503, or the store takes nothing and says so."""
    if full == "store":
        until("the store to fail", lambda: (bench.get("/v1/status") or {}).get("store", {}).get("last_error"))
    else:
        until("the log to refuse", lambda: (bench.get("/v1/status") or {}).get("log", {}).get("last_failure"))
        until("the spool to keep it", lambda: bench.spooled() > 20)
        assert "ingest.busy" in bench.muster.log()

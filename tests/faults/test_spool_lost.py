"""The spool is deleted, set back or damaged while the agent is stopped: what is gone is known, nothing comes twice."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collectors.publisher import REQUEST_BATCHES
from schemas.verbosity import RowClass
from tests.acceptance.stage import stage, until
from tests.collectors.spool.layout import PAGE_BYTES, overwrite, pages_of_batches
from tests.faults.rig import Bench, config

RATE = 20_000
"""Rows a second: every unit of the oracle is a batch, 50 a second (`collectors.piles.FULL_ROWS`)."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give a Muster whose aggregator takes a silent node's id away soon: a lost spool names no predecessor."""
    with stage(tmp_path, config(rate=RATE, aggregator="takeover_seconds = 2")) as muster:
        yield Bench(muster)


def fill(bench: Bench, batches: int, failpoint: str = "") -> None:
    """Let the agent put so many batches into its spool, with no aggregator to take them."""
    bench.start("agent", failpoint)
    until(f"{batches} batches in the spool", lambda: bench.spooled() >= batches, 60)


def die_half_way(bench: Bench) -> None:
    """Let the agent die when the first request of several is answered: its word is known, and part of its rows."""
    fill(bench, REQUEST_BATCHES + 50, "publisher.send.answered:1")
    bench.start("aggregator")
    bench.dies("agent", "publisher.send.answered")
    bench.ready()


def remove(bench: Bench) -> None:
    """Delete the spool, with all that SQLite keeps beside it."""
    for file in bench.spool.parent.glob("spool.db*"):
        file.unlink()


def line(bench: Bench) -> dict[str, Any]:
    """Give the oracle's line of the balance."""
    found: dict[str, Any]
    [found] = [one for one in bench.muster.balance()["lines"] if one["row_class"] == "telemetry"]
    return found


def test_deleted_spool_strands_its_rows_until_the_node_is_written_off(bench: Bench) -> None:
    """Stranded is shown and the balance closes; `muster nodes decommission` turns stranded into lost (promise 2)."""
    die_half_way(bench)
    remove(bench)
    bench.rest()
    bench.start("agent")
    until("the next run to be taken", lambda: line(bench)["stranded"], 40)
    told = line(bench)
    stored = [number for number, _ in bench.stored()]
    assert len(stored) == len(set(stored))
    assert 0 < len(stored) == told["done"]
    assert told["numbered"] == told["done"] + told["stranded"]
    assert 0 == told["unaccounted"]
    [node] = bench.muster.ask("nodes")
    bench.muster.stop("agent")
    done = bench.muster.run("nodes", "decommission", node["node"]["id"], "--yes")
    assert 0 == done.returncode, done.stderr
    after = line(bench)
    assert (0, told["stranded"], 0) == (after["stranded"], after["lost"], after["unaccounted"])


def test_spool_from_an_older_copy_repeats_what_is_known_and_strands_the_rest(bench: Bench, tmp_path: Path) -> None:
    """Rows that the copy holds and the store has are known; rows numbered since, and never sent, are stranded."""
    fill(bench, 60)
    bench.muster.stop("agent")
    copied, copy = bench.committed(), tmp_path / "spool.db.old"
    shutil.copy(bench.spool, copy)  # stopped in order: all of it is in the one file
    bench.start("aggregator")
    bench.start("agent")
    bench.grows()
    until("the spool to drain", lambda: bench.spooled() < 20, 60)
    bench.muster.stop()
    die_half_way(bench)
    remove(bench)
    shutil.copy(copy, bench.spool)
    bench.rest()
    bench.start("agent")
    until("the copy to drain", lambda: not bench.spooled(), 60)
    until("the word of the next run", lambda: line(bench)["stranded"], 40)
    bench.settle()
    told = line(bench)
    stored = [number for number, _ in bench.stored()]
    assert len(stored) == len(set(stored))
    assert set(range(copied)) < set(stored)
    assert told["numbered"] == told["done"] + told["stranded"]
    assert told["done"] == len(stored)
    assert copied <= bench.get("/v1/status")["store"]["rows_repeated"]


def test_spool_damaged_in_the_middle_is_salvaged_and_what_is_gone_is_counted(bench: Bench) -> None:
    """The damaged file is set aside, every batch on sound pages is carried over, the rest is dropped as `corrupt`."""
    fill(bench, 150)
    bench.muster.stop("agent")
    committed = bench.committed()
    places = pages_of_batches(bench.spool)  # stopped in order: all of it is in the one file
    count = bench.spool.stat().st_size // PAGE_BYTES
    damaged = set(range(count // 2, count // 2 + count // 8))
    sound = [batch_id for batch_id, pages in places.items() if pages.isdisjoint(damaged)]
    assert damaged & set().union(*places.values())
    with closing(sqlite3.connect(f"file:{bench.spool}?mode=ro", uri=True)) as db:
        rows = dict(db.execute("SELECT id, rows FROM batch WHERE class = ?", (RowClass.TELEMETRY,)))
    overwrite(bench.spool, damaged)
    bench.rest()
    bench.start("aggregator")
    bench.start("agent")
    until("the salvage", lambda: "spool_salvaged" in bench.muster.log(), 30)
    bench.ready()
    until("the spool to drain", lambda: not bench.spooled(), 60)
    until("the word about it", lambda: line(bench)["dropped"], 30)
    bench.settle()
    told = line(bench)
    numbers = [number for number, _ in bench.stored()]
    assert len(numbers) == len(set(numbers)) == told["done"]
    assert set(numbers) < set(range(committed))
    assert ["corrupt"] == list(told["dropped"])
    assert committed == told["numbered"] == told["done"] + told["dropped"]["corrupt"]
    assert sum(rows.get(batch_id, 0) for batch_id in sound) == told["done"]
    assert list(bench.spool.parent.glob("spool.db.damaged-*"))

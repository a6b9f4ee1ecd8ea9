"""The aggregator's process as a whole: what ends it, and how."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from collectors.process import EXIT_CONFIG, EXIT_DEFECT
from tests.aggregator.ledger.rig import opened, settle
from tests.needs import REPOSITORY

THREAD = """
import threading
from aggregator._log_writer import LogWriter
def die(writer):
    raise ZeroDivisionError("a defect")
LogWriter.run = die
"""
TASK = """
from aggregator.live import LiveHub
async def die(hub):
    raise ZeroDivisionError("a defect")
LiveHub.run = die
"""
SERVE = """
import sys
from aggregator.server import leave, main
leave(main([]))
"""


@pytest.mark.parametrize(("defect", "word"), [(THREAD, "thread_died name=log-writer"), (TASK, "task_ended name=live")])
def test_an_aggregator_of_which_a_part_dies_ends_so_that_it_is_started_again(
    tmp_path: Path, defect: str, word: str
) -> None:
    """Half of it would say that it is ready, and keep every publisher waiting."""
    env = {"MUSTER_DATA_DIR": str(tmp_path), "MUSTER_LISTEN": "127.0.0.1:0", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", defect + SERVE],
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_DEFECT, done.stderr
    assert word in done.stderr


def _overwritten(path: Path) -> None:
    """Leave the head and the list of tables, and nothing else."""
    pages = path.read_bytes()
    path.write_bytes(pages[:8192] + b"\xff" * (len(pages) - 8192))


def _cut(path: Path) -> None:
    os.truncate(path, 6000)


@pytest.mark.parametrize("damage", [_overwritten, _cut], ids=["overwritten", "cut"])
def test_a_damaged_ledger_ends_it_for_good_and_says_what_to_do_and_what_it_costs(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "aggregator"
    folder.mkdir()

    async def fill() -> None:
        async with opened(folder / "ledger.db") as ledger:
            await settle(ledger, nodes=8)

    asyncio.run(fill())
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what is damaged is what is read
    damage(folder / "ledger.db")
    env = {"MUSTER_DATA_DIR": str(tmp_path), "MUSTER_LISTEN": "127.0.0.1:0", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SERVE],
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == EXIT_CONFIG, done.stderr
    for word in ("ledger.db", "muster restore --force", "claims come back from the nodes", "packages"):
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_that_it_starts_and_ends_is_said_once(tmp_path: Path) -> None:
    """Inside are two servers of uvicorn, which would each say so too."""
    env = {"MUSTER_DATA_DIR": str(tmp_path), "MUSTER_LISTEN": "127.0.0.1:0", "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-P", "-c", SERVE]
    with subprocess.Popen(words, env=os.environ | env, stderr=subprocess.PIPE, text=True) as aggregator:
        assert aggregator.stderr is not None
        lines = []
        for line in aggregator.stderr:
            lines.append(line)
            if "listening address=" in line:
                aggregator.terminate()
        assert 0 == aggregator.wait(60)
    assert 1 == len([line for line in lines if "listening address=" in line])
    assert [] == [line for line in lines if "uvicorn" in line]

"""SIGKILL at any moment: what was told is there, and the file opens (promise 1)."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.control_sqlite import SqliteControl
from tests.contract.control_conformance import value_of

ROUNDS = 30 if os.environ.get("MUSTER_SOAK") else 3


def told_until_killed(path: Path, start: int, lines: int) -> list[int]:
    """Run the writer, kill it after so many results, give every result that it told."""
    command = [sys.executable, "-m", "tests.aggregator.control.crash_writer", str(path), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    assert writer.returncode == -signal.SIGKILL
    return told


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_every_result_that_was_told_is_there_after_sigkill(tmp_path: Path, round_: int) -> None:
    path = tmp_path / "c.db"
    told: list[int] = []
    for run in range(2):  # the second writer begins on what the first left
        told += told_until_killed(path, run * 1_000_000, 40 + 61 * round_ % 300)
    control = SqliteControl(path)
    control.open()
    there = set((await control.read(value_of)).values())
    await control.close()
    assert [number for number in told if number not in there] == []
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()

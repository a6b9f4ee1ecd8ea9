"""The aggregator's process as a whole: what ends it, and how."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.process import EXIT_DEFECT
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

"""A scenario that breaks off fails, and leaves as little behind as one that does not (R003-3)."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import REPOSITORY

PROGRAM = """
import sys
from aggregator.demo import SCENARIOS, Scenario
from aggregator.demo.runner import run

SCENARIOS["broken"] = Scenario("one that breaks off", "tests.aggregator.demo.broken_off", "003.toml")
sys.exit(0 if run("broken", sys.stdout) else 3)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with a short name: sockets lie in it, and a socket's path has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="d") as name:
        yield Path(name)


def test_what_breaks_off_is_told_and_cleared_all_the_same(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, env={"TMPDIR": str(folder)},
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "NO  what is assigned is free" in done.stdout
    assert "NO  the scenario goes on: it breaks off" in done.stdout
    assert "ok  every device that could be given is clean and free again" in done.stdout
    assert "ok  no claim is left, and no device with anybody" in done.stdout
    assert "Did not hold: what is assigned is free." in done.stdout
    assert list(folder.iterdir()) == []

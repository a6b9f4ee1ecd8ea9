"""A scenario that breaks off fails, and leaves as little behind as one that does not (R003-3)."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.needs import REPOSITORY

PROGRAM = """
import sys
from aggregator.demo import SCENARIOS, Scenario
from aggregator.demo.runner import run

SCENARIOS["broken"] = Scenario("one that breaks off", "tests.aggregator.demo.broken_off", "003.toml")
sys.exit(0 if run("broken", sys.stdout) else 3)
"""


INTERRUPTED = """
import signal, sys
from aggregator.cli import main
from aggregator.demo import SCENARIOS, Scenario

signal.signal(signal.SIGINT, signal.default_int_handler)
SCENARIOS["endless"] = Scenario("one that never ends", "tests.aggregator.demo.endless", "003.toml")
sys.exit(main(["demo", "endless"]))
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_who_is_interrupted_leaves_nothing_running_and_nothing_behind(folder: Path, number: signal.Signals) -> None:
    """However impatient its user is: the end itself is not interrupted."""
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], cwd=REPOSITORY, env={"TMPDIR": str(folder)},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:  # fmt: skip
        assert child.stdout is not None
        lines = iter(child.stdout)
        assert any("It waits." in line for line in lines)
        started = {one.pid for one in psutil.Process(child.pid).children(recursive=True)}
        assert len(started) >= 2
        child.send_signal(number)
        while child.poll() is None:
            child.send_signal(number)
            time.sleep(0.2)
        told, errors = "".join(lines), child.stderr.read() if child.stderr else ""
    assert (child.returncode, errors) == (130, "")
    assert "All that was started has ended, and the folder is removed." in told
    assert [pid for pid in started if psutil.pid_exists(pid)] == []
    assert list(folder.iterdir()) == []

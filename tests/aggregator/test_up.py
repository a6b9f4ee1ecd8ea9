"""The supervisor: what ends is started again, later each time; what cannot run is not; nothing outlives it.

Requirements: R001-9 (`muster up` restarts what dies).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from aggregator import up
from aggregator.up import ChildSpec, Supervisor

CHILD = """
import os, signal, sys, time
from collectors.lifeline import watch_lifeline

what, folder = sys.argv[1:3]
with open(os.path.join(folder, what), "a") as file:
    file.write(f"{os.getpid()}\\n")
if what.isdigit():
    sys.exit(int(what))
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("cannot hear", flush=True)

def end():
    with open(os.path.join(folder, "ended"), "a") as file:
        file.write(f"{what}\\n")
    os._exit(0)

def tell(*_):
    end()

def hear(*_):
    with open(os.path.join(folder, "heard"), "a") as file:
        file.write("SIGHUP\\n")

if what != "deaf":
    signal.signal(signal.SIGTERM, tell)
if what == "hears":
    signal.signal(signal.SIGHUP, hear)
if what == "hangs":
    time.sleep(60)  # before its first sign of life
asked = []
watch_lifeline(end, ask=asked.append)
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    while asked:
        asked.pop()()
    if what == "stuck":
        time.sleep(60)  # its lifeline's thread goes on; its main loop does not
    time.sleep(0.02)
"""

SUPERVISOR = """
import os, sys, time
from aggregator.up import ChildSpec, Supervisor
specs = [ChildSpec(name, "a_child", (name, sys.argv[1])) for name in ("one", "two")]
supervisor = Supervisor(specs, os.environ)
while True:
    supervisor.poll()
    time.sleep(0.05)
"""


class Stage:
    """Children that do what their argument says, and a clock that only tests move."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        (folder / "a_child.py").write_text(CHILD)
        self.env = {**os.environ, "PYTHONPATH": f"{folder}:{Path(up.__file__).parent.parent}"}
        self.supervisors: list[Supervisor] = []

    def supervise(
        self,
        *names: str,
        env: dict[str, str] | None = None,
        log_dir: Path | None = None,
        beats: bool = False,
        reloads: bool = False,
    ) -> Supervisor:
        specs = [ChildSpec(name, "a_child", (name, str(self.folder)), beats=beats, reloads=reloads) for name in names]
        supervisor = Supervisor(specs, self.env | (env or {}), log_dir=log_dir, clock=lambda: self.now)
        self.supervisors.append(supervisor)
        return supervisor

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def runs(self, name: str, starts: int) -> None:
        self.until(lambda: len(self.lines(name)) >= starts, f"{name} to start {starts} times")

    def until(self, true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 15
        while not true():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.02)

    def shows_life(self, supervisor: Supervisor) -> None:
        """Wait for the first child's first beat."""

        def beaten() -> bool:
            supervisor.poll()
            return supervisor._children[0].beaten

        self.until(beaten, "a sign of life")

    def passes(self, supervisor: Supervisor, seconds: float) -> None:
        """Let time pass, with a poll every two seconds as the supervisor's own loop has them."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 2)
            supervisor.poll()

    def ended(self, supervisor: Supervisor) -> None:
        """Wait until the first child has ended, and have the supervisor notice."""
        [child, *_] = supervisor.statuses()
        pid = child.pid
        if pid is None:  # a poll of before was fast enough
            return

        def noticed() -> bool:
            supervisor.poll()
            return supervisor.statuses()[0].pid != pid

        self.until(noticed, "the child's end")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    for supervisor in stage.supervisors:
        supervisor.stop()


def test_a_child_that_ends_is_started_again_after_a_pause_that_doubles_up_to_ten_seconds(stage: Stage) -> None:
    supervisor = stage.supervise("3")
    pauses = []
    for starts in range(1, 9):
        supervisor.poll()
        assert starts == supervisor.statuses()[0].starts
        stage.ended(supervisor)
        pause = 0.0
        while supervisor.statuses()[0].pid is None:
            stage.now += 0.1
            pause += 0.1
            supervisor.poll()
        pauses.append(round(pause, 1))
    assert [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0] == pytest.approx(pauses, abs=0.11)
    assert "exit status 3" == supervisor.statuses()[0].last_exit


def test_a_child_that_ran_for_a_while_is_started_again_quickly(stage: Stage) -> None:
    supervisor = stage.supervise("one")
    for starts in range(1, 5):
        supervisor.poll()
        stage.runs("one", starts)
        stage.now += 60
        pid = supervisor.statuses()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        stage.ended(supervisor)
        assert "signal SIGKILL" == supervisor.statuses()[0].last_exit
        stage.now += 0.21
    supervisor.poll()
    assert 5 == supervisor.statuses()[0].starts


def test_a_child_that_cannot_use_its_configuration_is_not_started_again_and_ends_the_rest(stage: Stage) -> None:
    supervisor = stage.supervise("78", "one")
    supervisor.poll()

    def failed() -> str:
        supervisor.poll()
        return supervisor.failed

    stage.until(failed, "the failure")
    assert supervisor.failed.startswith("the 78 cannot run as things are")
    stage.now += 1000
    supervisor.poll()
    assert 1 == supervisor.statuses()[0].starts


def test_one_child_that_ends_leaves_the_others_alone(stage: Stage) -> None:
    supervisor = stage.supervise("3", "one")
    supervisor.poll()
    stage.runs("one", 1)
    other = supervisor.statuses()[1].pid
    stage.ended(supervisor)
    stage.now += 1
    supervisor.poll()
    assert (2, 1, other) == (*(one.starts for one in supervisor.statuses()), supervisor.statuses()[1].pid)


def test_a_child_that_cannot_be_started_is_tried_again(stage: Stage) -> None:
    """No process left (EAGAIN), or no room: here a log folder that is a file."""
    blocked = stage.folder / "logs"
    blocked.write_text("")
    supervisor = stage.supervise("one", log_dir=blocked)
    supervisor.poll()
    assert (0, None) == (supervisor.statuses()[0].starts, supervisor.statuses()[0].pid)
    assert supervisor.statuses()[0].last_exit.startswith("cannot be started: ")
    blocked.unlink()
    supervisor.poll()
    assert 0 == supervisor.statuses()[0].starts  # not before the pause is over
    stage.now += 1
    supervisor.poll()
    assert 1 == supervisor.statuses()[0].starts


def test_a_stop_ends_the_last_first_and_each_by_itself(stage: Stage) -> None:
    supervisor = stage.supervise("one", "two")
    supervisor.poll()
    stage.runs("one", 1)
    stage.runs("two", 1)
    time.sleep(0.3)  # until their handlers stand
    supervisor.stop()
    supervisor.stop()
    assert ["two", "one"] == stage.lines("ended")
    assert [None, None] == [one.pid for one in supervisor.statuses()]


def test_a_child_that_does_not_end_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "STOP_SECONDS", 0.5)
    supervisor = stage.supervise("deaf", log_dir=stage.folder / "logs")
    supervisor.poll()
    stage.until(lambda: "cannot" in stage.lines("logs/deaf.log"), "the child to be deaf")
    pid = supervisor.statuses()[0].pid
    assert pid is not None
    supervisor.stop()
    assert not psutil.pid_exists(pid)


def test_children_end_by_themselves_when_the_supervisor_is_killed(stage: Stage) -> None:
    """However it went: the lifeline closes."""
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(stage.folder)], env=stage.env)
    stage.runs("one", 1)
    stage.runs("two", 1)
    time.sleep(0.3)
    children = [psutil.Process(int(stage.lines(name)[0])) for name in ("one", "two")]
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert [] == alive
    assert ["one", "two"] == sorted(stage.lines("ended"))  # each after its own last words


def hung(stage: Stage, supervisor: Supervisor) -> None:
    """Wait until the first child, which hangs, was killed and another was started."""
    stage.ended(supervisor)
    assert supervisor.statuses()[0].last_exit.startswith("hung for ")
    stage.now += 0.21
    supervisor.poll()
    assert 2 == supervisor.statuses()[0].starts


def test_a_child_that_is_stopped_is_killed_and_started_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = stage.supervise("one", beats=True)
    supervisor.poll()
    stage.runs("one", 1)
    stage.shows_life(supervisor)
    process = psutil.Process(supervisor.statuses()[0].pid)
    process.send_signal(signal.SIGSTOP)
    stage.until(lambda: process.status() == psutil.STATUS_STOPPED, "the child to stop")
    stage.passes(supervisor, up.PATIENCE_SECONDS - 2)
    assert 1 == supervisor.statuses()[0].starts
    stage.passes(supervisor, 4)
    hung(stage, supervisor)
    assert f"child_hung name=one pid={process.pid}" in caplog.text


def test_a_child_whose_main_loop_hangs_is_found_though_its_threads_go_on(stage: Stage) -> None:
    supervisor = stage.supervise("stuck", beats=True)
    supervisor.poll()
    stage.shows_life(supervisor)
    stage.passes(supervisor, up.PATIENCE_SECONDS + 2)
    hung(stage, supervisor)


def test_a_child_that_hangs_before_its_first_sign_of_life_is_given_longer(stage: Stage) -> None:
    supervisor = stage.supervise("hangs", beats=True)
    supervisor.poll()
    stage.runs("hangs", 1)
    stage.passes(supervisor, up.START_PATIENCE_SECONDS - 2)
    assert 1 == supervisor.statuses()[0].starts
    stage.passes(supervisor, 4)
    hung(stage, supervisor)


def test_a_supervisor_that_was_itself_held_up_blames_nobody(stage: Stage) -> None:
    """The machine was suspended, or had no memory left for anybody."""
    supervisor = stage.supervise("stuck", beats=True)
    supervisor.poll()
    stage.shows_life(supervisor)
    stage.now += 10 * up.PATIENCE_SECONDS
    supervisor.poll()
    stage.passes(supervisor, up.PATIENCE_SECONDS - 2)
    assert (1, "") == (supervisor.statuses()[0].starts, supervisor.statuses()[0].last_exit)


def test_a_folder_called_schemas_beside_the_user_does_not_take_our_place(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children run with -P."""
    (stage.folder / "schemas").mkdir()
    (stage.folder / "schemas" / "__init__.py").write_text("raise SystemExit(99)")
    (stage.folder / "child").mkdir()
    (stage.folder / "a_child.py").rename(stage.folder / "child" / "a_child.py")
    stage.env["PYTHONPATH"] = f"{stage.folder / 'child'}:{Path(up.__file__).parent.parent}"
    monkeypatch.chdir(stage.folder)
    supervisor = stage.supervise("one")
    supervisor.poll()
    stage.runs("one", 1)
    supervisor.poll()
    assert "" == supervisor.statuses()[0].last_exit


def test_a_child_that_is_still_starting_gets_sighup_after_its_first_sign_of_life(stage: Stage) -> None:
    """Until then it might die of the signal."""
    supervisor = stage.supervise("hears", beats=True, reloads=True)
    supervisor.poll()
    supervisor.reload()
    assert stage.lines("heard") == []
    stage.shows_life(supervisor)
    stage.until(lambda: stage.lines("heard"), "the signal")
    supervisor.reload()
    stage.until(lambda: len(stage.lines("heard")) == 2, "the second signal")
    assert supervisor.statuses()[0].starts == 1


def test_a_child_that_reads_its_configuration_once_gets_no_sighup(stage: Stage) -> None:
    supervisor = stage.supervise("hears", beats=True)
    supervisor.poll()
    stage.shows_life(supervisor)
    supervisor.reload()
    time.sleep(0.2)
    assert stage.lines("heard") == []

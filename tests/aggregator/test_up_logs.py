"""The log files of `muster up` on a terminal: nobody else reads them, and they do not fill the disk."""

import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aggregator.up import ChildSpec, Supervisor
from aggregator.up_logs import bound_log, open_log

WRITER = """
import sys
for line in sys.stdin:
    sys.stdout.write(line)
    sys.stdout.flush()
    sys.stderr.write("done")
    sys.stderr.flush()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_log_is_for_its_owner_alone_also_one_that_is_there_already(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "agent.log"
    open_log(path).close()
    assert (0o600, 0o700) == (mode(path), mode(path.parent))
    path.chmod(0o644)
    open_log(path).close()
    assert 0o600 == mode(path)


def test_a_log_that_is_too_large_is_put_aside_while_its_child_writes_on(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    with open_log(path) as output:
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE
        )
    with child:
        assert child.stdin is not None
        assert child.stderr is not None

        def says(line: str) -> None:
            assert child.stdin is not None
            assert child.stderr is not None
            child.stdin.write(f"{line}\n".encode())
            child.stdin.flush()
            assert b"done" == child.stderr.read(4)

        says("first " + "x" * 100)
        assert not bound_log(path, 1000)
        assert bound_log(path, 100)
        says("second")
        assert "second\n" == path.read_text()  # at the beginning: no hole of what was there before
        assert (tmp_path / "agent.log.1").read_text().startswith("first ")
        assert 0o600 == mode(tmp_path / "agent.log.1")
        says("third " + "y" * 100)
        assert bound_log(path, 100)
        assert (tmp_path / "agent.log.1").read_text().startswith("second\nthird ")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["agent.log", "agent.log.1"]


def test_where_there_is_no_room_for_a_copy_it_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_text("x" * 200)
    (tmp_path / "agent.log.1").mkdir()  # nothing can be written there
    assert bound_log(path, 100)
    assert "" == path.read_text()


def test_a_log_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    assert not bound_log(tmp_path / "agent.log")


def test_the_supervisor_bounds_the_logs_of_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_child.py").write_text("import time\nprint('z' * 2000, flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(bound_log, "__defaults__", (1000,))
    env = {"PYTHONPATH": str(tmp_path)}
    supervisor = Supervisor([ChildSpec("one", "a_child")], env, log_dir=tmp_path / "logs")
    try:
        for _ in range(400):
            supervisor.poll()
            if (tmp_path / "logs" / "one.log.1").exists():
                break
            time.sleep(0.05)
        assert 2001 == (tmp_path / "logs" / "one.log.1").stat().st_size
    finally:
        supervisor.stop()

"""The zygote forks helpers, ends them, tells how they ended, and leaves nobody behind."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collectors.channel import HelperEnd
from collectors.zygote import Exited, Forked, Notice, Zygote, ZygoteLostError, exec_zygote


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    made = exec_zygote()
    yield made
    made.close()


def wait_for(zygote: Zygote, count: int, seconds: float = 60.0) -> list[Notice]:
    """Give the next notices."""
    notices: list[Notice] = []
    end = time.monotonic() + seconds
    while len(notices) < count and time.monotonic() < end:
        select.select([zygote], [], [], 0.1)
        notices += zygote.notices()
    assert len(notices) == count
    return notices


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


def helper(zygote: Zygote, token: int = 1) -> tuple[socket.socket, int]:
    channel = zygote.fork(token, "muster:test", 256 << 20)
    (forked,) = wait_for(zygote, 1)
    assert isinstance(forked, Forked)
    assert forked.token == token
    return channel, forked.pid


def test_helper_has_its_channel_and_nothing_else_open(zygote: Zygote) -> None:
    channel, pid = helper(zygote)
    until(lambda: Path(f"/proc/{pid}/comm").read_text(encoding="utf-8") == "muster:test\n")
    until(lambda: "Max data size             268435456" in Path(f"/proc/{pid}/limits").read_text(encoding="utf-8"))
    opened = {int(entry.name): str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    assert sorted(opened) == [0, 1, 2, 3]
    assert opened[0] == "/dev/null"
    assert opened[1] == opened[2]
    channel.close()


def test_helper_ends_with_its_channel(zygote: Zygote) -> None:
    channel, pid = helper(zygote)
    channel.close()
    assert wait_for(zygote, 1) == [Exited(pid, "exit status 0")]


def test_killed_helper_is_told_as_such_and_no_other_process_can_be_killed(zygote: Zygote) -> None:
    channel, pid = helper(zygote)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    zygote.kill(other.pid)
    zygote.kill(pid)
    assert wait_for(zygote, 1) == [Exited(pid, "signal 9")]
    assert other.poll() is None
    other.communicate(b"\n")
    channel.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_of_a_service_manager_end_neither_zygote_nor_helper(zygote: Zygote, number: int) -> None:
    """A stop of the whole group must not cost the last rows."""
    first, pid = helper(zygote)
    os.kill(pid, number)
    os.kill(zygote.pid, number)
    second, _ = helper(zygote, token=2)
    assert alive(pid)
    first.close()
    assert wait_for(zygote, 1) == [Exited(pid, "exit status 0")]
    second.close()


def test_helpers_end_when_the_agent_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the agent leaves no process, not even one that reads nothing."""
    program = """
import sys, time
from collectors.zygote import start_zygote
zygote = start_zygote()
channels = [zygote.fork(n, "muster:test", 1 << 28) for n in range(2)]
time.sleep(0.3)
pids = [notice.pid for notice in zygote.notices()]
print(zygote.pid, *pids, flush=True)
time.sleep(60)
"""
    agent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path.cwd())
    assert agent.stdout is not None
    pids = [int(word) for word in agent.stdout.readline().split()]
    assert len(pids) == 3
    os.kill(pids[1], signal.SIGSTOP)  # it will not see the end of its channel
    agent.kill()
    agent.communicate()
    until(lambda: not any(map(alive, pids)))


def test_lost_zygote_is_told_and_replaced(zygote: Zygote) -> None:
    os.kill(zygote.pid, signal.SIGKILL)
    with pytest.raises(ZygoteLostError):
        until(lambda: zygote.notices() and False)
    with pytest.raises(ZygoteLostError):
        zygote.fork(1, "muster:test", 1 << 28)
    another = zygote.again()
    channel, pid = helper(another)
    assert alive(pid)
    channel.close()
    another.close()


def test_forked_off_process_of_a_helper_has_no_channel() -> None:
    ours, theirs = socket.socketpair()
    end = HelperEnd(theirs)
    end.close()
    ours.settimeout(5)
    assert ours.recv(1) == b""
    ours.close()

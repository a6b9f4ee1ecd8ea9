"""systemd hears that a process is ready, and from its main loop that it is well; else nobody hears anything."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collectors.service_notify import say_ready

PATIENCE = 30


class Loop:
    """A main loop that a test turns by hand."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], None]] = []
        self.came = threading.Semaphore(0)

    def ask(self, call: Callable[[], None]) -> None:
        self.asked.append(call)
        self.came.release()

    def turn(self) -> None:
        assert self.came.acquire(timeout=PATIENCE)
        self.asked.pop(0)()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE)
        yield sock


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def heard(listener: socket.socket) -> bytes:
    listener.setblocking(False)
    try:
        return listener.recv(100)
    except BlockingIOError:
        return b""
    finally:
        listener.settimeout(PATIENCE)


def test_ready_is_said_by_the_main_loop_and_then_again_and_again_that_it_runs(
    listener: socket.socket, over: threading.Event
) -> None:
    loop = Loop()
    env = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(os.getpid())}
    say_ready(loop.ask, env, over=over)
    assert b"" == heard(listener)
    for expected in (b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"):
        loop.turn()
        assert expected == listener.recv(100)


def test_a_loop_that_hangs_says_nothing(listener: socket.socket, over: threading.Event) -> None:
    loop = Loop()
    say_ready(loop.ask, {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "200000"}, over=over)
    for _ in range(3):
        assert loop.came.acquire(timeout=PATIENCE)
    assert b"" == heard(listener)


@pytest.mark.parametrize(
    "more", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "often"}, {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}]
)
def test_without_a_watchdog_of_its_own_a_process_says_that_it_is_ready_and_no_more(
    listener: socket.socket, more: dict[str, str]
) -> None:
    loop, before = Loop(), threading.active_count()
    say_ready(loop.ask, {"NOTIFY_SOCKET": listener.getsockname(), **more})
    loop.turn()
    assert b"READY=1" == listener.recv(100)
    assert before == threading.active_count()


def test_an_abstract_address_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")  # the kernel gives it an abstract name
        loop = Loop()
        say_ready(loop.ask, {"NOTIFY_SOCKET": "@" + listener.getsockname()[1:].decode()})
        loop.turn()
        listener.settimeout(PATIENCE)
        assert b"READY=1" == listener.recv(100)


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_systemd_nothing_is_asked(address: str) -> None:
    loop = Loop()
    say_ready(loop.ask, {"NOTIFY_SOCKET": address} if address else {})
    assert [] == loop.asked


def test_a_socket_that_is_gone_is_no_error(tmp_path: Path) -> None:
    loop = Loop()
    say_ready(loop.ask, {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    loop.turn()

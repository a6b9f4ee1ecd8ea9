"""Runs a real server for a test: a free loopback port, a wait until it answers, and an end, whatever happens."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec


class DidNotStartError(Exception):
    """A server ended, or did not answer in time; the message holds the end of what it said."""


class Running(msgspec.Struct, frozen=True):
    """A server that answers."""

    address: str
    """Where, as a URL; "" for one that has no port."""
    pid: int
    """Its process; 0 when it was there before and is not ours to end."""
    output: Path
    """What it writes to stdout and stderr."""


def answers(url: str) -> bool:
    """Tell whether an HTTP GET is answered with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return 200 <= int(answer.status) < 300
    except (OSError, urllib.error.URLError):
        return False


@contextmanager
def running(
    command: Sequence[str | Path],
    folder: Path,
    *,
    address: str = "",
    healthy: Callable[[], bool] = lambda: True,
    seconds: float = 60.0,
    env: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[Running]:
    """Start a server in `folder` and end it again: by `stop`, after 10 s by SIGKILL. Raises DidNotStartError.

    `env` is added to the environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output.log"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        _wait(process, output, healthy, seconds)
        yield Running(address, process.pid, output)
    finally:
        _end(process, stop)


def _wait(process: subprocess.Popen[bytes], output: Path, healthy: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not healthy():
        gone = process.poll()
        if gone is not None or time.monotonic() > until:
            reason = f"ended with {gone}" if gone is not None else f"does not answer after {seconds:.0f} s"
            said = output.read_text(errors="replace")[-2000:]
            raise DidNotStartError(f"{process.args!r} {reason}:\n{said}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

"""Tries out what is installed, each in a process of its own: importing or probing it may hang or crash."""

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from collectors.registry import Entry, discover

PROBE_SECONDS: Final = 5.0


class Found(msgspec.Struct, frozen=True):
    """One installed collector."""

    name: str
    factory: str
    distribution: str
    version: str
    problem: str
    """ "" when it can run here; else what its probe says is missing, or why it could not be asked."""
    broken: bool = False
    """It could not be loaded or asked, whatever this machine has."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of something that ran apart."""

    value: str = ""
    error: str = ""
    """ "" when it went well; else what was raised, or how the process ended."""


def apart(work: Callable[[], str], seconds: float = PROBE_SECONDS) -> Outcome:
    """Do something in a forked process, which is killed when it takes longer. For a process without threads."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(work, writing)
    os.close(writing)
    try:
        return _parent(pid, reading, time.monotonic() + seconds, seconds)
    finally:
        os.close(reading)


def _child(work: Callable[[], str], writing: int) -> None:
    """Work, tell, and leave without any clean-up that belongs to the parent."""
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            outcome = Outcome(work())
        except BaseException as error:  # noqa: BLE001 - whatever foreign code raises is the answer
            outcome = Outcome(error=f"{type(error).__name__}: {error}"[:2000])
        os.write(writing, msgspec.json.encode(outcome))
    finally:
        os._exit(0)


def _parent(pid: int, reading: int, deadline: float, seconds: float) -> Outcome:
    data = b""
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reading, 65536)
        if not part:
            _, status = os.waitpid(pid, 0)
            if data:
                return msgspec.json.decode(data, type=Outcome)
            code = os.waitstatus_to_exitcode(status)
            return Outcome(error=f"crashed: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}")
        data += part
    os.kill(pid, signal.SIGKILL)
    if os.waitpid(pid, os.WNOHANG) == (0, 0):  # what hangs in the kernel cannot be waited for
        time.sleep(0.1)
        os.waitpid(pid, os.WNOHANG)
    return Outcome(error=f"hung: no answer within {seconds:g} s")


def probe_installed(path: list[str] | None = None) -> list[Found]:
    """Give every installed collector, and whether there is anything here for it."""
    return [_probe(entry) for entry in discover(path).values()]


def _probe(entry: Entry) -> Found:
    outcome = apart(lambda: _ask(entry))
    problem = outcome.error or outcome.value
    return Found(entry.name, entry.factory, entry.distribution, entry.version, problem, broken=bool(outcome.error))


def _ask(entry: Entry) -> str:
    import logging

    from collectors.contract import Context, Probes
    from collectors.registry import check_class, load_factory

    factory = load_factory(entry.factory)
    check_class(factory)
    context = Context(subject="probe", log=logging.getLogger("muster.probe"), root=Path("/"))
    collector: Any = factory(factory.Config(), context)
    return collector.probe() if isinstance(collector, Probes) else ""

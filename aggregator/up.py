"""The supervisor of `muster up`: keeps an aggregator and an agent running on this machine.

Children are started by exec, never by a bare fork. Each inherits one end of a socket pair, its lifeline: when the
supervisor dies, however it dies, it closes and they end by themselves, each after its own last commit. The other way it
carries a beat of the child's main loop every few seconds: a child that lives and does not beat hangs, and is killed and
started again.
"""

import contextlib
import logging
import signal
import socket
import subprocess  # noqa: TID251 - the supervisor is what starts programs
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final

import msgspec

from aggregator.up_logs import bound_log, open_log
from collectors.process import EXIT_CONFIG

_log = logging.getLogger("muster.up")
FIRST_BACKOFF: Final = 0.2
MOST_BACKOFF: Final = 10.0
STEADY_SECONDS: Final = 20.0
"""A child that ran so long has started well: the next restart is quick again."""
STOP_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 60.0
"""A child whose main loop gives no sign of life for so long hangs."""
START_PATIENCE_SECONDS: Final = 600.0
"""The same until its first sign: it may have to recover large files."""
_LATE_SECONDS: Final = 5.0
"""Between two polls; when it was longer, the supervisor itself was held up, and perhaps everybody was."""


class ChildSpec(msgspec.Struct, frozen=True):
    """A program to keep running."""

    name: str
    module: str
    """Run as `python -P -m <module>`: with -P a folder of the user's own called `schemas` cannot take our place."""
    arguments: tuple[str, ...] = ()
    beats: bool = False
    """It shows that it is well (`watch_lifeline` with `ask`)."""
    reloads: bool = False
    """It reads its configuration again on SIGHUP, from its first sign of life on (so it `beats`)."""


class ChildStatus(msgspec.Struct):
    """What is known of a child."""

    name: str
    pid: int | None = None
    starts: int = 0
    last_exit: str = ""


class _Child:
    def __init__(self, spec: ChildSpec, log_path: Path | None) -> None:
        self.spec = spec
        self.status = ChildStatus(spec.name)
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.next_start = 0.0
        self.backoff = FIRST_BACKOFF
        self.log_path = log_path
        self.lifeline: socket.socket | None = None
        self.heard = 0.0
        """When it last gave a sign of life, or was started."""
        self.beaten = False
        self.stale = False
        """Its configuration is to be read again, once it can hear that."""
        self.hung = ""
        """Why it was killed; "" when it was not."""

    def listen(self, now: float) -> None:
        """Take what signs of life there are."""
        try:
            while self.lifeline is not None and self.lifeline.recv(4096):
                self.heard, self.beaten = now, True
        except OSError:  # no more now; or it is about to end
            return

    def hang_up(self) -> None:
        """Close the lifeline: its process is gone."""
        if self.lifeline is not None:
            self.lifeline.close()
            self.lifeline = None


class Supervisor:
    """Keeps children alive until `stop`, and their log files bounded. `poll` is called often, from one thread."""

    def __init__(
        self,
        specs: list[ChildSpec],
        env: Mapping[str, str],
        *,
        log_dir: Path | None = None,
        patience: float = PATIENCE_SECONDS,
        start_patience: float = START_PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet. `patience`: seconds without a sign of life; `start_patience`: the same until the first."""
        self._children = [_Child(spec, log_dir / f"{spec.name}.log" if log_dir else None) for spec in specs]
        self._env = dict(env)
        self._clock = clock
        self._patience = patience
        self._start_patience = start_patience
        self._polled = clock()
        self.failed: str = ""
        """Set when a child ended in a way that starting it again cannot mend."""

    def poll(self) -> None:
        """Start what is not running, notice what has ended, end what hangs."""
        now = self._clock()
        late, self._polled = now - self._polled > _LATE_SECONDS, now
        for child in self._children:
            if child.log_path is not None:
                bound_log(child.log_path)
            if child.process is not None and child.process.poll() is not None:
                self._ended(child)
            elif child.process is not None and child.spec.beats:
                self._watch(child, child.process, now, late=late)
            if child.process is None and self._clock() >= child.next_start and not self.failed:
                self._start(child)

    def statuses(self) -> list[ChildStatus]:
        """What is known of each child."""
        return [child.status for child in self._children]

    def reload(self) -> None:
        """Have the children read their configuration again (SIGHUP), those that do so.

        One that is still starting might die of the signal: it gets it after its first sign of life.
        """
        for child in self._children:
            child.stale = child.spec.reloads and child.process is not None
            self._hand_on(child)

    def stop(self) -> None:
        """End the children, last started first, each by SIGTERM, and by SIGKILL if it does not end. Safe twice."""
        for child in reversed(self._children):
            process = child.process
            if process is None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _log.error(
                    "child_killed name=%s pid=%d (did not end in %.0f s)", child.spec.name, process.pid, STOP_SECONDS
                )
                process.kill()
                process.wait()
            child.process = None
            child.status.pid = None
            child.hang_up()

    def _hand_on(self, child: _Child) -> None:
        if child.stale and child.beaten and child.process is not None:
            child.stale = False
            child.process.send_signal(signal.SIGHUP)
            _log.info("child_reloads name=%s pid=%d", child.spec.name, child.process.pid)

    def _watch(self, child: _Child, process: "subprocess.Popen[bytes]", now: float, *, late: bool) -> None:
        """Kill a child that has given no sign of life for too long."""
        child.listen(now)
        self._hand_on(child)
        if late:  # what it did meanwhile we could not have seen
            child.heard = now
        silent = now - child.heard
        if child.hung or silent < (self._patience if child.beaten else self._start_patience):
            return
        child.hung = f"hung for {silent:.0f} s, killed"
        _log.error("child_hung name=%s pid=%d silent_seconds=%.0f: it is killed and started again", child.spec.name,
                   process.pid, silent)  # fmt: skip
        process.kill()

    def _start(self, child: _Child) -> None:
        child.started = child.heard = self._clock()
        child.beaten, child.stale, child.hung = False, False, ""
        try:
            child.process = self._spawn(child)
        except OSError as error:  # no memory, no room, no process left: that passes, and the others still run
            child.hang_up()
            self._again(child, f"cannot be started: {error.strerror or error}")
            return
        child.status.pid = child.process.pid
        child.status.starts += 1
        _log.info("child_started name=%s pid=%d", child.spec.name, child.process.pid)

    def _spawn(self, child: _Child) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", child.spec.module, *child.spec.arguments]
        with contextlib.ExitStack() as ours:
            child.lifeline, theirs = socket.socketpair()
            ours.enter_context(theirs)
            child.lifeline.setblocking(False)
            output: IO[bytes] | None = None
            if child.log_path is not None:
                output = ours.enter_context(open_log(child.log_path))
            return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                command,
                env=self._env | {"MUSTER_LIFELINE_FD": str(theirs.fileno())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends them in order
            )

    def _ended(self, child: _Child) -> None:
        assert child.process is not None
        code = child.process.returncode
        word = f"signal {_signal_word(-code)}" if code < 0 else f"exit status {code}"
        word = child.hung or word
        child.process = None
        child.status.pid = None
        child.hang_up()
        if code == EXIT_CONFIG:
            child.status.last_exit = word
            self.failed = (
                f"the {child.spec.name} cannot run as things are: its last words, above or in its log, say why"
            )
            return
        self._again(child, word)

    def _again(self, child: _Child, word: str) -> None:
        """Start a child again after its back-off."""
        child.status.last_exit = word
        if self._clock() - child.started >= STEADY_SECONDS:
            child.backoff = FIRST_BACKOFF
        child.next_start = self._clock() + child.backoff
        _log.warning("child_ended name=%s by=%r restart_seconds=%.1f", child.spec.name, word, child.backoff)
        child.backoff = min(MOST_BACKOFF, child.backoff * 2)


def _signal_word(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the two that have names
        return str(number)

"""A helper that not even SIGKILL ends is left where it is and counted; after three its source is unavailable."""

import selectors
import socket
import threading
from collections.abc import Iterator, Mapping

import pytest

from collectors.channel import Call, Done, Facts, HelperEnd, Load, Verb
from collectors.pool import KILL_SECONDS
from collectors.scheduler import Scheduler
from collectors.status import CollectorStatus, SchedulerOptions, State
from collectors.zygote import Exited, Forked, Notice
from schemas.rows import Severity
from tests.collectors.runtime.rig import Intake, setup


class Kernel:
    """A zygote whose helpers are threads of the test; those of `immortal` titles survive being killed.

    A helper answers everything but the first `collect`, in which it hangs.
    """

    def __init__(self) -> None:
        self.immortal: set[str] = set()
        self.killed: list[int] = []
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._notices: list[Notice] = []
        self._titles: dict[int, str] = {}

    def fork(self, token: int, title: str, memory_bytes: int) -> socket.socket:
        ours, theirs = socket.socketpair()
        pid = 100_000_000 + token
        self._titles[pid] = title
        threading.Thread(target=self._help, args=(HelperEnd(theirs), theirs), daemon=True).start()
        self._tell(Forked(token, pid))
        return ours

    def kill(self, pid: int) -> None:
        self.killed.append(pid)
        if self._titles[pid] not in self.immortal:
            self._tell(Exited(pid, "signal 9"))

    def notices(self) -> list[Notice]:
        try:
            self._ours.recv(1000)
        except BlockingIOError:
            return []
        notices, self._notices = self._notices, []
        return notices

    def fileno(self) -> int:
        return self._ours.fileno()

    def again(self) -> "Kernel":
        raise OSError("there is no other")

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()

    def _tell(self, notice: Notice) -> None:
        self._notices.append(notice)
        self._theirs.send(b"!")

    def _help(self, end: HelperEnd, sock: socket.socket) -> None:
        with sock:
            for request in end.requests():
                if isinstance(request, Load):
                    end.send(Done(request.call, request.collector, 0.0, 0.0, facts=Facts("", False, False)))
                elif isinstance(request, Call) and request.verb is not Verb.COLLECT:
                    end.send(Done(request.call, request.collector, 0.0, 0.0))


class Bench:
    """A scheduler on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ticking = 0.0
        self.kernel = Kernel()
        self.told: list[tuple[str, Mapping[str, object], Severity]] = []
        options = SchedulerOptions(node_id="node-1", first_within=0.0, backoff_first=1.0, backoff_most=1.0)
        self.scheduler = Scheduler(
            [setup("disk", "Sleeper", interval=1.0, timeout=1.0)],
            Intake(),
            self.kernel,
            options,
            clock=self._clock,
            selector=selectors.SelectSelector(),
            tell_event=lambda kind, _message, detail, severity: self.told.append((kind, detail, severity)),
        )

    def go(self, seconds: float, step: float = 0.1) -> None:
        """Let time pass, and helpers answer."""
        for _ in range(round(seconds / step)):
            self.now += step
            for _ in range(3):
                self.scheduler.turn(0.002)

    def _clock(self) -> float:
        self.now += self.ticking
        return self.now

    @property
    def status(self) -> CollectorStatus:
        return self.scheduler.status()[0]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.kernel.immortal.clear()
    made.ticking = 0.5  # from here on every look at the clock takes time: nothing is waited for
    made.scheduler.close()


def test_helper_that_can_be_killed_is_replaced_for_ever(bench: Bench) -> None:
    bench.go(30.0)
    assert bench.status.timeouts >= 8
    assert (bench.status.left_helpers, len(bench.kernel.killed)) == (0, bench.status.timeouts)
    assert bench.status.state is not State.UNAVAILABLE


def test_helper_that_cannot_be_killed_is_left_after_two_seconds(bench: Bench) -> None:
    bench.kernel.immortal.add("muster:disk")
    while not bench.kernel.killed:
        bench.go(0.1)
    bench.go(KILL_SECONDS - 0.3)
    assert bench.status.left_helpers == 0
    bench.go(0.6)
    assert bench.status.left_helpers == 1


def test_source_is_unavailable_after_three_that_were_left(bench: Bench) -> None:
    """Promise 5. What hangs in the kernel is not fed more processes."""
    bench.kernel.immortal.add("muster:disk")
    bench.go(60.0)
    assert (bench.status.state, bench.status.left_helpers) == (State.UNAVAILABLE, 3)
    assert (len(bench.kernel.killed), bench.status.next_try_seconds) == (3, None)
    assert bench.status.errors == {"timeout": 3}


def test_deadline_is_that_of_the_call(bench: Bench) -> None:
    bench.go(0.5)
    assert bench.status.state is State.RUNNING
    bench.go(0.3)
    assert bench.kernel.killed == []
    bench.go(0.5)
    assert len(bench.kernel.killed) == 1


def test_a_killed_helper_is_told_once_as_long_as_its_collector_never_works(bench: Bench) -> None:
    bench.go(30.0)
    assert bench.status.timeouts >= 8
    [(kind, detail, severity)] = bench.told
    assert ("collector.helper.killed", Severity.WARNING) == (kind, severity)
    assert {"collector": "disk", "kind": "timeout", "reason": "collect took longer than 1 s"}.items() <= detail.items()


def test_each_helper_that_was_left_is_told_with_how_many_there_are(bench: Bench) -> None:
    bench.kernel.immortal.add("muster:disk")
    bench.go(60.0)
    left = [(detail["collectors"], detail["left"]) for kind, detail, _ in bench.told if kind == "collector.helper.left"]
    assert [("disk", 1), ("disk", 2), ("disk", 3)] == left

"""The scheduler: runs every collector in time, in helpers that may hang, crash or lie, and never waits for any of them.

One thread, one selector, no call that blocks. What it knows of each collector is in `collectors.source`, of the helper
processes in `collectors.pool`; here are the loop, the routing of what comes, and what others may ask.
"""

import logging
import math
import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from collectors.channel import Done, Emitted, Ended, Part, Reply, Said
from collectors.delivery import Delivery, IntakeLike
from collectors.pool import LEFT_LIMIT, Pool, Process
from collectors.registry import discover, factory_of
from collectors.source import Source
from collectors.status import CollectorSetup, CollectorStatus, OnceResult, SchedulerOptions, State
from collectors.zygote import ZygoteLike
from schemas.errors import ConfigError
from schemas.rows import FieldValue, Severity
from schemas.verbosity import Level

_log = logging.getLogger("muster.scheduler")
_LONGEST_WAIT: Final = 60.0
TellEvent = Callable[[str, str, Mapping[str, FieldValue], Severity], None]
"""Takes an event of the agent's own: type, message, detail, severity. Called on the scheduler's thread."""


class Scheduler:
    """Runs collectors. Made and `run` on one thread; `stop`, `reload`, `ask`, `levels_changed` and `status` on any."""

    def __init__(
        self,
        setups: Sequence[CollectorSetup],
        intake: IntakeLike,
        zygote: ZygoteLike,
        options: SchedulerOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        selector: selectors.BaseSelector | None = None,
        tell_event: TellEvent | None = None,
    ) -> None:
        self.intake = _Tap(intake)
        self.options = options
        self.clock = clock
        self.wall_ns = wall_ns
        self._selector = selector or selectors.DefaultSelector()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._read_wakes)
        self._orders: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._closed = False
        self._calls = 0
        self._tell_event = tell_event or _tell_nobody
        self._told: dict[str, tuple[str, int]] = {}
        """By collector, the loss of a helper that was told last: its kind, and how often it had collected well."""
        self._unlucky: dict[str, int] = {}
        """By collector, how often it was at work when the zygote was lost."""
        self.pool = Pool(
            zygote,
            self._selector,
            clock=clock,
            memory_bytes=options.memory_bytes,
            on_reply=self._reply,
            on_gone=self._gone,
            on_left=self._left,
            on_zygote_lost=self._zygote_lost,
        )
        self._sources: dict[str, Source] = {}
        self._retired: list[Source] = []
        """Sources that were replaced or taken out, until they have stopped."""
        self._apply(setups)

    # --- for any thread ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Have `run` stop every collector and come back, within about twice `stop_timeout`. Safe twice."""
        self._stopping = True
        self._wake()

    def reload(self, setups: Sequence[CollectorSetup]) -> None:
        """Take another list of collectors: what is new starts, what is gone or changed stops, the rest goes on."""
        self._orders.append(lambda: self._apply(setups))
        self._wake()

    def ask(self, call: Callable[[], None]) -> None:
        """Have something short called on the scheduler's thread, soon: while that hangs, it is not."""
        self._orders.append(call)
        self._wake()

    def read_again(self, names: Collection[str]) -> None:
        """Have collectors read and describe their devices soon: one of theirs is not as it was. From any thread."""
        self.ask(lambda: self._read_again(names))

    def levels_changed(self) -> None:
        """Have the levels in force read again, and told to the collectors at once."""
        self._orders.append(self._push_levels)
        self._wake()

    def status(self) -> list[CollectorStatus]:
        """Give how every collector is, by name."""
        now = self.clock()
        return [_status_of(source, now) for _, source in sorted(self._sources.copy().items())]

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`, then stop every collector and end the helpers and the zygote."""
        try:
            while not self._stopping:
                self.turn()
        finally:
            self.close()

    def once(self, test_wait: float = 2.0, limit: float = 60.0) -> list[OnceResult]:
        """Start every collector, collect once, and stop; give what came, which the intake was given as well.

        A collector that watches is waited for until it has emitted something, `test_wait` seconds at most; nobody is
        waited for longer than `limit` seconds.
        """
        self.options = msgspec.structs.replace(self.options, first_within=0.0)
        taken: dict[str, list[Delivery]] = {}
        self.intake.taken = taken
        end = self.clock() + limit
        while not self._stopping and self.clock() < end:
            now = self.clock()
            if all(source.seen(now, test_wait) for source in self._sources.values()):
                break
            self.turn(0.05)
        results = [OnceResult(status, taken.get(status.name, [])) for status in self.status()]
        self.close()
        return results

    def turn(self, longest: float = _LONGEST_WAIT) -> None:
        """Wait for the next thing to do, `longest` seconds at most, and do it."""
        now = self.clock()
        wait = min(longest, max(0.0, self._next_due(now) - now))
        for key, mask in self._selector.select(wait):
            key.data(mask)
        while self._orders:
            self._orders.popleft()()
        now = self.clock()
        self.pool.tick(now)
        for source in self._movable():
            source.advance(now)
        self._retired = [source for source in self._retired if source.state is not State.STOPPED]
        self.pool.await_writable()

    def close(self) -> None:
        """Stop every collector, in order where it can be had, and end helpers and zygote. Safe twice."""
        if self._closed:
            return
        self._closed = True
        end = self.clock() + 2 * self.options.stop_timeout + 1.0
        for source in self._everyone():
            source.close()
        while self.clock() < end and any(source.state is not State.STOPPED for source in self._everyone()):
            self.turn(0.1)
        self.pool.close()
        self._selector.close()
        os.close(self._woken)
        waker, self._waker = self._waker, -1
        os.close(waker)

    # --- what sources and helpers need -------------------------------------------------------------------------------

    def next_call(self) -> int:
        """Give a number that no call had before."""
        self._calls += 1
        return self._calls

    def lose(self, process: Process, culprit: Source, kind: str, how: str) -> None:
        """End a helper on a collector's account; the others in it start again in the next one."""
        _log.info("helper_killed pid=%s collector=%s why=%s", process.pid, culprit.name, how)
        self.pool.kill(process, culprit.name)
        if self._is_news(culprit, kind):
            what = f"A helper process was killed on account of the collector {culprit.name}: {how}"
            detail = {"collector": culprit.name, "kind": kind, "reason": how, "pid": process.pid}
            self._tell_event("collector.helper.killed", what, detail, Severity.WARNING)
        now = self.clock()
        for source in self._everyone():
            if source.process is process:
                source.gone(kind, how, now, charged=source is culprit)

    def _gone(self, process: Process, kind: str, how: str) -> None:
        """A helper went by itself: those who were at work in it are to blame, as far as one can know."""
        members = [source for source in self._everyone() if source.process is process]
        suspects = [source for source in members if source.busy]
        if kind == "zygote":  # everybody had to go: who was at work each time is more than unlucky
            for source in suspects:
                self._unlucky[source.name] = self._unlucky.get(source.name, 0) + 1
            suspects = [source for source in suspects if self._unlucky[source.name] > 1]
        else:
            suspects = suspects or [source for source in members if source.watching] or members
        names = ",".join(source.name for source in suspects)
        _log.info("helper_lost pid=%s group=%s how=%s collectors=%s", process.pid, process.group, how, names)
        news = [source.name for source in suspects if self._is_news(source, kind)]
        if news:
            what = f"A helper process ended by itself ({how}), while it worked for {', '.join(news)}"
            detail = {"collectors": ",".join(news), "kind": kind, "reason": how, "pid": process.pid}
            self._tell_event("collector.helper.lost", what, detail, Severity.WARNING)
        now = self.clock()
        for source in members:
            source.gone(kind, f"its helper ended: {how}", now, charged=source in suspects)

    def _left(self, process: Process, names: list[str]) -> None:
        """Not even SIGKILL ends a helper: what its collectors read hangs in the kernel."""
        who = ",".join(names)
        what = f"A helper process of {who} could not be ended: it hangs in the kernel, and was left there"
        left = max(self.pool.left[name] for name in names) if names else 1
        detail = {"collectors": who, "pid": process.pid, "left": left, "left_limit": LEFT_LIMIT}
        self._tell_event("collector.helper.left", what, detail, Severity.ERROR)

    def _zygote_lost(self, why: str, helpers: int) -> None:
        """All helpers go with it and are made anew: no loss of a collector, and nothing that should happen."""
        what = f"The zygote, from which all helpers are forked, ended ({why}); {helpers} helpers went with it"
        self._tell_event("collector.zygote.lost", what, {"reason": why, "helpers": helpers}, Severity.WARNING)

    def _is_news(self, source: Source, kind: str) -> bool:
        """Tell a standing condition once: again only after the collector has worked, or when it fails otherwise."""
        last = (kind, source.counters.runs)
        if self._told.get(source.name) == last:
            return False
        self._told[source.name] = last
        return True

    def _reply(self, process: Process, reply: Reply) -> None:
        if isinstance(reply, Said):
            logging.getLogger(reply.logger).log(reply.level, "%s", reply.text)
            return
        found = [each for each in self._everyone() if each.name == reply.collector and each.process is process]
        if not found:
            return  # it was let go in the meantime
        source, now = found[0], self.clock()
        expected = True
        if isinstance(reply, Done):
            expected = source.on_done(reply, now)
        elif isinstance(reply, Part):
            expected = source.on_part(reply, now)
        elif isinstance(reply, Emitted):
            expected = source.on_emitted(reply, now)
        elif isinstance(reply, Ended):
            source.on_ended(reply)
        if not expected:
            self.lose(process, source, "garbage", f"its helper sent a {type(reply).__name__} that nobody asked for")

    def _everyone(self) -> list[Source]:
        return [*self._retired, *self._sources.values()]

    def _movable(self) -> list[Source]:
        """Give all but those whose predecessor of the same name has not stopped yet."""
        if not self._retired:
            return list(self._sources.values())
        names = {source.name for source in self._retired}
        return [*self._retired, *(source for source in self._sources.values() if source.name not in names)]

    def _next_due(self, now: float) -> float:
        if self._orders:
            return now
        return min([self.pool.next_due(), *(source.next_due(now) for source in self._movable())])

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"\0")
        except (BlockingIOError, OSError):  # it is awake, or has ended
            return

    def _read_wakes(self, _mask: int) -> None:
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            return

    # --- setups ------------------------------------------------------------------------------------------------------

    def _apply(self, setups: Sequence[CollectorSetup]) -> None:
        wanted = {setup.name: setup for setup in setups}
        installed = discover() if any(":" not in setup.factory for setup in setups) else {}
        for name, source in list(self._sources.items()):
            if wanted.get(name) != source.setup:
                source.close()
                self._retired.append(source)
                del self._sources[name]
        for name, setup in wanted.items():
            if name in self._sources:
                continue
            try:
                factory, problem = factory_of(setup.factory or name, installed), ""
            except ConfigError as error:
                factory, problem = setup.factory or name, str(error)
            source = self._sources[name] = Source(setup, factory, self)
            if problem and setup.enabled:
                source.refuse(problem)

    def _read_again(self, names: Collection[str]) -> None:
        for name in names:
            if name in self._sources:
                self._sources[name].read_again()

    def _push_levels(self) -> None:
        for source in self._sources.values():
            source.push_level()


def _tell_nobody(_type: str, _message: str, _detail: Mapping[str, FieldValue], _severity: Severity) -> None:
    pass


class _Tap:
    """The intake, as it is; and while somebody wants to see what it takes, a copy of that."""

    def __init__(self, intake: IntakeLike) -> None:
        self.taken: dict[str, list[Delivery]] | None = None
        self._intake = intake
        self.positions = intake.positions
        self.ready = intake.ready
        self.when_committed = intake.when_committed

    def level(self, collector: str) -> Level:
        """The level in force."""
        return self._intake.level(collector)

    def take(self, collector: str, delivery: Delivery) -> None:
        """Hand a delivery on."""
        if self.taken is not None:
            self.taken.setdefault(collector, []).append(delivery)
        self._intake.take(collector, delivery)


def _status_of(source: Source, now: float) -> CollectorStatus:
    counters, process = source.counters, source.process
    planned = source.agenda.next_tick if source.state is State.RUNNING else source.next_try
    return CollectorStatus(
        name=source.name,
        factory=source.factory,
        state=source.state,
        group=source.isolation.group,
        helper_pid=None if process is None else process.pid,
        watching=source.watching,
        interval=source.setup.interval,
        runs=counters.runs,
        rows=counters.rows,
        errors=counters.errors.copy(),
        timeouts=counters.timeouts,
        crashes=counters.crashes,
        skipped=counters.skipped,
        left_helpers=source.left_helpers,
        last_seconds=counters.last_seconds,
        last_success_ns=counters.last_success_ns,
        last_error=counters.last_error,
        last_error_ns=counters.last_error_ns,
        next_try_seconds=None if math.isinf(planned) else max(0.0, planned - now),
        slip_p99_seconds=counters.slip_p99(),
    )

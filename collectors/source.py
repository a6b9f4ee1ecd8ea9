"""One collector as the scheduler drives it: what it does now, and what comes next."""

import logging
import math
from collections.abc import Callable
from typing import Final, Protocol

from collectors.cadence import Agenda, share
from collectors.calls import Asking, Calls, Flight
from collectors.channel import Done, Emitted, Ended, Facts, Forget, Part, Problem, ProblemKind, SetLevel, Taken, Verb
from collectors.counters import Counters
from collectors.handover import Handover
from collectors.isolation import Isolation
from collectors.pool import LEFT_LIMIT, Pool, Process
from collectors.status import CollectorSetup, State
from collectors.trouble import Trouble
from collectors.watching import Watch

_log = logging.getLogger("muster.scheduler")
_WAITING: Final = (State.STARTING, State.BACKING_OFF, State.NO_DATA)
_LEAVING: Final = (State.NO_DATA, State.UNSUPPORTED, State.MISCONFIGURED, State.STOPPED)
"""States that need no helper: it may end."""


class Hub(Asking, Protocol):
    """What a source needs of the scheduler."""

    @property
    def pool(self) -> Pool:
        """The helpers."""

    @property
    def wall_ns(self) -> Callable[[], int]:
        """Wall time, nanoseconds since 1970."""

    def lose(self, process: Process, culprit: "Source", kind: str, how: str) -> None:
        """End a helper on a collector's account, and tell everyone who is in it."""


class Source:
    """One collector: a machine of few states, moved by time (`advance`), its helper (`on_*`) and its end (`gone`)."""

    def __init__(self, setup: CollectorSetup, factory: str, hub: Hub) -> None:
        self.setup = setup
        self.name = setup.name
        self.factory = factory
        self.process: Process | None = None
        self.state = State.STARTING if setup.enabled else State.DISABLED
        self.closing = False
        self.counters = Counters()
        self.facts: Facts | None = None
        self.running_since = math.inf
        self.next_try = 0.0 if setup.enabled else math.inf
        self.agenda = Agenda(setup.interval, hub.options.describe_every)
        self._hub = hub
        self._share = share(hub.options.node_id, setup.name)
        self._calls = Calls(setup, factory, hub)
        self._trouble = Trouble(setup.name, self.counters, hub.options, hub.wall_ns)
        self._after_stop = (State.STOPPED, math.inf)
        self.isolation = Isolation(setup.name, setup.isolation)
        self._handover = Handover(
            setup.name,
            hub.intake,
            self.counters,
            float(hub.options.max_rows),
            wall_ns=hub.wall_ns,
            answer=self._answer,
            device_changed=self._hurry,
            soon=hub.ask,
        )
        self._watch = Watch(self.counters, self._trouble, self._handover)

    @property
    def busy(self) -> bool:
        """Whether a call is being made."""
        return self._calls.flight is not None

    @property
    def watching(self) -> bool:
        """Whether a watch is to run now."""
        return bool(self._watch.call and self.facts is not None and self.facts.watches)

    @property
    def left_helpers(self) -> int:
        """How many helpers on its account could not be ended."""
        return self._hub.pool.left.get(self.name, 0)

    @property
    def _describes(self) -> bool:
        return self.facts is not None and self.facts.describes

    def seen(self, now: float, test_wait: float) -> bool:
        """Whether it has collected, described, and its watch has emitted or had `test_wait` seconds."""
        if self.state not in (State.STARTING, State.RUNNING):
            return True
        if self.state is State.STARTING or self.busy or not self.counters.runs or not self.agenda.described(now):
            return False
        return not self.watching or self.counters.emissions > 0 or now - self.running_since >= test_wait

    def refuse(self, text: str) -> None:
        """Do not even try: the configuration is wrong."""
        self.counters.count("ConfigError")
        self._trouble.note(text)
        self._trouble.complain("ConfigError", text)
        self._settle(State.MISCONFIGURED, math.inf)

    # --- moved by time -----------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Do what has come due."""
        if self._handover.held:
            self._handover.release(now)
        flight = self._calls.flight
        if flight is not None:
            if now >= flight.deadline:
                self._timed_out(flight)
        elif self.closing:
            if self.state is not State.STOPPED:
                self._stop_then(State.STOPPED, math.inf)
        elif self.state in _WAITING:
            if now >= self.next_try:
                self._open(now)
        elif self.state is State.RUNNING and self.agenda.due <= now and not self._handover.waiting:
            self._next(now)

    def next_due(self, now: float) -> float:
        """When `advance` has something to do, monotonic seconds; infinity when only the helper can move it."""
        due = self._handover.next_due(now) if self._handover.held else math.inf
        if self._calls.flight is not None:
            return min(due, self._calls.flight.deadline)
        if self.closing:
            return math.inf if self.state is State.STOPPED else now
        if self.state in _WAITING:
            return min(due, self.next_try)
        if self.state is not State.RUNNING or self._handover.waiting:
            return due
        planned = self.agenda.due
        return planned if planned > now else now + 0.05  # it is time, but the intake is not ready

    def push_level(self) -> None:
        """Tell the helper the level in force, when it changed."""
        level = self._hub.intake.level(self.name)
        if self.process is not None and level != self._calls.level:
            self._calls.level = level
            self.process.send(SetLevel(self.name, level))

    def close(self) -> None:
        """Stop for good: `state` becomes STOPPED, after at most twice the time that `stop` may take."""
        self.closing = True
        self._calls.hasten(self._hub.options.stop_timeout)

    def _next(self, now: float) -> None:
        self.counters.skipped += self.agenda.missed(now)
        if not self._hub.intake.ready():
            return
        due = self.agenda.collect(now)
        if due is not None:
            self._calls.ask(self._must_process(), Verb.COLLECT, now, due)
        elif self.agenda.describe(now):
            self._calls.ask(self._must_process(), Verb.DESCRIBE, now, now)

    def _open(self, now: float) -> None:
        """Get a helper, load the class there, start."""
        pool = self._hub.pool
        if self.left_helpers >= LEFT_LIMIT:
            self._settle(State.UNAVAILABLE, math.inf)
            self._trouble.complain("unavailable", f"{LEFT_LIMIT} of its helpers could not be ended")
            return
        self.state = State.STARTING
        process = None if pool.is_killing_for(self.name) else pool.get(self.isolation.group)
        if process is None:
            self.next_try = now + 0.25
        elif self.process is process and self.name in process.loaded:
            self._start(process, now)
        else:
            self.process = process
            self._calls.load(process, now)

    def _start(self, process: Process, now: float) -> None:
        self._watch.begin(self._calls.ask(process, Verb.START, now, now))

    # --- moved by its helper -----------------------------------------------------------------------------------------

    def on_done(self, done: Done, now: float) -> bool:
        """Take an answer; False when nothing was asked."""
        flight = self._calls.answered(done.call)
        if flight is None:
            return False
        self.counters.merge(done.faults)
        if done.note:
            self._trouble.note(done.note)
        problem = done.problem
        if problem is not None and problem.kind is ProblemKind.MEMORY:
            self._hub.lose(self._must_process(), self, "memory", problem.text or "out of memory")
        elif flight.verb is Verb.LOAD:
            self._loaded(done.facts, problem, now)
        elif flight.verb is Verb.START:
            self._started(problem, now)
        elif flight.verb is Verb.COLLECT:
            self._collected(done, flight, now)
        elif flight.verb is Verb.DESCRIBE:
            self._described(done, now)
        else:
            self._stopped(problem)
        ended = self._watch.ended or self._trouble.spent
        if ended and self.state is State.RUNNING and self._calls.flight is None:
            self._stop_and_back_off("watch" if self._watch.ended else "new_process", self.counters.last_error)
        return True

    def on_part(self, part: Part, now: float) -> bool:
        """Take rows of a collection that goes on; False when none goes on, or the last are not answered yet."""
        if not self._calls.pause(part.call, now):
            return False
        self._handover.offer(part.call, part.delivery, now, answer=True)
        return True

    def on_emitted(self, emitted: Emitted, now: float) -> bool:
        """Take rows of the watch; False when it does not wait for its turn."""
        return self._watch.emitted(emitted, now)

    def on_ended(self, ended: Ended) -> None:
        """Take note that the watch ended by itself: the collector is stopped and started again."""
        if not self._watch.failed(ended):
            return
        if ended.problem.kind is ProblemKind.MEMORY:
            self._hub.lose(self._must_process(), self, "memory", ended.problem.text or "out of memory")
        elif self._calls.flight is None and self.state is State.RUNNING:
            self._stop_and_back_off("watch", ended.problem.text)

    def gone(self, kind: str, how: str, now: float, *, charged: bool) -> None:
        """Its helper is gone. `charged`: on its account, and so it has to wait before the next."""
        shared = self.process is not None and len(self.process.loaded) > 1
        self.process = None
        self._calls.flight = None
        self._watch.end()
        self._handover.forsake()
        self.agenda.end()
        if self.closing:
            self.state = State.STOPPED
        elif self.state in (State.STARTING, State.RUNNING):
            self.state, self.next_try = State.STARTING, now
            if charged:
                self.counters.count(kind)
                self.counters.timeouts += kind == "timeout"
                self.counters.crashes += kind == "crash"
                self._trouble.note(how)
                if shared:
                    self.isolation.charge()
                self._back_off(kind, how)

    # --- what an answer means ----------------------------------------------------------------------------------------

    def _loaded(self, facts: Facts | None, problem: Problem | None, now: float) -> None:
        if facts is None:
            problem = problem or Problem(ProblemKind.CONTRACT, "ContractError", "the class was not described")
            self._trouble.fail(problem)
            self._leave()
            if problem.kind in (ProblemKind.CONFIG, ProblemKind.CONTRACT):
                self._trouble.complain(problem.name, problem.text)
                self._settle(State.MISCONFIGURED, math.inf)
            else:
                self._back_off(problem.name, problem.text)
            return
        self.facts = facts
        changed = self.isolation.declared(facts.isolation)
        if changed and not self._hub.pool.regroup(self._must_process(), self.isolation.group):
            self._leave()  # the group has a helper: this one only served to find out
            self.next_try = now
            return
        if not self.closing:
            self._start(self._must_process(), now)

    def _started(self, problem: Problem | None, now: float) -> None:
        if problem is None:
            self.state = State.RUNNING
            self.running_since = now
            self._trouble.failures = 0
            within = min(self.setup.interval, self._hub.options.first_within)
            self.agenda.begin(now, self._share * within, describes=self._describes)
            return
        self._watch.end()
        if problem.kind is ProblemKind.NO_DATA:
            self._nothing_here(problem)
            return
        self._trouble.fail(problem)
        if problem.kind is ProblemKind.STARTUP and not problem.retry:
            self._trouble.complain(problem.name, problem.text)
            self._settle(State.UNSUPPORTED, math.inf)
        else:
            self._back_off(problem.name, problem.text)

    def _collected(self, done: Done, flight: Flight, now: float) -> None:
        problem = done.problem
        self.counters.collected(done.rows, done.seconds, done.began - flight.due)
        if done.delivery:
            self._handover.offer(done.call, done.delivery, now, answer=False)
        if problem is not None and problem.kind is ProblemKind.NO_DATA:
            self._nothing_here(problem)
            return
        if problem is not None:
            self._trouble.fail(problem)
            self._trouble.complain(problem.name, problem.text)
        if problem is None or problem.kind is ProblemKind.PARTIAL:
            self._succeeded(now, complete=problem is None)
            return
        self._trouble.failures += 1
        if self._trouble.failures >= self._hub.options.failures:
            self._stop_and_back_off(problem.name, problem.text)

    def _succeeded(self, now: float, *, complete: bool) -> None:
        self._trouble.failures = 0
        self.counters.last_success_ns = self._hub.wall_ns()
        if not self.watching or now - self.running_since >= self._hub.options.backoff_most:
            self._trouble.start_over()  # a watch has to hold for a while before it counts as well again
        if complete:
            self._trouble.recovered()

    def _described(self, done: Done, now: float) -> None:
        self.agenda.took(done.seconds)
        if done.problem is not None:
            self._trouble.fail(done.problem)
            self._trouble.complain(done.problem.name, done.problem.text)
        if done.delivery:
            self._handover.offer(done.call, done.delivery, now, answer=False)

    def _stopped(self, problem: Problem | None) -> None:
        self._watch.end()
        state, delay = self._after_stop
        self.state = state
        if problem is not None:
            self._trouble.fail(problem)
            if problem.kind is ProblemKind.WATCH:
                self._hub.lose(self._must_process(), self, "watch", problem.text)
        self._settle(state, self._hub.clock() + delay)

    def _nothing_here(self, problem: Problem) -> None:
        """A fact, not a failure: look again much later, and say that its devices are gone."""
        self._trouble.note(problem.text)
        _log.debug("collector_no_data collector=%s reason=%s", self.name, problem.text)
        self._handover.nothing_there()
        delay = self._hub.options.probe_every * (0.75 + 0.5 * self._share)
        if self.state is State.RUNNING:
            self._stop_then(State.NO_DATA, delay)
        else:
            self._settle(State.NO_DATA, self._hub.clock() + delay)

    def read_again(self) -> None:
        """Somebody did something to a device of its: collect and describe soon, as after an event."""
        if self.state is State.RUNNING:
            self._hurry()

    # --- parts -------------------------------------------------------------------------------------------------------

    def _answer(self, call: int) -> None:
        """What was handed over was taken: the helper may go on."""
        if self.process is not None:
            self.process.send(Taken(call, self.name))
        self._calls.resume(call)

    def _hurry(self) -> None:
        self.agenda.hurry(self._hub.clock(), describes=self._describes)

    def _timed_out(self, flight: Flight) -> None:
        how = f"{flight.verb.name.lower()} took longer than {flight.seconds:g} s"
        self._hub.lose(self._must_process(), self, "timeout", how)

    def _stop_and_back_off(self, name: str, why: str) -> None:
        self._trouble.complain(name, why)
        self._stop_then(State.BACKING_OFF, self._trouble.delay())

    def _stop_then(self, state: State, delay: float) -> None:
        self._after_stop = (state, delay)
        self._rest()
        now = self._hub.clock()
        if self.process is None or self.name not in self.process.loaded:
            self._settle(state, now + delay)
        else:
            self._calls.ask(self._must_process(), Verb.STOP, now, now)

    def _back_off(self, name: str, text: str) -> None:
        self._trouble.complain(name, text)
        self._settle(State.BACKING_OFF, self._hub.clock() + self._trouble.delay())

    def _settle(self, state: State, next_try: float) -> None:
        self.state, self.next_try = state, next_try
        self._rest()
        if state in _LEAVING or self._trouble.spent:
            self._leave()

    def _rest(self) -> None:
        self.agenda.end()
        self.running_since = math.inf

    def _leave(self) -> None:
        """Let the helper have the memory back."""
        process, self.process = self.process, None
        self._trouble.spent = False
        if process is not None and not process.going:
            process.send(Forget(self.name))
            self._hub.pool.leave(process, self.name)

    def _must_process(self) -> Process:
        assert self.process is not None
        return self.process

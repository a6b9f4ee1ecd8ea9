"""The one call of a collector that is being made: what was asked, until when, and whose time is running."""

import math
from collections.abc import Callable
from typing import Protocol

import msgspec

from collectors.channel import Call, Load, Verb
from collectors.delivery import IntakeLike
from collectors.pool import Process
from collectors.status import CollectorSetup, SchedulerOptions
from schemas.verbosity import Level


class Asking(Protocol):
    """What making calls needs of the scheduler."""

    @property
    def intake(self) -> IntakeLike:
        """Where levels and positions are known."""

    @property
    def options(self) -> SchedulerOptions:
        """What holds for all collectors."""

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds."""

    def next_call(self) -> int:
        """A number that no call had before."""

    def ask(self, call: Callable[[], None]) -> None:
        """Have something short called on the scheduler's thread, whoever asks."""


class Flight(msgspec.Struct):
    """A call that is being made."""

    call: int
    verb: Verb
    due: float
    seconds: float
    deadline: float
    left: float | None = None
    """What is left of its time while it is not the collector that takes it, but the intake."""


class Calls:
    """Makes the calls of one collector, one at a time."""

    def __init__(self, setup: CollectorSetup, factory: str, hub: Asking) -> None:
        self.flight: Flight | None = None
        self.level: Level = hub.intake.level(setup.name)
        """What the helper was told last."""
        self._setup = setup
        self._factory = factory
        self._hub = hub

    def load(self, process: Process, now: float) -> None:
        """Ask for the class to be imported and the object to be made."""
        options, name = self._hub.options, self._setup.name
        process.loaded.add(name)
        self.level = self._hub.intake.level(name)
        state_dir = None if options.state_dir is None else str(options.state_dir / name)
        process.send(
            Load(
                self._fly(Verb.LOAD, now, now),
                name,
                self._factory,
                self._setup.config,
                options.node_id,
                str(options.root),
                state_dir,
                self.level,
                options.max_rows,
                options.log_level,
            )
        )

    def ask(self, process: Process, verb: Verb, now: float, due: float) -> int:
        """Ask for anything else; give the call's number."""
        name = self._setup.name
        self.level = self._hub.intake.level(name)
        positions = self._hub.intake.positions(name) if verb is Verb.START else {}
        call = self._fly(verb, now, due)
        process.send(Call(call, name, verb, self.level, positions))
        return call

    def answered(self, call: int) -> Flight | None:
        """End the call and give what it was; None when it is not the one that is being made."""
        flight = self.flight
        if flight is None or flight.call != call:
            return None
        self.flight = None
        return flight

    def pause(self, call: int, now: float) -> bool:
        """Stop the call's time: it waits for us. False when it is not being made, or waits already."""
        flight = self.flight
        if flight is None or flight.call != call or flight.left is not None:
            return False
        flight.left, flight.deadline = flight.deadline - now, math.inf
        return True

    def resume(self, call: int) -> None:
        """Let the call's time run again, if it was stopped."""
        flight = self.flight
        if flight is not None and flight.left is not None and flight.call == call:
            flight.deadline, flight.left = self._hub.clock() + flight.left, None

    def hasten(self, seconds: float) -> None:
        """Give the call no more than so long from now, unless it is a stop, which has its own time."""
        if self.flight is not None and self.flight.verb is not Verb.STOP:
            self.flight.deadline = min(self.flight.deadline, self._hub.clock() + seconds)

    def _fly(self, verb: Verb, now: float, due: float) -> int:
        options = self._hub.options
        seconds = max(options.start_timeout, self._setup.deadline)
        if verb is Verb.COLLECT:
            seconds = self._setup.deadline
        elif verb is Verb.STOP:
            seconds = options.stop_timeout
        call = self._hub.next_call()
        self.flight = Flight(call, verb, due, seconds, now + seconds)
        return call

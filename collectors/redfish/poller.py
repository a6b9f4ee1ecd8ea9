"""Many BMCs read in turn, by as many threads as are needed and no more than are allowed.

A BMC has one thread at most at a time, and waits for its turn in a queue ordered by when it is due: one that hangs
holds a thread until its time is over, and is then left alone for longer each time. Threads cost little while they wait,
and nearly all of them wait all the time; so the reading itself is plain code.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Final

from collectors.cadence import share
from collectors.redfish.ears import Ears
from collectors.redfish.handing import Outbox
from collectors.redfish.unit import Unit
from schemas.rows import Item

if TYPE_CHECKING:
    from collectors.redfish.callbacks import Callbacks

_SPREAD: Final = 0.02
"""First readings begin so many seconds apart, at most over one interval, so that they do not come all at once."""
_STACK_BYTES: Final = 256 << 10
"""Of a thread. All of it counts as what the process has, and hundreds of the usual size are more than it may have."""
_LOOK: Final = 0.5
"""Seconds; the longest wait before it is looked at what has changed."""


class Poller:
    """Reads units. For any thread."""

    def __init__(
        self,
        at_once: int,
        every: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        log: logging.Logger | None = None,
    ) -> None:
        self._at_once, self._every, self._clock = at_once, every, clock
        self._log = log or logging.getLogger("muster.collector.redfish")
        self._units: dict[str, Unit] = {}
        self._heap: list[tuple[float, int, Unit]] = []
        self._busy: set[Unit] = set()
        self._again: dict[Unit, float] = {}
        self._numbers = count()
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closed = False
        self._made = Outbox(clock)
        self._parting: dict[Unit, Callable[[], None]] = {}
        """What is left to be done for units that are read no more, once their last reading has ended."""
        self._ears = Ears(self.put, self.hurry, clock)
        self.callbacks: Callbacks | None = None
        """Where BMCs without a stream deliver their events; None: nowhere. It ends with the poller."""

    @property
    def units(self) -> list[Unit]:
        """The units that are read."""
        with self._changed:
            return list(self._units.values())

    def add(self, units: Iterable[Unit]) -> None:
        """Read these from now on, the first at once and the others soon after."""
        with self._changed:
            if self._closed:
                return
            new = list(units)
            spread = min(self._every, _SPREAD * len(new))
            now = self._clock()
            for unit in new:
                self._units[unit.bmc.label] = unit
                first = now + (spread * share("first", unit.bmc.label) if len(new) > 1 else 0.0)
                unit.due = first
                heapq.heappush(self._heap, (first, next(self._numbers), unit))
            self._changed.notify_all()
            self._need_thread()

    def remove(self, labels: Iterable[str]) -> list[Unit]:
        """Read these no more, and give them; what one that is being read has to tell goes nowhere."""
        with self._changed:
            gone = [unit for label in labels if (unit := self._units.pop(label, None)) is not None]
            if self.callbacks is not None:
                for unit in gone:
                    self.callbacks.forget(unit)
            left = set(gone)
            for unit in gone:
                unit.removed = True
                if unit in self._busy:  # it is closed when that reading ends, which is soon
                    unit.client.give_up()
                else:
                    unit.client.close()
            self._heap = [one for one in self._heap if one[2] not in left]
            heapq.heapify(self._heap)
            return gone

    def part(self, unit: Unit, leave: Callable[[], None]) -> None:
        """Have what is left at a removed one taken back by `leave`, on a thread of its own, when nobody reads it."""
        with self._changed:
            if unit in self._busy:
                self._parting[unit] = leave
                return
        threading.Thread(target=leave, name="redfish parting", daemon=True).start()

    def hurry(self, unit: Unit) -> None:
        """Read one as soon as it may be: something happened to it."""
        with self._changed:
            when = unit.hurry(self._clock())
            if unit in self._busy:
                self._again[unit] = when
            elif when < unit.due and unit.bmc.label in self._units:
                unit.due = when
                heapq.heappush(self._heap, (when, next(self._numbers), unit))
                self._changed.notify()
                self._need_thread()

    def put(self, items: list[Item]) -> None:
        """Hand on items of another source; waits while too much waits."""
        self._made.put(items)

    def take(self, seconds: float) -> list[Item]:
        """Give what was read, not too much at a time; [] when nothing has come after so long."""
        return self._made.take(seconds)

    def close(self, seconds: float) -> None:
        """Read nothing more; what is being asked is hung up on. Waits so long for threads to end. Safe twice."""
        with self._changed:
            self._closed = True
            self._heap = []
            threads = list(self._threads)
            busy = list(self._busy)
            self._changed.notify_all()
        self._made.close()
        if self.callbacks is not None:
            self.callbacks.close()
        for unit in busy:
            unit.client.abort()
        self._ears.close(0.0)
        end = self._clock() + seconds
        for thread in threads:
            thread.join(max(0.0, end - self._clock()))
        self._ears.close(max(0.1, end - self._clock()))

    # --- threads ------------------------------------------------------------------------------------------------------

    def _need_thread(self) -> None:
        """Start a thread if nobody waits for who is due next, and there may be one more. Under the lock."""
        if self._idle or self._closed or len(self._threads) >= self._at_once or not self._heap:
            return
        thread = threading.Thread(target=self._run, name="redfish", daemon=True)
        self._threads.add(thread)
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        except RuntimeError:  # no room for one more: those that there are do it
            self._threads.discard(thread)
            if not self._threads:
                raise
        finally:
            threading.stack_size(before)

    def _run(self) -> None:
        try:
            while (unit := self._next()) is not None:
                self._read(unit)
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Unit | None:
        """Wait for a unit that is due; None when it is time to end."""
        with self._changed:
            self._idle += 1
            try:
                while not self._closed:
                    now = self._clock()
                    due = self._heap[0][0] if self._heap else float("inf")
                    if due <= now:
                        when, _, unit = heapq.heappop(self._heap)
                        if unit in self._busy or when != unit.due or self._units.get(unit.bmc.label) is not unit:
                            continue  # it was hurried, or is gone
                        self._busy.add(unit)
                        return unit
                    self._changed.wait(min(_LOOK, due - now))
            finally:
                self._idle -= 1
                self._need_thread()
        return None

    def _read(self, unit: Unit) -> None:
        try:
            for item in unit.read():
                if unit.removed or not self._made.put([item]):
                    break
        except Exception:  # noqa: BLE001  # it is this BMC's alone
            self._log.exception("reading_failed bmc=%s", unit.bmc.label)
            unit.due = self._clock() + self._every
        if not (unit.removed or self._closed):
            self._listen(unit)
        with self._changed:
            self._busy.discard(unit)
            leave = self._parting.pop(unit, None)
            if self._closed or self._units.get(unit.bmc.label) is not unit:
                unit.client.close()
            else:
                again = self._again.pop(unit, None)
                unit.due = unit.due if again is None else min(unit.due, again)
                heapq.heappush(self._heap, (unit.due, next(self._numbers), unit))
        if leave is not None:
            self.part(unit, leave)

    def _listen(self, unit: Unit) -> None:
        """Have heard what a BMC tells by itself. Raises nothing: where that cannot be, its logs say it."""
        try:
            opened = unit.open_stream()
            if opened is not None:
                self._ears.add(unit, *opened)
            if self.callbacks is not None:
                unit.subscribe(self.callbacks)
        except Exception:  # noqa: BLE001  # it is this BMC's alone
            self._log.exception("listening_failed bmc=%s", unit.bmc.label)

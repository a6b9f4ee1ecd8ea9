"""Marks at work: put on and taken off by people over the API, and taken off when their time or their cause is over."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from aggregator.ledger import marks, shrunk
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.marks import Target
from aggregator.ledger.model import Taint
from aggregator.ledger.state import State
from aggregator.ledger.words import Effect
from schemas.errors import MusterError

_log = logging.getLogger("muster.marks")
TICK_SECONDS: Final = 1.0
Find = Callable[[State], Target]
"""Gives what is to be marked; raises DeviceUnknownError or NodeUnknownError."""


class Marking:
    """Marks in one ledger. For its event loop."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._ledger = ledger
        self._clock = clock
        self._state: State | None = None
        self._touched: set[str] = set()
        self._ends: dict[str, int] = {}
        """Node -> when the next of its marks expires."""

    async def taint(
        self, find: Find, rule: str, effect: Effect, evidence: str, who: str, seconds: float | None = None
    ) -> Taint:
        """Mark something; for `seconds`, or until it is taken off. Raises what `find` raises, or ClaimInvalidError."""
        now = self._clock()
        expires = None if seconds is None else now + int(min(seconds, 1e12) * 1e9)  # beyond a century it is refused
        mark = Taint(rule, effect, evidence, who, now, expires)
        return await self._ledger.decide(lambda state: marks.taint(state, find(state), mark))

    async def untaint(self, find: Find, rule: str, why: str) -> None:
        """Take a mark off. Raises what `find` raises, or TaintUnknownError."""
        await self._ledger.decide(lambda state: marks.untaint(state, find(state), rule, why))

    async def run(self) -> None:
        """Take marks off when their time or their cause is over, until cancelled."""
        while True:
            try:
                await self.tick()
            except MusterError as error:
                _log.warning("marks_wait error=%s", error)
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> None:
        """Look at the clock and at what changed once. Raises LedgerBusyError, LeadLostError or ControlError."""
        state = self._ledger.peek()
        if state is not self._state:  # read from disk anew
            self._touched, self._ends, self._state = set(state.nodes), {}, state
            state.listeners.append(self._touched)
        for node in self._touched:
            end = marks.next_expiry(state, node)
            if end is None:
                self._ends.pop(node, None)
            else:
                self._ends[node] = end
        off = [node for node in self._touched if shrunk.is_due(state, node)]
        self._touched.clear()
        self._touched.update(off)  # looked at again: a decision may fail
        if off:
            await self._ledger.decide(partial(shrunk.settle, nodes=off))
        now = self._clock()
        due = [node for node, end in self._ends.items() if end <= now]
        if due:
            await self._ledger.decide(partial(marks.expire, nodes=due, now_ns=now))

"""What consumers of the log have in common: what they are handed, how they follow it, what they say of themselves."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec

from aggregator.log import Log
from aggregator.progress import Tracker
from aggregator.store import Position
from schemas.batch import Envelope
from schemas.rows import Event, Severity

Quarantine = Callable[[Envelope, bytes, str, str], Awaitable[None]]
"""Keeps a batch aside: envelope, its bytes, the stage (the consumer's name) and the reason; durable when it returns."""
Announce = Callable[[list[Event]], Awaitable[None]]
"""Tells events of the aggregator's own."""


Settle = Callable[[Tracker], Awaitable[None]]
"""Settles the runs that are over (`aggregator.settling`), in a tracker that has nothing to commit."""


Own = Callable[[Mapping[int, int]], Awaitable[Mapping[int, int]]]
"""Gives the epoch of each partition that is ours, not below those given: `aggregator.ownership.Owner.hold`."""


async def tell_nobody(_: list[Event]) -> None:
    """Announce nothing."""


async def own_nothing(_: Mapping[int, int]) -> Mapping[int, int]:
    """Write under no epoch: whoever has one comes first."""
    return {}


async def settle_nothing(_: Tracker) -> None:
    """Keep every run by its numbers."""


class ConsumerStatus(msgspec.Struct):
    """What the consumer can say of itself."""

    records: int = 0
    """This and the counts of rows are of what is committed: what is read again after a failure counts once."""
    rows_done: int = 0
    rows_filtered: int = 0
    rows_quarantined: int = 0
    rows_repeated: int = 0
    """Rows that came again and were known: not an error, but what at-least-once delivery costs."""
    commits: int = 0
    failures: int = 0
    last_error: str = ""
    """Empty while the store takes rows."""
    last_commit_ns: int = 0
    lateness_seconds: float = 0.0
    """Of the newest record read: age at sending plus time in the log."""


class Counts(msgspec.Struct):
    """What was read since the last commit, not yet in the status."""

    records: int = 0
    rows_filtered: int = 0
    rows_quarantined: int = 0
    rows_repeated: int = 0


class Following:
    """A consumer's end of a log: waits there until it is stopped, and tells when the log is not the one that it was."""

    def __init__(self, log: Log, name: str, announce: Announce, logger: logging.Logger) -> None:
        """`name` is the consumer's, `announce` is told of what people should know."""
        self._log = log
        self._name = name
        self._announce = announce
        self._logger = logger
        self._announced: set[tuple[str, str]] = set()
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let nobody wait any longer."""
        self._stopping.set()

    async def wait(self, moment: int, seconds: float) -> int:
        """Wait for the log to grow after `moment`, for so long at most, and not past `stop`; give the moment it is."""
        waiting = asyncio.ensure_future(self._log.wait(moment, seconds))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else moment
        finally:
            waiting.cancel()
            stopping.cancel()

    async def pause(self, seconds: float) -> None:
        """Do nothing for so long, or until `stop`."""
        try:
            async with asyncio.timeout(seconds):  # `wait_for` of Python 3.11 may swallow a cancellation
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def is_recreated(self, others: Collection[str]) -> bool:
        """Tell whether what was read were logs of these ids, if any, and none of them is this one."""
        if not others or self._log.id in others:
            return False
        await self._warn("log.recreated", f"the log is not the one that was read ({', '.join(others)})")
        return True

    async def is_set_back(self, positions: Collection[Position]) -> bool:
        """Tell whether the log ends before one of these.

        Then offsets were, or will be, given a second time, to other records; and since one file may hold all
        partitions, no position can be trusted. What is read again is known by its numbers.
        """
        ends = [await self._log.end(one.topic, one.partition) for one in positions]
        if not any(one.offset > end for one, end in zip(positions, ends, strict=True)):
            return False
        await self._warn("log.set_back", "the log ends before what was read of it: an older copy was put in place")
        return True

    async def _warn(self, kind: str, what: str) -> None:
        message = f"{what}; the {self._name} consumer reads log {self._log.id} from its beginning"
        self._logger.warning("%s %s", kind.replace(".", "_"), message)
        if (kind, self._log.id) not in self._announced:  # one that fails begins again and again
            self._announced.add((kind, self._log.id))
            detail = {"log": self._log.id, "consumer": self._name}
            await self._announce([Event(kind, message, Severity.WARNING, detail=detail)])

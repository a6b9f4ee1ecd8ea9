"""What keeps the ledger small and quick to start, in the background: snapshots, taken and thinned; rows are joined.

A snapshot is due when reading the entries since the last one takes a good part of the time of reading it; old ones are
thinned, to three times that distance at most. So a restart, and any past state, cost a bounded time whatever the age of
the ledger, and a year of a fleet stays below a gigabyte.
"""

import asyncio
import logging
import time
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection

from aggregator.control import ControlError
from aggregator.ledger import journal, snapshots
from aggregator.ledger.copying import Copy, Copying
from aggregator.ledger.journal import LeadLostError
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.thinning import DAY_NS, Listed, spare
from collectors.failpoint import failpoint
from schemas.errors import MusterError

_log = logging.getLogger("muster.ledger")
JOIN_ENTRIES: Final = 32_768
"""In one joined row."""
SNAPSHOT_ENTRIES: Final = 10_000
"""At least so many between two snapshots."""
_SHARE: Final = 8
"""Of a large fleet a snapshot is due when there is an entry for every so many devices."""
THIN: Final = 3
"""Of old snapshots one is let go when its neighbours are at most so many of these distances apart."""
_CHECK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.003
"""Between two slices of a copy."""
_TOGETHER: Final = 1 << 20
"""Bytes of parts that are written in one transaction."""


class KeepingStatus(msgspec.Struct):
    """What it did since the start."""

    snapshots: int = 0
    snapshot_sequence: int = 0
    """Of the newest; 0: none."""
    snapshot_bytes: int = 0
    snapshot_seconds: float = 0.0
    thinned: int = 0
    """Snapshots that were let go."""
    joined_rows: int = 0
    failures: int = 0
    last_error: str = ""


class Keeping:
    """Keeps one ledger. For its event loop."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        least: int = SNAPSHOT_ENTRIES,
        join: int = JOIN_ENTRIES,
        recent_ns: int = DAY_NS,
    ) -> None:
        """`recent_ns`: younger snapshots are not thinned."""
        self._ledger = ledger
        self._least = least
        self._join = join
        self._recent_ns = recent_ns
        self._listed: dict[int, Listed] = {}
        """What was read of snapshots: that does not change."""
        self._to_thin = True
        self._newest: int | None = None
        self.status = KeepingStatus()

    async def run(self) -> None:
        """Keep it until cancelled; what fails is tried again."""
        while True:
            try:
                await self.tend()
            except (MusterError, LedgerBusyError) as error:
                self._failed(error)
            await asyncio.sleep(_CHECK_SECONDS)

    async def tend(self) -> None:
        """Do what is due. Raises ControlError, LedgerBusyError, LeadLostError."""
        if not self._ledger.ready:
            return
        if self._newest is None:
            found = await self._ledger.database.read(snapshots.complete)
            self._newest = self.status.snapshot_sequence = found[-1] if found else 0
        if self._ledger.durable - self._newest >= self.interval:
            await self.snapshot()
        if self._to_thin:
            await self.thin()
        more = True
        while more:
            more = await self.join()

    @property
    def interval(self) -> int:
        """Entries from one snapshot to the next."""
        return interval(len(self._ledger.peek().devices), self._least)

    async def snapshot(self) -> bool:
        """Take a snapshot of now; False when the ledger was read anew meanwhile, and nothing was kept."""
        began = time.monotonic()
        copy = await self._copy()
        if copy is None:
            return False
        if copy.sequence in await self._ledger.database.read(snapshots.complete):
            return True
        size = await self._write(copy)
        self._newest = self.status.snapshot_sequence = copy.sequence
        self._to_thin = True
        self.status.snapshots += 1
        self.status.snapshot_bytes, self.status.snapshot_seconds = size, time.monotonic() - began
        return True

    async def thin(self) -> None:
        """Let the old snapshots go that no answer needs (`thinning`)."""
        self._listed = await self._ledger.database.read(partial(snapshots.listed, known=self._listed))
        now_ns = self._ledger.peek().time_ns
        listed = [self._listed[sequence] for sequence in sorted(self._listed)]
        for sequence in spare(listed, now_ns, most=THIN * self.interval, recent_ns=self._recent_ns):
            failpoint("ledger.thin.chosen")
            await self._ledger.maintain(partial(_forget, sequence=sequence))
            failpoint("ledger.thin.forgotten")
            self.status.thinned += 1
        self._to_thin = False

    async def join(self) -> bool:
        """Join the oldest rows that are not joined yet; False when they are too few."""
        joined = await self._ledger.database.read(partial(journal.join, entries=self._join))
        if joined is None:
            return False
        failpoint("ledger.join.read")
        await self._ledger.maintain(partial(journal.replace, joined=joined))
        failpoint("ledger.join.written")
        self.status.joined_rows += joined.rows
        return True

    async def _copy(self) -> Copy | None:
        state = self._ledger.peek()
        copying = Copying(state)
        try:
            while (copy := copying.step()) is None:
                await asyncio.sleep(_PAUSE_SECONDS)
                if self._ledger.peek() is not state:
                    return None
        finally:
            copying.stop()
        await self._ledger.settled()  # entries under way may be in it
        return copy if self._ledger.peek() is state else None

    async def _write(self, copy: Copy) -> int:
        database = self._ledger.database
        await self._ledger.maintain(lambda connection, _lead: snapshots.forget_incomplete(connection))
        base, against = await database.read(snapshots.base_parts)
        packed = await asyncio.to_thread(lambda: snapshots.pack(copy.parts(), against))
        failpoint("ledger.snapshot.packed")
        batch: list[tuple[int, bytes]] = []
        for part, body in enumerate(packed, 1):
            batch.append((part, body))
            if sum(len(one) for _, one in batch) >= _TOGETHER:
                await self._ledger.maintain(partial(_write_parts, copy=copy, parts=batch))
                batch = []
        failpoint("ledger.snapshot.parts")
        (head,) = snapshots.pack([copy.head(base)], [])
        await self._ledger.maintain(partial(_write_parts, copy=copy, parts=[*batch, (0, head)]))
        failpoint("ledger.snapshot.written")
        return sum(map(len, packed)) + len(head)

    def _failed(self, error: Exception) -> None:
        self.status.failures += 1
        if str(error) != self.status.last_error and not isinstance(error, (LedgerBusyError, LeadLostError)):
            _log.error("ledger_not_kept error=%s (it is tried again)", error)
        self.status.last_error = str(error)
        if isinstance(error, ControlError):
            self._newest = None


def interval(devices: int, least: int = SNAPSHOT_ENTRIES) -> int:
    """Give how many entries there are from one snapshot of so many devices to the next."""
    return max(least, devices // _SHARE)


def _forget(connection: Connection, lead: journal.Lead, sequence: int) -> None:
    journal.renew_lead(connection, lead)
    snapshots.forget(connection, sequence)


def _write_parts(connection: Connection, lead: journal.Lead, copy: Copy, parts: list[tuple[int, bytes]]) -> None:
    journal.renew_lead(connection, lead)
    for part, body in parts:
        snapshots.write_part(connection, copy.sequence, part, copy.time_ns, body)

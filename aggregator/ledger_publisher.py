"""What the ledger concludes goes into the log's topic `inventory`, after it is on disk, in order, with none left out.

Entries go into the log first, then the place is kept up to which the log has them, once a second at most: each time is
a commit of the ledger, behind which decisions wait. So a crash publishes the last of them twice, and none never:
(ledger, generation, sequence) tells readers what they have seen. A log that is new gets what is
written from then on; what was before is in the ledger.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from aggregator.ledger.journal import Lead, Written, renew_lead
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.shown import concerned, fields_of, kind_of
from aggregator.ledger.state import State
from aggregator.ledger.subjects import claim_of
from aggregator.ledger.tables import LEDGER_PUBLISHED
from aggregator.log import Entry, Log, partition_of
from collectors.failpoint import failpoint
from schemas.errors import MusterError
from schemas.inventory import InventoryRecord, encode_inventory

_log = logging.getLogger("muster.ledger")
TOPIC: Final = "inventory"
PAGE: Final = 500
KEEP_SECONDS: Final = 1.0
"""The place is kept so often at most."""
GAP_SECONDS: Final = 0.02
"""Between two pages while entries come: each is a commit of the log. Whatever comes alone is published at once."""
_WAIT_SECONDS: Final = 5.0
_encoder: Final = msgspec.json.Encoder()


class PublishingStatus(msgspec.Struct):
    """How it fares."""

    sequence: int = 0
    """Of the last entry that the log has."""
    failures: int = 0
    last_error: str = ""


class LedgerPublisher:
    """Publishes one ledger to one log. For one event loop."""

    def __init__(
        self, ledger: Ledger, log: Log, *, clock: Callable[[], float] = time.monotonic, gap: float = GAP_SECONDS
    ) -> None:
        """`gap`: seconds between two pages."""
        self._ledger = ledger
        self._log = log
        self._clock = clock
        self._gap = gap
        self._kept = 0
        """Sequence up to which it is on disk that the log has the entries."""
        self._kept_at = float("-inf")
        self.status = PublishingStatus()

    async def run(self) -> None:
        """Publish until cancelled; what fails is tried again."""
        known = False
        backoff = 0.1
        while True:
            try:
                if not known:
                    await self.begin()
                    known = True
                if not await self.publish():
                    await self._rest()
                elif self._ledger.durable - self.status.sequence < PAGE:
                    await asyncio.sleep(self._gap)
                backoff = 0.1
            except MusterError as error:
                known = False
                self.status.failures += 1
                if str(error) != self.status.last_error:
                    _log.warning("inventory_not_published error=%s (it is tried again)", error)
                self.status.last_error = str(error)
                await asyncio.sleep(backoff)
                backoff = min(5.0, backoff * 2)

    async def begin(self) -> None:
        """Find the place to go on from. Raises LedgerBusyError, LeadLostError or ControlError."""
        self._ledger.peek()
        place = await self._ledger.maintain(partial(_begin, log_id=self._log.id, now=self._ledger.durable))
        # a ledger that was put back from an older copy goes on from what it has
        self.status.sequence = self._kept = min(place, self._ledger.durable)

    async def publish(self) -> bool:
        """Publish a page; False when there is none. Raises LogFullError, LedgerBusyError, LeadLostError."""
        if self._ledger.durable <= self.status.sequence:
            return False
        page = await self._ledger.entries(self.status.sequence, PAGE)
        if not page:
            return False
        records = await self._ledger.read(lambda state: list(self._records(state, page)))
        await self._log.append(records)
        failpoint("ledger.published")
        self.status.sequence, self.status.last_error = page[-1].sequence, ""
        if self._clock() - self._kept_at >= KEEP_SECONDS:
            await self.keep()
        return True

    async def keep(self) -> None:
        """Keep the place up to which the log has the entries. Raises LeadLostError or ControlError."""
        last = self.status.sequence
        if last > self._kept:
            await self._ledger.maintain(partial(_keep, log_id=self._log.id, sequence=last))
            self._kept, self._kept_at = last, self._clock()

    async def _rest(self) -> None:
        """Wait for an entry; when none comes while the place is due to be kept, keep it."""
        if self._kept == self.status.sequence:
            await self._ledger.wait(self.status.sequence, _WAIT_SECONDS)
        elif not await self._ledger.wait(self.status.sequence, self._kept_at + KEEP_SECONDS - self._clock()):
            await self.keep()

    def _records(self, state: State, page: list[Written]) -> Iterable[Entry]:
        ledger, generation, partitions = self._ledger.id, state.generation, self._log.partitions
        for sequence, time_ns, entry in ((one.sequence, one.time_ns, one.entry) for one in page):
            nodes, devices = concerned(state, entry)
            kind, claim, data = kind_of(entry), claim_of(entry), _encoder.encode(fields_of(entry))
            for node in nodes or [""]:
                theirs = [name for name in devices if _is_of(state, name, node)]
                record = InventoryRecord(ledger, generation, sequence, time_ns, kind, node, theirs, claim, data)
                yield Entry(TOPIC, partition_of(node, partitions), encode_inventory(record))


def _is_of(state: State, device: str, node: str) -> bool:
    found = state.devices.get(device)
    return found is not None and found.node == node


def _begin(connection: Connection, lead: Lead, log_id: str, now: int) -> int:
    renew_lead(connection, lead)
    table = LEDGER_PUBLISHED.c
    found = connection.execute(select(table.sequence).where(table.log_id == log_id)).scalar()
    if found is not None:
        return int(found)
    first = connection.execute(select(table.log_id)).first() is None
    place = 0 if first else now
    connection.execute(insert(LEDGER_PUBLISHED).values(log_id=log_id, sequence=place))
    return place


def _keep(connection: Connection, lead: Lead, log_id: str, sequence: int) -> None:
    renew_lead(connection, lead)
    this = LEDGER_PUBLISHED.c.log_id == log_id
    connection.execute(update(LEDGER_PUBLISHED).where(this).values(sequence=sequence))

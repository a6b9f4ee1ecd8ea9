"""What the aggregator itself has to tell goes into the log as any publisher's rows do: numbered, with an account."""

import asyncio
import logging
import secrets
import time
from typing import Final

import msgspec

from aggregator.log import Entry, Log, LogFullError, partition_of, topic_of
from schemas.account import Account, EpochAccount, StreamAccount
from schemas.batch import Block, Envelope
from schemas.codec import encode_batch, encode_body
from schemas.rows import EVENT, Event
from schemas.verbosity import Level, RowClass

_log = logging.getLogger("muster.announcer")
PUBLISHER: Final = "aggregator"
"""The publisher's name; no node may have it."""


class Announcer:
    """Publishes events of the aggregator's own. A run of it is an epoch; what the log does not take never existed."""

    def __init__(self, log: Log, boot: str) -> None:
        self._log = log
        self._boot = boot
        self._epoch = secrets.token_hex(8)
        self._numbered = 0
        self._order = 0
        self._last_ns = 0
        self._lock = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self.failed = 0
        """Events that the log did not take."""

    async def announce(self, events: list[Event]) -> None:
        """Append events, one batch a subject. Never raises for a log that is full: that is counted."""
        if not events:
            return
        try:
            await self.take(events)
        except LogFullError as error:
            self.failed += len(events)
            _log.error("event_not_announced types=%s error=%s", [event.type for event in events], error)

    async def take(self, events: list[Event]) -> None:
        """Append events, all or none, one batch a subject. Raises LogFullError; then the log has none of them.

        A caller that is cancelled does not stop it: the numbers must not fall behind what the log has.
        """
        task = asyncio.get_running_loop().create_task(self._append(events))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)

    async def _append(self, events: list[Event]) -> None:
        by_subject: dict[str, list[Event]] = {}
        for event in events:
            by_subject.setdefault(event.subject or PUBLISHER, []).append(event)
        async with self._lock:
            numbered, order = self._numbered, self._order
            entries: list[Entry] = []
            for subject, mine in sorted(by_subject.items()):
                entries.append(self._entry(subject, mine, numbered, order))
                numbered, order = numbered + len(mine), order + 1
            await self._log.append(entries)
            self._numbered, self._order = numbered, order

    def _entry(self, subject: str, events: list[Event], first: int, order: int) -> Entry:
        """Give one batch: the rows from number `first` on, the publisher's batch number `order`."""
        end = first + len(events)
        account = Account(
            order + 1,
            [
                EpochAccount(
                    self._epoch,
                    self._boot,
                    [
                        StreamAccount(RowClass.EVENT, Level.ESSENTIAL, end, 0, 0, end, [], []),
                    ],
                )
            ],
        )
        envelope = Envelope(
            publisher=PUBLISHER,
            epoch=self._epoch,
            row_class=RowClass.EVENT,
            level=Level.ESSENTIAL,
            first=first,
            rows=len(events),
            order=order,
            account=account,
        )
        value = encode_batch(envelope, encode_body([self._block(subject, events)]))
        return Entry(topic_of(RowClass.EVENT), partition_of(PUBLISHER, self._log.partitions), value)

    def _block(self, subject: str, events: list[Event]) -> Block:
        start = max(time.time_ns(), self._last_ns + 1)
        self._last_ns = start + len(events) - 1
        devices = sorted({event.device for event in events})
        return Block(
            EVENT,
            subject,
            [],
            [[device] for device in devices],
            [devices.index(event.device) for event in events],
            start,
            [0] + [1] * (len(events) - 1),
            ints={
                "severity": [int(event.severity) for event in events],
                "source_time_ns": [event.source_time_ns for event in events],
            },
            strings={
                "type": [event.type for event in events],
                "message": [event.message for event in events],
                "detail": [msgspec.json.encode(event.detail).decode() for event in events],
            },
        )

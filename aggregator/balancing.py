"""Making the balance while everything goes on: in an order that holds, off the loop, and not too often."""

import asyncio
import time
from functools import partial

from aggregator.balance import Balance, make_balance
from aggregator.control import Control
from aggregator.expired import Expiry
from aggregator.log import Log
from aggregator.nodes import written_off
from aggregator.progress import later_word
from aggregator.quarantine import INGEST, intervals
from aggregator.query import StoreUnavailableError
from aggregator.store_consumer import RECORD_TOPICS, StoreConsumer
from aggregator.unread import Place, UnreadLog


class Balancing:
    """Makes the balance of one consumer. For one event loop."""

    def __init__(self, log: Log, control: Control, consumer: StoreConsumer, expiry: Expiry) -> None:
        self._log = log
        self._control = control
        self._consumer = consumer
        self._expiry = expiry
        self._unread = UnreadLog(log)
        self._one = asyncio.Lock()
        self._began = 0.0
        self._made: Balance | None = None

    async def balance(self, max_age_seconds: float = 0.0) -> Balance:
        """Give a balance of now, or one at most so old; callers at the same time share one.

        Raises StoreUnavailableError while it is not known yet what the store has, and LogReadError.
        """
        called = time.monotonic()
        async with self._one:
            if self._made is None or self._began < called - max_age_seconds:
                began = time.monotonic()
                self._made = await self._make()
                self._began = began
            return self._made

    async def _make(self) -> Balance:
        consumer, name = self._consumer, self._consumer.name
        if not consumer.known:
            raise StoreUnavailableError("the store was not opened yet; try again in a moment")
        # One moment: what a word before it says to be sent lies before the log's end at it. Nothing here may wait.
        words = dict(consumer.committed.words)
        positions = dict(consumer.committed.positions)
        for word in self._expiry.words(name):
            words[word.publisher] = later_word(words.get(word.publisher), word)
        ends = await self._ends()
        unread = await self._unread.look(positions, ends)
        aside = await self._control.read(partial(intervals, stage=INGEST))
        lost = await self._control.read(written_off)
        # rows may have moved on meanwhile, from the log to the store or to retention: both are looked at last
        tracker = consumer.committed.frozen(words)
        expired = list(self._expiry.intervals(name))
        return await asyncio.to_thread(make_balance, {name: tracker}, {name: unread}, aside, {name: expired}, lost)

    async def _ends(self) -> dict[Place, int]:
        """Give where the log ends. The embedded log answers without waiting."""
        return {
            (topic, partition): await self._log.end(topic, partition)
            for topic in RECORD_TOPICS
            for partition in range(self._log.partitions)
        }

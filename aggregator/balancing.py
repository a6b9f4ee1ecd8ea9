"""Making the balance while everything goes on: in an order that holds, off the loop, and not too often."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

import msgspec

from aggregator.balance import Balance, join_balances, make_balance
from aggregator.control import Control
from aggregator.expired import Expiry
from aggregator.log import Log, topic_of
from aggregator.nodes import written_off
from aggregator.progress import Tracker, later_word, narrow
from aggregator.quarantine import INGEST, intervals
from aggregator.query import StoreUnavailableError
from aggregator.store import Stream, Word
from aggregator.store_consumer import RECORD_TOPICS
from aggregator.unread import Place, Unread, UnreadLog
from schemas.intervals import Interval
from schemas.verbosity import RowClass


class Balanced(Protocol):
    """A consumer that accounts for what it reads."""

    @property
    def name(self) -> str:
        """Its name in the balance."""

    known: bool
    """Whether `committed` was ever read from where it is kept."""
    committed: Tracker


class Share(msgspec.Struct, frozen=True):
    """A consumer, and the classes that it reads: of others it has no balance."""

    consumer: Balanced
    classes: frozenset[RowClass] = frozenset(RowClass)

    @property
    def topics(self) -> list[str]:
        """The topics of its classes."""
        return [topic_of(row_class) for row_class in sorted(self.classes)]

    def word(self, word: Word) -> Word:
        """Give a word as far as it is about these classes."""
        return word if len(self.classes) == len(RowClass) else narrow(word, self.classes)

    def rows(self, rows: Iterable[tuple[Stream, Interval]]) -> list[tuple[Stream, Interval]]:
        """Give the rows that are of these classes."""
        return [one for one in rows if one[0].row_class in self.classes]


class Balancing:
    """Makes the balance of the store's consumer, and of others beside it. For one event loop."""

    def __init__(
        self, log: Log, control: Control, consumer: Balanced, expiry: Expiry, others: Sequence[Share] = ()
    ) -> None:
        """Prepare. `consumer` reads everything; one of `others` that is not known yet is left out until it is."""
        self._log = log
        self._control = control
        self._shares = [Share(consumer), *others]
        self._expiry = expiry
        self._unread = {share.consumer.name: UnreadLog(log) for share in self._shares}
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
        if not self._shares[0].consumer.known:
            raise StoreUnavailableError("the store was not opened yet; try again in a moment")
        shares = [share for share in self._shares if share.consumer.known]
        # One moment: what a word before it says to be sent lies before the log's end at it. Nothing here may wait.
        words = {share.consumer.name: self._words(share) for share in shares}
        positions = {share.consumer.name: dict(share.consumer.committed.positions) for share in shares}
        ends = await self._ends()
        unread: dict[str, Unread] = {}
        for share in shares:
            name = share.consumer.name
            mine = {place: end for place, end in ends.items() if place[0] in share.topics}
            found = await self._unread[name].look(positions[name], mine)
            told = {publisher: share.word(word) for publisher, word in found.words.items()}
            unread[name] = Unread(found.rows, told)
        aside = await self._control.read(partial(intervals, stage=INGEST))
        lost = await self._control.read(written_off)
        # rows may have moved on meanwhile, from the log to the store or to retention: both are looked at last
        trackers = {one.consumer.name: one.consumer.committed.frozen(words[one.consumer.name]) for one in shares}
        expired = {one.consumer.name: list(self._expiry.intervals(one.consumer.name)) for one in shares}
        made = []
        for share in shares:
            name = share.consumer.name
            mine_only = {name: trackers[name]}, {name: unread[name]}, share.rows(aside), {name: expired[name]}, lost
            made.append(await asyncio.to_thread(make_balance, *mine_only))
        return join_balances(made)

    def _words(self, share: Share) -> dict[str, Word]:
        words = dict(share.consumer.committed.words)
        for word in self._expiry.words(share.consumer.name):
            words[word.publisher] = later_word(words.get(word.publisher), share.word(word))
        return words

    async def _ends(self) -> dict[Place, int]:
        """Give where the log ends. The embedded log answers without waiting."""
        return {
            (topic, partition): await self._log.end(topic, partition)
            for topic in RECORD_TOPICS
            for partition in range(self._log.partitions)
        }

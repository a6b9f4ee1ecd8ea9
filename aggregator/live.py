"""The live consumer: what passes now, to whoever is watching. It keeps no position and has no balance.

Events always pass; telemetry and logs are opened only for nodes that somebody watches.
"""

import asyncio
import contextlib
import fnmatch
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import msgspec

from aggregator.log import Log, OffsetOutOfRangeError, Record
from aggregator.store_consumer import RECORD_TOPICS
from collectors.show import rows_of_block
from schemas.batch import Block, Envelope
from schemas.codec import check_batch, decode_batch
from schemas.errors import WireError
from schemas.verbosity import Level, RowClass

_log = logging.getLogger("muster.live")
QUEUE_BLOCKS: Final = 256
READ_BYTES: Final = 1 << 20


def _nobody_is_told(_pattern: str, _seconds: float) -> None:
    pass


class LiveFilter(msgspec.Struct, frozen=True):
    """What a watcher wants to see."""

    node: str = "*"
    """A pattern over subjects and publishers, with * and ?."""
    measurement: str = "*"
    level: Level = Level.DEBUG
    classes: frozenset[RowClass] = frozenset(RowClass)

    def wants(self, envelope: Envelope) -> bool:
        """Tell from the envelope alone whether the batch may hold something wanted."""
        return envelope.row_class in self.classes and envelope.level <= self.level

    def takes(self, envelope: Envelope, block: Block) -> bool:
        """Tell whether a block is wanted."""
        return fnmatch.fnmatchcase(block.measurement, self.measurement) and (
            fnmatch.fnmatchcase(block.subject, self.node) or fnmatch.fnmatchcase(envelope.publisher, self.node)
        )


class Seen(msgspec.Struct, frozen=True):
    """One block as it passed."""

    publisher: str
    row_class: RowClass
    level: Level
    block: Block


class Watcher:
    """One who watches. Falling behind loses blocks, for this watcher alone, and counts them."""

    def __init__(self, wanted: LiveFilter) -> None:
        self.filter = wanted
        self.queue: asyncio.Queue[Seen | None] = asyncio.Queue(QUEUE_BLOCKS)
        self.missed_rows = 0

    def offer(self, seen: Seen) -> None:
        """Hand over one block, or count it as missed."""
        try:
            self.queue.put_nowait(seen)
        except asyncio.QueueFull:
            self.missed_rows += len(seen.block.rows)

    async def blocks(self) -> AsyncIterator[Seen]:
        """Give what passes, until the hub closes."""
        while (seen := await self.queue.get()) is not None:
            yield seen

    def end(self) -> None:
        """Have `blocks` end once what waits has been given."""
        while self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class LiveHub:
    """Follows the log's ends while somebody watches, and hands out what passes."""

    def __init__(self, log: Log, watched: Callable[[str, float], None] = _nobody_is_told) -> None:
        self._log = log
        self._watched = watched
        self._watchers: set[Watcher] = set()
        self._positions: dict[tuple[str, int], int] = {}
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def watch(self, wanted: LiveFilter) -> Iterator[Watcher]:
        """Watch for the length of a `with`."""
        watcher = Watcher(wanted)
        self._watchers.add(watcher)
        self._changed.set()
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """End every watch: the process is about to stop."""
        for watcher in self._watchers:
            watcher.end()

    async def run(self) -> None:
        """Follow for ever; asleep while nobody watches."""
        moment = 0
        while True:
            if not self._watchers:
                self._positions.clear()
                self._changed.clear()
                await self._changed.wait()
                await self._seek_end()
            for watcher in self._watchers:
                self._watched(watcher.filter.node, 15.0)
            moment = await self._log.wait(moment, 5.0)
            for topic, partition in list(self._positions):
                await self._read(topic, partition)

    async def _seek_end(self) -> None:
        for partition in range(self._log.partitions):
            for topic in RECORD_TOPICS:
                self._positions[topic, partition] = await self._log.end(topic, partition)

    async def _read(self, topic: str, partition: int) -> None:
        try:
            records = await self._log.read(topic, partition, self._positions[topic, partition], READ_BYTES)
        except OffsetOutOfRangeError as error:
            self._positions[topic, partition] = error.end
            return
        for record in records:
            self._positions[topic, partition] = record.offset + 1
            self._show(record)

    def _show(self, record: Record) -> None:
        try:
            batch = decode_batch(record.value)
            envelope = batch.envelope
            wanting = [watcher for watcher in self._watchers if watcher.filter.wants(envelope)]
            if not (wanting and envelope.rows):
                return
            blocks = check_batch(batch)
        except WireError:
            return  # the store consumer sets it aside
        for block in blocks:
            for watcher in wanting:
                if watcher.filter.takes(envelope, block):
                    watcher.offer(Seen(envelope.publisher, envelope.row_class, envelope.level, block))


def rows_of(seen: Seen) -> Iterator[dict[str, Any]]:
    """Give a block's rows one by one, as people and JSON read them; what was not reported is left out."""
    return rows_of_block(seen.block, seen.row_class, seen.level)

"""The live consumer: what passes now, to whoever is watching. It keeps no position and has no balance.

Events and documents are always opened; telemetry and logs only of publishers that may speak for what is watched.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from aggregator.access import matches
from aggregator.log import Log, LogReadError, OffsetOutOfRangeError, Record
from aggregator.store_consumer import RECORD_TOPICS
from collectors.show import rows_of_block
from schemas.batch import Block, Envelope
from schemas.codec import check_batch, decode_batch
from schemas.errors import WireError
from schemas.verbosity import Level, RowClass

_log = logging.getLogger("muster.live")
QUEUE_BLOCKS: Final = 256
READ_BYTES: Final = 1 << 20
LEARN_SECONDS: Final = 30.0
"""How long what was learned of a stream is believed; its next batch is then opened, whoever watches."""
MAX_SUBJECTS: Final = 64
"""A stream that speaks for more may speak for any: it is always opened."""
MAX_STREAMS: Final = 16_384
RETRY_SECONDS: Final = 1.0
"""After how long a log that cannot be read is tried again."""


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
        return matches(self.measurement, block.measurement) and (
            matches(self.node, block.subject) or matches(self.node, envelope.publisher)
        )


class Speakers:
    """For whom each stream of each publisher was seen to speak, learned from the batches that were opened.

    A stream of which nothing is known, or nothing since `LEARN_SECONDS`, counts as speaking for everybody.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: dict[tuple[str, RowClass, Level], tuple[float, set[str]]] = {}

    def may_concern(self, envelope: Envelope, node: str) -> bool:
        """Tell whether a batch may hold rows about what the pattern `node` stands for, or comes from it."""
        if envelope.row_class not in (RowClass.TELEMETRY, RowClass.LOG) or matches(node, envelope.publisher):
            return True
        known = self._streams.get(_stream(envelope))
        if known is None or self._clock() - known[0] >= LEARN_SECONDS or len(known[1]) > MAX_SUBJECTS:
            return True
        return any(matches(node, subject) for subject in known[1])

    def learn(self, envelope: Envelope, blocks: list[Block]) -> None:
        """Take note of whom an opened batch speaks for."""
        stream = _stream(envelope)
        if len(self._streams) >= MAX_STREAMS and stream not in self._streams:
            self._streams.clear()
        subjects = self._streams[stream][1] if stream in self._streams else set()
        if len(subjects) <= MAX_SUBJECTS:
            subjects.update(islice({block.subject for block in blocks} - subjects, MAX_SUBJECTS + 1))
        self._streams[stream] = (self._clock(), subjects)

    def forget(self) -> None:
        """Begin anew."""
        self._streams.clear()


def _stream(envelope: Envelope) -> tuple[str, RowClass, Level]:
    return envelope.publisher, envelope.row_class, envelope.level


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

    def __init__(
        self,
        log: Log,
        watched: Callable[[str, float], None] = _nobody_is_told,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._speakers = Speakers(clock)
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
        """Follow for ever; asleep while nobody watches. While the log cannot be read, try again."""
        told = ""
        while True:
            try:
                await self._follow()
            except LogReadError as error:
                if str(error) != told:  # once for a standing condition
                    told = str(error)
                    _log.error("live_waits error=%s (it is tried again)", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        moment = 0
        while True:
            if not self._watchers:
                self._positions.clear()
                self._speakers.forget()
                self._changed.clear()
                await self._changed.wait()
            if not self._positions:
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
            wanting = [one for one in wanting if self._speakers.may_concern(envelope, one.filter.node)]
            if not (wanting and envelope.rows):
                return
            blocks = check_batch(batch)
        except WireError:
            return  # the store consumer sets it aside
        self._speakers.learn(envelope, blocks)
        for block in blocks:
            for watcher in wanting:
                if watcher.filter.takes(envelope, block):
                    watcher.offer(Seen(envelope.publisher, envelope.row_class, envelope.level, block))


def rows_of(seen: Seen) -> Iterator[dict[str, Any]]:
    """Give a block's rows one by one, as people and JSON read them; what was not reported is left out."""
    return rows_of_block(seen.block, seen.row_class, seen.level)

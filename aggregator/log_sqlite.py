"""The embedded log: one SQLite file, one process, nothing to install.

What is acknowledged is on disk (write-ahead log, `synchronous=FULL`). Appends that wait share a commit. The newest
records stay in memory, so consumers that keep up never read the file; what is older is read in two threads beside the
writer. The file does not shrink: pages that trimming frees are used again.

One event loop uses a log; everything here but the threads it starts runs on that loop.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

import msgspec

from aggregator._log_file import LogFile, slot_of
from aggregator._log_reader import LogReader, Tail
from aggregator._log_writer import Append, LogWriter, Outcome, Trim, full_error
from aggregator.log import Entry, LogFullError, LogReadError, OffsetOutOfRangeError, Record

T = TypeVar("T")
Values = TypeVarTuple("Values")

PARTITIONS: Final = 8
"""How many partitions a new embedded log gets."""
READER_THREADS: Final = 2


class Standing(msgspec.Struct, frozen=True):
    """How one partition of one topic stands, for retention and `/metrics`."""

    topic: str
    partition: int
    begin: int
    end: int
    bytes: int
    """The size of all values that are still here; what SQLite adds is not in it."""

    @property
    def records(self) -> int:
        """How many records are here."""
        return self.end - self.begin


class SqliteLog:
    """A `Log` in one SQLite file, and what retention needs beside it."""

    def __init__(
        self,
        path: Path,
        *,
        partitions: int = PARTITIONS,
        synchronous: str = "FULL",
        clock: Callable[[], int] = time.time_ns,
        tail_bytes: int = 16 << 20,
        max_waiting_bytes: int = 32 << 20,
        min_free_bytes: int = 32 << 20,
    ) -> None:
        """Open the log at `path`, or make it. Blocks for some milliseconds. Raises LogOpenError.

        Args:
            path: The file; its folder must be there. Beside it appear `-wal`, `-shm` and `.lock`.
            partitions: For a new log; one that exists keeps its own number.
            synchronous: SQLite's setting. Anything below FULL breaks the promise that acknowledged means durable, and
                is for tests and for measuring what the promise costs.
            clock: Nanoseconds since 1970.
            tail_bytes: How much of the newest records stays in memory.
            max_waiting_bytes: More than this waiting to be written, and `append` raises LogFullError.
            min_free_bytes: With less room than this on the file system, `append` raises LogFullError, so that trimming
                (which writes before it frees) and the other databases beside the log can still work.
        """
        self._file = LogFile(path, partitions=partitions, synchronous=synchronous)
        self._marks = {slot: mark.copy() for slot, mark in self._file.marks.items()}
        self._tail = Tail(tail_bytes)
        self._reader = LogReader(path, READER_THREADS)
        self._writer = LogWriter(self._file, self._deliver, clock=clock, min_free_bytes=min_free_bytes)
        self._writer.start()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting_bytes = 0
        self._max_waiting_bytes = max_waiting_bytes
        self._count = 1  # 0 is "at first": the first wait returns at once, for what was here before
        self._sleepers: set[asyncio.Future[None]] = set()
        self._closed = False
        self.failures = 0
        """Calls of `append` and `trim` that failed since opening, refused ones included."""
        self.last_failure = ""
        """Why the last one failed; "" once one succeeded again."""

    @property
    def id(self) -> str:
        """See `Log`."""
        return self._file.id

    @property
    def partitions(self) -> int:
        """See `Log`."""
        return self._file.partitions

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        """See `Log`. Also raises LogFullError when too much waits already, and after `close`."""
        if not entries:
            return []
        slots = [(self._slot(entry.topic, entry.partition), entry.value) for entry in entries]
        size = sum(len(entry.value) for entry in entries)
        if self._closed:
            raise LogFullError("the log is closed")
        if self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes:
            self.failures += 1
            self.last_failure = f"{self._waiting_bytes} bytes wait to be written already"
            raise full_error(self.last_failure)
        future: asyncio.Future[list[int]] = self._bound_loop().create_future()
        self._waiting_bytes += size
        self._writer.put(Append(slots, size, future))
        return await future

    async def read(self, topic: str, partition: int, offset: int, max_bytes: int) -> list[Record]:
        """See `Log`. At most 4,096 records at once."""
        slot = self._slot(topic, partition)
        mark = self._marks[slot]
        if not mark.begin <= offset <= mark.end:
            raise OffsetOutOfRangeError(topic, partition, offset, mark.begin, mark.end)
        if offset == mark.end:
            return []
        records = self._tail.read(slot, offset, max_bytes)
        if records is not None:
            await asyncio.sleep(0)  # a consumer that catches up from memory must not keep the loop to itself
        else:
            records = await self._ask(self._reader.records, slot, offset, mark.end, max_bytes)
            if not records or records[0].offset != offset:  # trimmed while we looked
                begin = records[0].offset if records else mark.end
                raise OffsetOutOfRangeError(topic, partition, offset, begin, self._marks[slot].end)
        return records

    async def begin(self, topic: str, partition: int) -> int:
        """See `Log`."""
        return self._marks[self._slot(topic, partition)].begin

    async def end(self, topic: str, partition: int) -> int:
        """See `Log`."""
        return self._marks[self._slot(topic, partition)].end

    async def trim(self, topic: str, partition: int, before: int) -> None:
        """See `Log`. Returns when all of it is gone; appends go on meanwhile. Raises LogFullError as well."""
        slot = self._slot(topic, partition)
        mark = self._marks[slot]
        if before > mark.end:
            raise OffsetOutOfRangeError(topic, partition, before, mark.begin, mark.end)
        if self._closed:
            raise LogFullError("the log is closed")
        future: asyncio.Future[None] = self._bound_loop().create_future()
        self._writer.put(Trim(slot, before, future))
        await future

    async def wait(self, since: int, timeout: float) -> int:
        """See `Log`. Costs an append nothing while nobody waits."""
        loop = self._bound_loop()
        if self._count == since and timeout > 0:
            sleeper: asyncio.Future[None] = loop.create_future()
            self._sleepers.add(sleeper)
            alarm = loop.call_later(timeout, _wake, sleeper)
            try:
                await sleeper
            finally:
                alarm.cancel()
                self._sleepers.discard(sleeper)
        return self._count

    async def owned(self) -> frozenset[int]:
        """See `Log`: all partitions, always."""
        return frozenset(range(self.partitions))

    async def oldest(self, topic: str, partition: int) -> int | None:
        """Give when the oldest record here was appended, nanoseconds since 1970; None when there is none."""
        slot = self._slot(topic, partition)
        begin = self._marks[slot].begin
        if begin == self._marks[slot].end:
            return None
        records = self._tail.read(slot, begin, 0)
        return records[0].appended_ns if records else await self._ask(self._reader.appended, slot, begin)

    async def cut_by_age(self, topic: str, before_ns: int) -> dict[int, int]:
        """Give, by partition, the first offset appended at `before_ns` or later, where something older is here."""
        cuts: dict[int, int] = {}
        for partition in range(self.partitions):
            slot = self._slot(topic, partition)
            begin, end = self._marks[slot].begin, self._marks[slot].end
            oldest = await self.oldest(topic, partition)
            if oldest is not None and oldest < before_ns:
                cuts[partition] = await self._ask(self._reader.cut_by_age, slot, begin, end, before_ns)
        return cuts

    async def cut_by_bytes(self, topic: str, keep_bytes: int) -> dict[int, int]:
        """Give, by partition, where to cut so that at most `keep_bytes` of the topic stay; what is oldest goes first.

        One answer takes 64 MiB at most: trim, and ask again until it is empty.
        """
        slots = {self._slot(topic, partition): partition for partition in range(self.partitions)}
        excess = sum(self._marks[slot].bytes for slot in slots) - keep_bytes
        if excess <= 0:
            return {}
        spans = [(slot, self._marks[slot].begin, self._marks[slot].end) for slot in slots]
        cuts = await self._ask(self._reader.cut_by_bytes, spans, excess)
        return {slots[slot]: before for slot, before in cuts.items()}

    def standings(self) -> list[Standing]:
        """Give how every partition of every topic stands, from memory."""
        return [
            Standing(topic, partition, mark.begin, mark.end, mark.bytes)
            for topic in self._file.topics
            for partition in range(self.partitions)
            for mark in (self._marks[self._slot(topic, partition)],)
        ]

    def size_bytes(self) -> int:
        """Give what the log takes on disk: the file and its write-ahead log."""
        total = 0
        for suffix in ("", "-wal"):
            try:
                total += Path(f"{self._file.path}{suffix}").stat().st_size
            except FileNotFoundError:
                continue
        return total

    @property
    def waiting_bytes(self) -> int:
        """How much waits to be written."""
        return self._waiting_bytes

    async def close(self) -> None:
        """See `Log`. What was queued is written; later appends raise LogFullError."""
        if not self._closed:
            self._closed = True
            loop = self._bound_loop()
            await loop.run_in_executor(None, self._reader.close)  # first: a reader would hold up the last checkpoint
            self._writer.stop()
            await loop.run_in_executor(None, self._writer.join)  # returns behind what the writer delivered last
        for sleeper in self._sleepers:
            _wake(sleeper)

    def _slot(self, topic: str, partition: int) -> int:
        number = self._file.topics.get(topic)
        if number is None or not 0 <= partition < self.partitions:
            raise ValueError(f"{topic}/{partition} is not a partition of this log")
        return slot_of(number, partition)

    def _bound_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError("one event loop uses a log, and another one does already")
            self._loop = loop
        return loop

    async def _ask(self, question: Callable[[Unpack[Values]], T], *values: *Values) -> T:
        """Put a question to the file, in a reader's thread."""
        if self._closed:
            raise LogReadError("the log is closed")
        return await self._bound_loop().run_in_executor(self._reader.pool, question, *values)

    def _deliver(self, outcome: Outcome) -> None:
        """Hand what the writer did to the loop. Called from the writer's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: Outcome) -> None:
        """Make what the writer did visible, then tell those who wait for it."""
        self._waiting_bytes -= sum(append.size for append in outcome.appends)
        if outcome.error:
            self._refuse(outcome)
            return
        self.last_failure = ""
        self._marks.update(outcome.marks)
        for append in outcome.appends:
            for (slot, _), record in zip(append.entries, append.records, strict=True):
                self._tail.add(slot, record)
            if not append.future.done():
                append.future.set_result([record.offset for record in append.records])
        for trim in outcome.trims:
            _wake(trim.future)
        if outcome.appends:
            self._count += 1
            for sleeper in self._sleepers:
                _wake(sleeper)

    def _refuse(self, outcome: Outcome) -> None:
        self.last_failure = outcome.error
        futures: list[asyncio.Future[Any]] = [task.future for task in outcome.appends]
        futures += [task.future for task in outcome.trims]
        self.failures += len(futures)
        for future in futures:
            if not future.done():
                future.set_exception(full_error(outcome.error))


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

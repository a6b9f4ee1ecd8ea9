"""Reading the embedded log: from memory what is new, from the file, in a few threads, what is older."""

import sqlite3
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from heapq import merge
from pathlib import Path
from typing import Any, Final

from aggregator._log_file import connect_reader, key_of, offset_of
from aggregator.log import LogReadError, Record

MAX_RECORDS: Final = 4096
"""One reading gives no more, however small they are."""
_RECORD_OVERHEAD: Final = 160  # bytes that a Record and its value cost beyond the value's own
_PLAN_BYTES: Final = 64 << 20  # one plan looks at no more: its snapshot keeps the write-ahead log from restarting


class Tail:
    """The newest records of all partitions, up to a number of bytes; the oldest goes first. For one thread.

    A consumer that keeps up is served from here and never touches the file.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._order: deque[tuple[int, int]] = deque()  # slot and cost of each record, oldest first
        self._slots: dict[int, tuple[list[Record], int]] = {}  # records, and how many at the front are gone

    def add(self, slot: int, record: Record) -> None:
        """Take the record that follows the last one of its slot."""
        cost = len(record.value) + _RECORD_OVERHEAD
        self._slots.setdefault(slot, ([], 0))[0].append(record)
        self._order.append((slot, cost))
        self._bytes += cost
        while self._bytes > self._limit:
            oldest, freed = self._order.popleft()
            self._bytes -= freed
            self._drop(oldest)

    def _drop(self, slot: int) -> None:
        records, gone = self._slots[slot]
        records[gone] = _GONE  # frees the value now; the list is shortened when half of it is gone
        gone += 1
        if gone * 2 > len(records):
            del records[:gone]
            gone = 0
        self._slots[slot] = (records, gone)

    def read(self, slot: int, offset: int, max_bytes: int) -> list[Record] | None:
        """Give records from `offset` on as `Log.read` does; None when `offset` is not in memory."""
        records, gone = self._slots.get(slot, ((), 0))
        if gone == len(records) or offset < records[gone].offset:
            return None
        start = gone + offset - records[gone].offset
        return _take((records[index] for index in range(start, min(len(records), start + MAX_RECORDS))), max_bytes)


_GONE: Final = Record(-1, 0, b"")


def _take(records: Iterable[Record], max_bytes: int) -> list[Record]:
    """Give the first record, and those that follow while all together stay within `max_bytes`."""
    taken: list[Record] = []
    left = max_bytes
    for record in records:
        left -= len(record.value)
        if left < 0 and taken:
            break
        taken.append(record)
    return taken


class LogReader:
    """Questions to the file. Every method blocks, and may be called from any thread of `pool`."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="log-reader")
        self._mine = threading.local()
        self._connections: list[sqlite3.Connection] = []

    def records(self, slot: int, offset: int, end: int, max_bytes: int) -> list[Record]:
        """Give records of `[offset, end)` as `Log.read` does; the first is a later one when `offset` was trimmed."""
        statement = "SELECT key, appended_ns, value FROM record WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
        rows = self._rows(statement, key_of(slot, offset), key_of(slot, end), MAX_RECORDS)
        with closing(rows):
            return _take((Record(offset_of(key), when, value) for key, when, value in rows), max_bytes)

    def appended(self, slot: int, offset: int) -> int | None:
        """Give when a record was appended; None when it is not there."""
        for (when,) in self._rows("SELECT appended_ns FROM record WHERE key = ?", key_of(slot, offset)):
            return int(when)
        return None

    def cut_by_age(self, slot: int, begin: int, end: int, before_ns: int) -> int:
        """Give the first offset of `[begin, end)` appended at `before_ns` or later, else `end`."""
        while begin < end:  # times never decrease within a partition
            middle = (begin + end) // 2
            when = self.appended(slot, middle)
            if when is None or when < before_ns:  # None: trimmed meanwhile, so it was older
                begin = middle + 1
            else:
                end = middle
        return begin

    def cut_by_bytes(self, spans: list[tuple[int, int, int]], excess: int) -> dict[int, int]:
        """Give for each slot where to cut so that the oldest records of all, `excess` bytes or just more, are before.

        `spans` are slot, begin and end. Looks at 64 MiB at most: ask again after trimming.
        """
        statement = "SELECT key, appended_ns, length(value) FROM record WHERE key >= ? AND key < ? ORDER BY key"
        excess = min(excess, _PLAN_BYTES)
        cuts: dict[int, int] = {}
        walks = [self._walk(statement, slot, begin, end) for slot, begin, end in spans]
        try:
            for _, slot, offset, size in merge(*walks):
                if excess <= 0:
                    break
                cuts[slot] = offset + 1
                excess -= size
        finally:
            for walk in walks:
                walk.close()
        return cuts

    def _walk(self, statement: str, slot: int, begin: int, end: int) -> Generator[tuple[int, ...], None, None]:
        for key, when, size in self._rows(statement, key_of(slot, begin), key_of(slot, end)):
            yield when, slot, offset_of(key), size

    def _rows(self, statement: str, *values: int) -> Generator[tuple[Any, ...], None, None]:
        try:
            cursor = self._connection().execute(statement, values)
            with closing(cursor):
                yield from cursor
        except sqlite3.Error as error:
            raise LogReadError(f"the log cannot be read: {error}") from None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = connect_reader(self._path)
            self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Wait for the questions that are being answered, then let go."""
        self.pool.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

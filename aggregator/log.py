"""The log: durable, ordered, in topics by class. The one interface behind which SQLite and Kafka are alike.

A topic has the same number of partitions as every other, so that whoever owns partition p owns it in all of them.
Offsets grow by one a record within a partition and are never used again. The log has an id, random and made with it:
a position is (log id, topic, partition, offset), and one under another id means nothing.
"""

import zlib
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from schemas.errors import MusterError
from schemas.verbosity import RowClass

TOPICS: Final = ("telemetry", "log", "event", "capability", "alert", "inventory")
"""Every topic. The first four hold what publishers send, by class; the last two what Muster concludes."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it lies in the log."""

    offset: int
    appended_ns: int
    """When the log took it, nanoseconds since 1970 by the log's clock."""
    value: bytes
    """For the first four topics a batch as `schemas.codec.encode_batch` made it."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One record to append."""

    topic: str
    partition: int
    value: bytes


class Expired(msgspec.Struct, frozen=True):
    """What retention took before a consumer had read it."""

    topic: str
    partition: int
    first: int
    end: int
    """Offsets, half open."""


class LogFullError(MusterError):
    """The log cannot take more now (disk full, broker refuses). Nothing of the call was kept; try again later."""

    code = "log.full"


class LogOpenError(MusterError):
    """The log cannot be used at all: locked, damaged, or made by a newer program. The message says what to do."""

    code = "log.open"


class LogReadError(MusterError):
    """What the log holds cannot be read now; trying again may help, as when a disk fails and comes back."""

    code = "log.read"


class OffsetOutOfRangeError(MusterError):
    """The offset asked for is no longer, or not yet, in the log; `begin` and `end` say what is."""

    code = "log.offset_out_of_range"

    def __init__(self, topic: str, partition: int, offset: int, begin: int, end: int) -> None:
        super().__init__(f"{topic}/{partition}: offset {offset} is outside {begin} to {end}")
        self.begin = begin
        self.end = end


class Log(Protocol):
    """What ingest and consumers need of a log. Every implementation passes `tests/contract/log_conformance.py`."""

    @property
    def id(self) -> str:
        """Random, made with the log, the same at every opening."""

    @property
    def partitions(self) -> int:
        """The number of partitions of every topic, fixed when the log is made."""

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        """Append all or nothing, in order; return the offsets once every entry is on disk. Raises LogFullError."""

    async def read(self, topic: str, partition: int, offset: int, max_bytes: int) -> list[Record]:
        """Give records from `offset` on: at least one if there is one, then up to `max_bytes`; [] at the end.

        Raises OffsetOutOfRangeError when `offset` is before the begin or behind the end, LogReadError when it cannot.
        """

    async def begin(self, topic: str, partition: int) -> int:
        """The oldest offset still here."""

    async def end(self, topic: str, partition: int) -> int:
        """The offset that the next record will get."""

    async def trim(self, topic: str, partition: int, before: int) -> None:
        """Forget every record below `before`. Later offsets stay what they are; nothing happens below the begin.

        Raises OffsetOutOfRangeError when `before` is behind the end.
        """

    async def wait(self, since: int, timeout: float) -> int:
        """Return when something was appended after the moment `since` (a count this gave; 0 at first), or late."""

    async def owned(self) -> frozenset[int]:
        """The partitions that this process owns now: all of them when the log is embedded."""

    async def close(self) -> None:
        """Finish what was begun and let go. Safe twice."""


def topic_of(row_class: RowClass) -> str:
    """Give the topic of a class."""
    return TOPICS[row_class]


def partition_of(key: str, partitions: int) -> int:
    """Give the partition of a publisher (or node): the same on every machine and in every version."""
    return zlib.crc32(key.encode()) % partitions

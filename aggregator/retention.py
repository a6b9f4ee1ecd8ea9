"""Retention of the log: by age and by size per topic, and never in silence.

What a consumer has not read yet is counted before it goes: the envelopes of its batches say which rows they held, so
the consumer's account can call them expired instead of losing them. The order is what makes it safe: read the
envelopes, let the consumer's account become durable, then trim. A crash in between repeats the counting, which
interval sets bear.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import msgspec

from aggregator.log import Expired, Log, Record, topic_of
from schemas.batch import Envelope
from schemas.codec import decode_batch
from schemas.errors import WireError
from schemas.verbosity import RowClass

STEP_BYTES: Final = 4 << 20
"""What is read, counted and trimmed at a time."""
_TOPICS_OF_BATCHES: Final = frozenset(topic_of(row_class) for row_class in RowClass)


class Limits(msgspec.Struct, frozen=True):
    """How much of a topic stays. None: no limit of that kind."""

    age_seconds: float | None = None
    """By the log's own time of appending."""
    bytes: int | None = None
    """Over all partitions of the topic; what is oldest goes first."""


class Taken(msgspec.Struct, frozen=True):
    """What retention is about to take from one consumer that has not read it."""

    expired: Expired
    envelopes: list[Envelope]
    """Of the batches among it; empty for topics that hold no batches."""
    appended_ns: list[int] = []
    """When the log took each of those batches, in the same order."""
    unreadable: int = 0
    """Records of a topic of batches whose envelope cannot be read, so that nobody can say what they held."""


class Trimmed(msgspec.Struct, frozen=True):
    """What one run of retention did to one partition."""

    topic: str
    partition: int
    first: int
    end: int
    """Offsets, half open."""
    unread: dict[str, int]
    """By consumer, how many of these records it had not read."""


class RetainedLog(Log, Protocol):
    """A log that leaves retention to us, and answers what planning needs. Kafka has retention of its own."""

    async def cut_by_age(self, topic: str, before_ns: int) -> dict[int, int]:
        """Give, by partition, the first offset appended at `before_ns` or later, where something older is here."""

    async def cut_by_bytes(self, topic: str, keep_bytes: int) -> dict[int, int]:
        """Give, by partition, where to cut so that about `keep_bytes` stay; {} when no more than that is here."""


Positions = Callable[[str, int], Mapping[str, int]]
"""For topic and partition: by consumer that reads it, the committed offset that it reads next."""
Take = Callable[[str, Taken], Awaitable[None]]
"""Make it durable that a consumer (by name) was robbed of something; trimming waits for it."""


class Retention:
    """Keeps a log within its limits. `enforce` is called about once a minute, and never twice at the same time."""

    def __init__(self, log: RetainedLog, limits: Mapping[str, Limits], *, positions: Positions, take: Take) -> None:
        """Keep `log` within `limits` (by topic; a topic without any is never trimmed)."""
        self._log = log
        self._limits = dict(limits)
        self._positions = positions
        self._take = take

    def limit(self, limits: Mapping[str, Limits]) -> None:
        """Keep within other limits from the next run on."""
        self._limits = dict(limits)

    async def enforce(self, now_ns: int) -> list[Trimmed]:
        """Trim what is over the limits at `now_ns` (the log's clock). What `take` or the log raises ends it early.

        What was trimmed before stays trimmed and counted; the next call goes on from there.
        """
        done: list[Trimmed] = []
        for topic, limits in self._limits.items():
            if limits.age_seconds is not None:
                cuts = await self._log.cut_by_age(topic, now_ns - int(limits.age_seconds * 1e9))
                done += await self._cut(topic, cuts)
            if limits.bytes is not None:
                while cuts := await self._log.cut_by_bytes(topic, limits.bytes):
                    done += await self._cut(topic, cuts)
        return done

    async def _cut(self, topic: str, cuts: dict[int, int]) -> list[Trimmed]:
        done: list[Trimmed] = []
        for partition, before in cuts.items():
            unread: dict[str, int] = {}
            first = begin = await self._log.begin(topic, partition)
            while begin < before:
                begin = await self._step(topic, partition, begin, before, unread)
            if first < before:
                done.append(Trimmed(topic, partition, first, before, unread))
        return done

    async def _step(self, topic: str, partition: int, begin: int, before: int, unread: dict[str, int]) -> int:
        """Count and trim a piece from `begin` on; give where it ended. What everybody has read goes in one piece."""
        positions = {name: max(at, begin) for name, at in self._positions(topic, partition).items() if at < before}
        end = min(positions.values(), default=before)
        if positions and end == begin:
            records = await self._log.read(topic, partition, begin, STEP_BYTES)
            records = [record for record in records if record.offset < before]
            end = records[-1].offset + 1
            for name, position in positions.items():
                if position < end:
                    unread[name] = unread.get(name, 0) + end - position
                    await self._take(name, _taken(topic, partition, position, end, records))
        await self._log.trim(topic, partition, end)
        return end


def _taken(topic: str, partition: int, first: int, end: int, records: list[Record]) -> Taken:
    envelopes: list[Envelope] = []
    appended: list[int] = []
    unreadable = 0
    if topic in _TOPICS_OF_BATCHES:
        for record in records:
            if record.offset < first:
                continue
            try:
                envelopes.append(decode_batch(record.value).envelope)
                appended.append(record.appended_ns)
            except WireError:  # ingest lets none in; a damaged disk may
                unreadable += 1
    return Taken(Expired(topic, partition, first, end), envelopes, appended, unreadable)

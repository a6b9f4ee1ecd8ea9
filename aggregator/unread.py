"""What lies in the log that a consumer has not dealt with yet, known from the envelopes alone."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from aggregator.log import Log, OffsetOutOfRangeError, Record
from aggregator.progress import later_word, told_word
from aggregator.store import Stream, Word
from schemas.batch import Envelope
from schemas.codec import decode_batch
from schemas.errors import WireError
from schemas.intervals import Intervals

READ_BYTES: Final = 1 << 20
Place = tuple[str, int]
"""Topic and partition."""


class Unread(msgspec.Struct):
    """Rows and words of a number of records."""

    rows: dict[Stream, Intervals] = {}
    words: dict[str, Word] = {}
    """By publisher, merged if there are several."""

    def note(self, envelope: Envelope, appended_ns: int) -> None:
        """Add what one record holds."""
        if envelope.rows:
            stream = Stream(envelope.publisher, envelope.epoch, envelope.row_class, envelope.level)
            self.rows.setdefault(stream, Intervals()).add(envelope.first, envelope.end)
        if envelope.account is not None:
            self._hear(told_word(envelope.publisher, envelope.epoch, appended_ns, envelope.account))

    def update(self, later: "Unread") -> None:
        """Add what later records hold."""
        for stream, rows in later.rows.items():
            self.rows.setdefault(stream, Intervals()).update(rows)
        for word in later.words.values():
            self._hear(word)

    def _hear(self, word: Word) -> None:
        self.words[word.publisher] = later_word(self.words.get(word.publisher), word)


class _Part(msgspec.Struct):
    """What is known of one partition: of the records of `[first, cursor)`."""

    first: int
    cursor: int
    found: Unread = msgspec.field(default_factory=Unread)


class UnreadLog:
    """Follows what one consumer leaves unread. For one event loop, and one call at a time.

    Every record is opened once, however long it stays unread: what the consumer has dealt with since is told by the
    consumer's own sets, so that a partition is only begun anew when the consumer has caught up with it.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._parts: dict[Place, _Part] = {}

    async def look(self, positions: Mapping[Place, int], ends: Mapping[Place, int]) -> Unread:
        """Give what lies before `ends`; some of it may be before `positions`. Raises LogReadError."""
        total = Unread()
        for place, end in ends.items():
            position = positions.get(place, 0)
            part = self._parts.get(place)
            if part is None or position >= part.cursor or position < part.first:
                part = self._parts[place] = _Part(position, position)
            await self._read(place, part, end)
            total.update(part.found)
        return total

    async def _read(self, place: Place, part: _Part, end: int) -> None:
        while part.cursor < end:
            try:
                records = await self._log.read(*place, part.cursor, READ_BYTES)
            except OffsetOutOfRangeError as error:
                if error.begin <= part.cursor:  # the log is shorter than what the consumer read of it
                    return
                part.cursor = error.begin  # retention took them, and has counted them
                continue
            records = [record for record in records if record.offset < end]
            if not records:
                return
            found = await asyncio.to_thread(_open, records)
            part.found.update(found)
            part.cursor = records[-1].offset + 1


def _open(records: Iterable[Record]) -> Unread:
    found = Unread()
    for record in records:
        try:
            envelope = decode_batch(record.value).envelope
        except WireError:  # the consumer will say so
            continue
        found.note(envelope, record.appended_ns)
    return found

"""What retention of the log took from a consumer that had not read it: durable first, and in the balance."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, select

from aggregator.control import Control
from aggregator.progress import Tracker, later_word
from aggregator.retention import Taken
from aggregator.store import Stream, Word
from aggregator.tables import EXPIRED_ROWS, EXPIRED_WORD
from aggregator.unread import Unread
from schemas.intervals import Interval, Intervals
from schemas.verbosity import Level, RowClass

_KEY: Final = ("consumer", "publisher", "epoch", "row_class", "level")


class Expiry:
    """Remembers expired rows by consumer, and the words that expired with them. For one event loop.

    A publisher says of rows that it dropped only until the log has its word. If that went before the consumer had read
    it, nobody could ever say where those rows are.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._rows: dict[str, dict[Stream, Intervals]] = {}
        self._words: dict[str, dict[str, Word]] = {}

    async def load(self) -> None:
        """Read what is known."""
        self._rows, self._words = await self._control.read(_load)

    async def take(self, consumer: str, taken: Taken) -> None:
        """Note what a consumer is about to lose; on disk when it returns."""
        added = Unread()
        for envelope, appended_ns in zip(taken.envelopes, taken.appended_ns, strict=True):
            added.note(envelope, appended_ns)
        rows, words = await self._control.write(partial(_add, consumer=consumer, added=added))
        self._rows.setdefault(consumer, {}).update(rows)
        self._words.setdefault(consumer, {}).update(words)

    def intervals(self, consumer: str) -> Iterable[tuple[Stream, Interval]]:
        """Give what a consumer has lost so."""
        return [(stream, pair) for stream, rows in self._rows.get(consumer, {}).items() for pair in rows]

    def words(self, consumer: str) -> Iterable[Word]:
        """Give the words that a consumer has lost so, one of each publisher; it may have heard later ones since."""
        return list(self._words.get(consumer, {}).values())

    async def forget_settled(self, consumer: str, tracker: Tracker) -> None:
        """Let go of what a consumer has lost of runs that it has settled since: its past counts it."""
        rows, words = self._rows.get(consumer, {}), self._words.get(consumer, {})
        gone = [stream for stream in rows if tracker.is_settled(stream.publisher, stream.epoch)]
        left = {name: said for name, word in words.items() if (said := tracker.unsettled(word)) is not word}
        if not gone and not left:
            return
        await self._control.write(partial(_forget, consumer=consumer, gone=gone, left=left))
        for stream in gone:
            rows.pop(stream, None)
        words.update(left)


def _forget(connection: Connection, consumer: str, gone: list[Stream], left: Mapping[str, Word]) -> None:
    for stream in gone:
        connection.execute(delete(EXPIRED_ROWS).where(*_is_of(consumer, stream)))
    for publisher, word in left.items():
        _put_word(connection, consumer, publisher, word)


def _is_of(consumer: str, stream: Stream) -> list[ColumnElement[bool]]:
    names = (consumer, stream.publisher, stream.epoch, int(stream.row_class), int(stream.level))
    return [EXPIRED_ROWS.c[name] == value for name, value in zip(_KEY, names, strict=True)]


def _put_word(connection: Connection, consumer: str, publisher: str, word: Word) -> None:
    key = {"consumer": consumer, "publisher": publisher}
    connection.execute(delete(EXPIRED_WORD).where(*(EXPIRED_WORD.c[name] == value for name, value in key.items())))
    connection.execute(insert(EXPIRED_WORD).values(**key, word=msgspec.msgpack.encode(word)))


def _load(connection: Connection) -> tuple[dict[str, dict[Stream, Intervals]], dict[str, dict[str, Word]]]:
    found: dict[str, dict[Stream, Intervals]] = {}
    for row in connection.execute(select(EXPIRED_ROWS)):
        stream = Stream(row.publisher, row.epoch, RowClass(row.row_class), Level(row.level))
        found.setdefault(row.consumer, {}).setdefault(stream, Intervals()).add(row.first_row, row.end_row)
    words: dict[str, dict[str, Word]] = {}
    for row in connection.execute(select(EXPIRED_WORD)):
        words.setdefault(row.consumer, {})[row.publisher] = msgspec.msgpack.decode(row.word, type=Word)
    return found, words


def _add(connection: Connection, consumer: str, added: Unread) -> tuple[dict[Stream, Intervals], dict[str, Word]]:
    """Merge what was taken into what is there; give the result for the streams and publishers concerned."""
    return _add_rows(connection, consumer, added.rows), _add_words(connection, consumer, added.words)


def _add_words(connection: Connection, consumer: str, added: Mapping[str, Word]) -> dict[str, Word]:
    merged = {}
    for publisher, told in added.items():
        where = [EXPIRED_WORD.c.consumer == consumer, EXPIRED_WORD.c.publisher == publisher]
        before = connection.execute(select(EXPIRED_WORD.c.word).where(*where)).scalar()
        known = None if before is None else msgspec.msgpack.decode(before, type=Word)
        word = merged[publisher] = later_word(known, told)
        _put_word(connection, consumer, publisher, word)
    return merged


def _add_rows(connection: Connection, consumer: str, added: Mapping[Stream, Intervals]) -> dict[Stream, Intervals]:
    merged = {}
    for stream, new in added.items():
        names = (consumer, stream.publisher, stream.epoch, int(stream.row_class), int(stream.level))
        where = _is_of(consumer, stream)
        rows = Intervals(new)
        for row in connection.execute(select(EXPIRED_ROWS).where(*where)):
            rows.add(row.first_row, row.end_row)
        connection.execute(delete(EXPIRED_ROWS).where(*where))
        values = [{**dict(zip(_KEY, names, strict=True)), "first_row": first, "end_row": end} for first, end in rows]
        connection.execute(insert(EXPIRED_ROWS), values)
        merged[stream] = rows
    return merged

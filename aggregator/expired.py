"""What retention of the log took from a consumer that had not read it: durable first, and in the balance."""

from collections.abc import Iterable
from functools import partial
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from aggregator.control import Control
from aggregator.retention import Taken
from aggregator.store import Stream
from aggregator.tables import EXPIRED_ROWS
from schemas.batch import Envelope
from schemas.intervals import Interval, Intervals
from schemas.verbosity import Level, RowClass

_KEY: Final = ("consumer", "publisher", "epoch", "row_class", "level")


class Expiry:
    """Remembers expired rows by consumer. For one event loop."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._rows: dict[str, dict[Stream, Intervals]] = {}

    async def load(self) -> None:
        """Read what is known."""
        self._rows = await self._control.read(_load)

    async def take(self, consumer: str, taken: Taken) -> None:
        """Note what a consumer is about to lose; on disk when it returns."""
        added: dict[Stream, Intervals] = {}
        for envelope in taken.envelopes:
            if envelope.rows:
                added.setdefault(_stream(envelope), Intervals()).add(envelope.first, envelope.end)
        merged = await self._control.write(partial(_add, consumer=consumer, added=added))
        self._rows.setdefault(consumer, {}).update(merged)

    def intervals(self, consumer: str) -> Iterable[tuple[Stream, Interval]]:
        """Give what a consumer has lost so."""
        return [(stream, pair) for stream, rows in self._rows.get(consumer, {}).items() for pair in rows]


def _stream(envelope: Envelope) -> Stream:
    return Stream(envelope.publisher, envelope.epoch, envelope.row_class, envelope.level)


def _load(connection: Connection) -> dict[str, dict[Stream, Intervals]]:
    found: dict[str, dict[Stream, Intervals]] = {}
    for row in connection.execute(select(EXPIRED_ROWS)):
        stream = Stream(row.publisher, row.epoch, RowClass(row.row_class), Level(row.level))
        found.setdefault(row.consumer, {}).setdefault(stream, Intervals()).add(row.first_row, row.end_row)
    return found


def _add(connection: Connection, consumer: str, added: dict[Stream, Intervals]) -> dict[Stream, Intervals]:
    """Merge intervals into what is there; give the result for the streams concerned."""
    merged = {}
    for stream, new in added.items():
        names = (consumer, stream.publisher, stream.epoch, int(stream.row_class), int(stream.level))
        where = [EXPIRED_ROWS.c[name] == value for name, value in zip(_KEY, names, strict=True)]
        rows = Intervals(new)
        for row in connection.execute(select(EXPIRED_ROWS).where(*where)):
            rows.add(row.first_row, row.end_row)
        connection.execute(delete(EXPIRED_ROWS).where(*where))
        values = [{**dict(zip(_KEY, names, strict=True)), "first_row": first, "end_row": end} for first, end in rows]
        connection.execute(insert(EXPIRED_ROWS), values)
        merged[stream] = rows
    return merged

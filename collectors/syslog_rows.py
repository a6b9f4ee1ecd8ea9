"""How log records become blocks: rows gather as tuples, one list a source and level, and turn into columns at once."""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from collectors.log_limit import Limits
from collectors.log_row import Row
from collectors.log_storm import Folded, Storms
from schemas.batch import Block
from schemas.rows import LOG, Event, Item, Parcel, Position, Tally
from schemas.verbosity import Level, RowClass

Table = list[list[Row]]
"""The rows of one source, one list a level."""

ROWS_A_BLOCK = 500
ROWS_A_UNIT = 500
BYTES_A_UNIT = 1 << 17
"""A unit is full at either; with the largest read, four-fold escaped, a block stays below what the host takes."""

REMEMBERED: Final = "storms"
"""The position under which the host keeps what is folded and not told."""
_ATTRIBUTES = ["source"]


class Rows:
    """The unit at hand: what has been read and not yet emitted.

    Times: each row gets the unit's receive time plus its number in nanoseconds, so that rows keep the order in which
    they came over levels and sources; no time is given twice. A wall clock that steps back by 1 s or more is followed.
    """

    def __init__(
        self,
        subject: str,
        wall_ns: Callable[[], int],
        storms: Storms | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Begin with nothing. With `storms` copies are folded, with `limits` what is too much is left out."""
        self.number = 0
        """How many rows there are."""
        self.bytes = 0
        """How many bytes they came as."""
        self._subject = subject
        self._wall_ns = wall_ns
        self._storms = storms
        self._limits = limits
        self._tables: dict[str, Table] = {}
        self._items: list[Event | Position | Tally] = []
        self._further: dict[str, dict[int, str]] = {}
        self._counted: dict[str, dict[int, int]] = {}
        self._last = 0

    def table(self, source: str) -> Table:
        """Give the lists, one a level, that rows of `source` are appended to; good until the next `take`."""
        table = self._tables.get(source)
        if table is None:
            table = self._tables[source] = [[] for _ in Level]
        return table

    def note(self, column: str, value: str, first: int) -> None:
        """Give the rows from number `first` on a value in a further column, which few records have: `unit`, `peer`."""
        self._further.setdefault(column, {}).update(dict.fromkeys(range(first, self.number), value))

    def add(self, item: Event | Position | Tally) -> None:
        """Let an event, a position or a tally go with the rows."""
        self._items.append(item)

    @property
    def pending(self) -> bool:
        """Whether there is anything to emit."""
        return bool(self.number or self._items)

    @property
    def full(self) -> bool:
        """Whether it is time to emit."""
        return self.number >= ROWS_A_UNIT or self.bytes >= BYTES_A_UNIT

    def take(self) -> list[Item]:
        """Give everything as one unit, blocks first, and begin the next one; what is folded is not in it."""
        return self._give(final=False)

    def finish(self) -> list[Item]:
        """Give what is left: nothing will follow."""
        return self._give(final=True)

    def _give(self, *, final: bool) -> list[Item]:
        now = self._wall_ns()
        storms, limits = self._storms, self._limits
        if storms is not None:
            self._fold(storms, now)
        if limits is not None:
            self._limit(limits)
            self._items.extend(limits.due(final=final))
        if storms is not None:
            self._tell(storms.finish() if final else storms.due())
            self._remember(storms)
        return self._unit(now) if self.pending else []

    def _fold(self, storms: Storms, now: int) -> None:
        """Keep the rows that are no copies too many."""
        for source, table in self._tables.items():
            for level, rows in enumerate(table):
                if rows:
                    table[level] = storms.sift(source, Level(level), rows, now, self._further)

    def _limit(self, limits: Limits) -> None:
        """Keep the rows that are not too many for their host."""
        for source, table in self._tables.items():
            for level, rows in enumerate(table):
                kept = limits.sift(source, rows)
                if len(kept) < len(rows):
                    table[level] = kept
                    self._items.append(Tally(RowClass.LOG, Level(level), filtered=len(rows) - len(kept)))

    def _tell(self, told: list[Folded]) -> None:
        """Add the rows that stand for many."""
        for one in told:
            number = self.number
            self.table(one.source)[one.level].append((number, *one.row[1:]))
            self.number += 1
            for column, text in one.further.items():
                self._further.setdefault(column, {})[number] = text
            if one.copies > 1:
                for column, value in (("copies", one.copies), ("first_time_ns", one.first_ns),
                                      ("last_time_ns", one.last_ns)):  # fmt: skip
                    self._counted.setdefault(column, {})[number] = value
                self._items.append(Tally(RowClass.LOG, one.level, folded=one.copies - 1))

    def _remember(self, storms: Storms) -> None:
        text = storms.remember()
        if text is not None:
            self._items.append(Position(REMEMBERED, text))

    def _unit(self, now: int) -> list[Item]:
        if self._last - 1_000_000_000 < now <= self._last:
            now = self._last + 1
        self._last = now + self.number
        items: list[Item] = []
        for source, table in self._tables.items():
            for level, rows in enumerate(table):
                for at in range(0, len(rows), ROWS_A_BLOCK):
                    block = self._block(source, rows[at : at + ROWS_A_BLOCK], now)
                    items.append(Parcel(RowClass.LOG, Level(level), block))
        items.extend(self._items)
        self._tables = {}
        self._items = []
        self._further = {}
        self._counted = {}
        self.number = self.bytes = 0
        return items

    def _block(self, source: str, rows: list[Row], start: int) -> Block:
        """Make columns of rows. A column in which nothing was reported is left out."""
        number, message, severity, facility, host, app, process, message_id, data, time, sequence, device = zip(
            *rows, strict=True
        )
        count = len(rows)
        keys, index = _keys(device, source)
        texts = (
            ("message", message),
            ("host", host),
            ("app", app),
            ("process_id", process),
            ("message_id", message_id),
            ("structured_data", data),
            *((name, tuple(map(values.get, number))) for name, values in self._further.items()),
        )
        numbers = (
            ("severity", severity),
            ("facility", facility),
            ("source_time_ns", time),
            ("sequence", sequence),
            *((name, tuple(map(values.get, number))) for name, values in self._counted.items()),
        )
        return Block(
            measurement=LOG,
            subject=self._subject,
            attributes=_ATTRIBUTES,
            keys=keys,
            rows=index,
            start=start + number[0],
            steps=[0, *(later - earlier for earlier, later in pairwise(number))],
            ints={name: list(column) for name, column in numbers if column.count(None) < count},
            strings={name: list(column) for name, column in texts if column.count(None) < count},
        )


def _keys(devices: tuple[str, ...], source: str) -> tuple[list[list[str]], list[int]]:
    """Give the distinct devices as keys, and for each row the index of its key."""
    distinct = dict.fromkeys(devices)
    if len(distinct) == 1:
        return [[devices[0], source]], [0] * len(devices)
    places = {device: place for place, device in enumerate(distinct)}
    return [[device, source] for device in distinct], [places[device] for device in devices]

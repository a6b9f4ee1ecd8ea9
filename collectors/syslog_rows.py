"""How log records become blocks: rows gather as tuples, one list a source and level, and turn into columns at once."""

from collections.abc import Callable
from itertools import pairwise

from schemas.batch import Block
from schemas.rows import LOG, Event, Item, Parcel, Position
from schemas.verbosity import Level, RowClass

Row = tuple[
    int,  # number within the unit, over all sources and levels
    str | None,  # message
    int,  # severity
    int | None,  # facility
    str | None,  # host
    str | None,  # app
    str | None,  # process_id
    str | None,  # message_id
    str | None,  # structured_data
    int | None,  # source_time_ns
    int | None,  # sequence
    str,  # device
]
"""One record, in the order of the block's columns."""

Table = list[list[Row]]
"""The rows of one source, one list a level."""

ROWS_A_BLOCK = 500
ROWS_A_UNIT = 500
BYTES_A_UNIT = 1 << 17
"""A unit is full at either; with the largest read, four-fold escaped, a block stays below what the host takes."""

_ATTRIBUTES = ["source"]


class Rows:
    """The unit at hand: what has been read and not yet emitted.

    Times: each row gets the unit's receive time plus its number in nanoseconds, so that rows keep the order in which
    they came over levels and sources; no time is given twice. A wall clock that steps back by 1 s or more is followed.
    """

    def __init__(self, subject: str, wall_ns: Callable[[], int]) -> None:
        self.number = 0
        """How many rows there are."""
        self.bytes = 0
        """How many bytes they came as."""
        self._subject = subject
        self._wall_ns = wall_ns
        self._tables: dict[str, Table] = {}
        self._items: list[Event | Position] = []
        self._further: dict[str, dict[int, str]] = {}
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

    def add(self, item: Event | Position) -> None:
        """Let an event or a position go with the rows."""
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
        """Give everything as one unit, blocks first, and begin the next one."""
        if not self.pending:
            return []
        now = self._wall_ns()
        if self._last - 1_000_000_000 < now <= self._last:
            now = self._last + 1
        self._last = now + self.number
        items: list[Item] = []
        for source, table in self._tables.items():
            for level, rows in enumerate(table):
                for at in range(0, len(rows), ROWS_A_BLOCK):
                    block = _block(self._subject, source, rows[at : at + ROWS_A_BLOCK], now, self._further)
                    items.append(Parcel(RowClass.LOG, Level(level), block))
        items.extend(self._items)
        self._tables = {}
        self._items = []
        self._further = {}
        self.number = self.bytes = 0
        return items


def _block(subject: str, source: str, rows: list[Row], start: int, further: dict[str, dict[int, str]]) -> Block:
    """Make columns of rows; `further` ones by the rows' numbers. A column in which nothing was reported is left out."""
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
        *((name, tuple(values.get(row) for row in number)) for name, values in further.items()),
    )
    numbers = (("severity", severity), ("facility", facility), ("source_time_ns", time), ("sequence", sequence))
    return Block(
        measurement=LOG,
        subject=subject,
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

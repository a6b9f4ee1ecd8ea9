"""The newest value of every field of every series, in memory: what `top`, the page and `last` queries ask each second.

Rows are not copied: for each series one keeps which row of which columns is its newest. The memory is an accelerator:
`covers` says from which moment on it knows everything; before that, the store itself is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any, Final

from schemas.batch import Block

MAX_ENTRIES: Final = 500_000
"""Newest rows kept; beyond them the store answers."""

Noted = tuple[Sequence[int], Sequence[int], Block]
"""A block that was committed: the series and the time of each of its rows, and its columns."""
Value = tuple[int, Any]
"""Time in nanoseconds, and value."""

_Names = tuple[str, ...]
_Entry = tuple[int, Mapping[str, Sequence[Any]], int, Mapping[str, Value]]
"""Time of the row, its columns, its place in them, and older values of fields that are absent in it."""
_NOTHING: Final[Mapping[str, Value]] = {}


class LastValues:
    """Newest values. One thread notes, any thread asks."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[_Names, dict[int, _Entry]]] = {}
        self._count = 0
        self._since: int | None = None
        self._full = False

    def __len__(self) -> int:
        return self._count

    def begin(self, since: int) -> None:
        """Say from which moment on everything is known: what is older has not been shown to this object."""
        self._since = since

    def covers(self, since: int) -> bool:
        """Tell whether everything from `since` on is known."""
        return self._since is not None and not self._full and since >= self._since

    def note(self, noted: Iterable[Noted]) -> None:
        """Take blocks that are committed. Late rows do not displace newer ones."""
        for series, times, block in noted:
            columns: dict[str, Sequence[Any]] = {**block.floats, **block.ints, **block.bools, **block.strings}
            self.put(block.measurement, series, times, columns)

    def put(
        self, measurement: str, series: Sequence[int], times: Sequence[int], columns: Mapping[str, Sequence[Any]]
    ) -> None:
        """Take rows by columns, times increasing for each series."""
        places = dict(zip(series, range(len(series)), strict=True))  # of each series the last row
        gaps = [name for name, column in columns.items() if None in column]
        earlier = _earlier(series, times, columns, places, gaps) if gaps and len(places) < len(series) else {}
        if len(places) < len(series):  # keep alive only what is needed
            kept = list(places.values())
            times = [times[place] for place in kept]
            columns = {name: [column[place] for place in kept] for name, column in columns.items()}
            places = dict(zip(places, range(len(kept)), strict=True))
        known = self._entries.setdefault(measurement, {}).setdefault(tuple(columns), {})
        before = len(known)
        for number, place in places.items():
            entry = known.get(number)
            if entry is None and self._count + len(known) - before >= MAX_ENTRIES:
                self._full = True
            elif entry is None:
                known[number] = (times[place], columns, place, earlier.get(number, _NOTHING))
            elif times[place] >= entry[0]:
                older = _older(entry, columns, place, gaps, earlier.get(number, _NOTHING)) if gaps else _NOTHING
                known[number] = (times[place], columns, place, older)
            else:
                late = {name: (times[place], column[place]) for name, column in columns.items()}
                known[number] = _with_late(entry, {**late, **earlier.get(number, _NOTHING)})
        self._count += len(known) - before

    def forget_before(self, moment: int, now: int) -> None:
        """Drop what is older: a series that is silent for so long has no last value worth the memory."""
        for shapes in self._entries.values():
            for names, known in list(shapes.items()):
                old = [number for number, entry in known.items() if entry[0] < moment]
                for number in old:
                    del known[number]
                self._count -= len(old)
                if not known:
                    del shapes[names]
        if self._full and self._count < MAX_ENTRIES // 2:
            self._full, self._since = False, now  # what was refused came before now
        elif self._since is not None:
            self._since = max(self._since, moment)

    def newest(self, measurement: str, fields: Sequence[str]) -> dict[int, dict[str, Value]]:
        """Give for each series the newest value of each of these fields, with its time; absent fields left out."""
        result: dict[int, dict[str, Value]] = {}
        for names, known in list(self._entries.get(measurement, {}).items()):
            wanted = [field for field in fields if field in names]
            if not wanted:
                continue
            for number, entry in list(known.items()):
                values = result.setdefault(number, {})
                for field in wanted:
                    found = _value(entry, field)
                    if found is not None and (field not in values or values[field][0] <= found[0]):
                        values[field] = found
        return result


def _value(entry: _Entry, field: str) -> Value | None:
    value = entry[1][field][entry[2]]
    if _absent(value):
        return entry[3].get(field)
    return entry[0], value


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def _earlier(
    series: Sequence[int],
    times: Sequence[int],
    columns: Mapping[str, Sequence[Any]],
    places: Mapping[int, int],
    gaps: Sequence[str],
) -> dict[int, dict[str, Value]]:
    """Give, of each series, what its earlier rows say of fields that are absent in its last one."""
    earlier: dict[int, dict[str, Value]] = {}
    for field in gaps:
        column = columns[field]
        for number, place in places.items():
            if column[place] is None:
                own = (row for row in range(place - 1, -1, -1) if series[row] == number)
                found = next((row for row in own if column[row] is not None), None)
                if found is not None:
                    earlier.setdefault(number, {})[field] = (times[found], column[found])
    return earlier


def _older(
    entry: _Entry,
    columns: Mapping[str, Sequence[Any]],
    place: int,
    gaps: Sequence[str],
    earlier: Mapping[str, Value],
) -> Mapping[str, Value]:
    """Give what is known of fields that are absent in the new row, by rows before it."""
    older = {}
    for field in gaps:
        if columns[field][place] is None:
            found = _newer(earlier.get(field), _value(entry, field))
            if found is not None:
                older[field] = found
    return older or _NOTHING


def _with_late(entry: _Entry, late: Mapping[str, Value]) -> _Entry:
    """Give the entry with what late rows know of fields that are absent in the newest."""
    older = dict(entry[3])
    for field, value in late.items():
        if not _absent(value[1]) and entry[1][field][entry[2]] is None:
            newest = _newer(older.get(field), value)
            if newest is not None:
                older[field] = newest
    return (*entry[:3], older or _NOTHING)


def _newer(one: Value | None, other: Value | None) -> Value | None:
    if one is None or other is None:
        return one or other
    return one if one[0] >= other[0] else other

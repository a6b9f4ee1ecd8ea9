"""The newest value of every field of every series, in memory: what `top`, the page and `last` queries ask each second.

Kept by block, not by value: what a publisher sends next for the same series and fields replaces the block before, and
only where something is absent is a value carried over. So noting costs a few microseconds a block. The memory is an
accelerator: `covers` says from which moment on it knows everything; before that, the store itself is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import isnan
from operator import itemgetter
from typing import Any, Final

import msgspec

from schemas.batch import Block

MAX_ROWS: Final = 500_000
"""Newest rows kept; beyond them the store answers."""

Noted = tuple[Sequence[int], Sequence[int], Block, AbstractSet[str]]
"""A block that was committed: the series and the time of each of its rows, its columns, and fields without a gap."""
Value = tuple[int, Any]
"""Time in nanoseconds, and value."""

_Columns = Mapping[str, Sequence[Any]]


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """The newest values of series that come together: one row each.

    Tuples of plain values, in a struct outside the garbage collector: there may be very many, and it need not look.
    """

    newest: int
    """The time of the newest row."""
    oldest: int
    """The time of the oldest row."""
    columns: tuple[tuple[Any, ...], ...]
    """By field, in the order of the fields' names; a None is a value never known."""
    moments: tuple[tuple[int, ...], ...]
    """Likewise the time of each value."""


class LastValues:
    """Newest values. One thread notes, any thread asks."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[tuple[str, ...], dict[tuple[int, ...], _Kept]]] = {}
        """By measurement, fields, and series of the rows."""
        self._rows = 0
        self._since: int | None = None
        self._full = False

    def __len__(self) -> int:
        """Give how many rows are kept."""
        return self._rows

    def begin(self, since: int) -> None:
        """Say from which moment on everything is known: what is older has not been shown to this object."""
        self._since = since

    def covers(self, since: int) -> bool:
        """Tell whether everything from `since` on is known."""
        return self._since is not None and not self._full and since >= self._since

    def note(self, noted: Iterable[Noted]) -> None:
        """Take blocks that are committed. Late rows do not displace newer ones."""
        for series, times, block, gapless in noted:
            columns: dict[str, Sequence[Any]] = {**block.floats, **block.ints, **block.bools, **block.strings}
            self.put(block.measurement, series, times, columns, gapless)

    def put(
        self,
        measurement: str,
        series: Sequence[int],
        times: Sequence[int],
        columns: _Columns,
        gapless: AbstractSet[str] = frozenset(),
    ) -> None:
        """Take rows by columns, times increasing for each series. No value of a field in `gapless` is absent."""
        key = tuple(series)
        if len(set(key)) < len(key):
            rows = dict(zip(key, range(len(key)), strict=True))  # of each series the last row
            fresh = _last_rows(key, times, columns, list(rows.values()), gapless)
            key = tuple(rows)
        else:
            own = tuple(times)
            fresh = _Kept(max(own), min(own), tuple(map(tuple, columns.values())), (own,) * len(columns))
        names = tuple(columns)
        shapes = self._kept.get(measurement)
        if shapes is None:
            shapes = self._kept[measurement] = {}
        kept = shapes.get(names)
        if kept is None:
            kept = shapes[names] = {}
        before = kept.get(key)
        if before is None:
            if self._rows + len(key) > MAX_ROWS:
                self._full = True
                return
            self._rows += len(key)
            kept[key] = fresh
        elif fresh.oldest >= before.newest:
            kept[key] = _carried(before, fresh, names, gapless)
        else:
            kept[key] = _merged(before, fresh)

    def forget_before(self, moment: int, now: int) -> None:
        """Drop what is older: a series that is silent for so long has no last value worth the memory."""
        for shapes in self._kept.values():
            for names, kept in list(shapes.items()):
                for key in [key for key, one in kept.items() if one.newest < moment]:
                    del kept[key]
                    self._rows -= len(key)
                if not kept:
                    del shapes[names]
        if self._full and self._rows < MAX_ROWS // 2:
            self._full, self._since = False, now  # what was refused came before now
        elif self._since is not None:
            self._since = max(self._since, moment)

    def newest(self, measurement: str, fields: Sequence[str]) -> dict[int, dict[str, Value]]:
        """Give for each series the newest value of each of these fields, with its time; absent fields left out."""
        result: dict[int, dict[str, Value]] = {}
        for names, kept in list(self._kept.get(measurement, {}).items()):
            wanted = [(field, names.index(field)) for field in fields if field in names]
            for series, one in list(kept.items()) if wanted else ():
                for field, place in wanted:
                    for number, time, value in zip(series, one.moments[place], one.columns[place], strict=True):
                        if _is_absent(value):
                            continue
                        values = result.setdefault(number, {})
                        if field not in values or values[field][0] <= time:
                            values[field] = (time, value)
        return result


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def _last_rows(
    series: Sequence[int], times: Sequence[int], columns: _Columns, last: Sequence[int], gapless: AbstractSet[str]
) -> _Kept:
    """Keep only the last row of each series; where that lacks a value, take an earlier row's."""
    pick = itemgetter(*last) if len(last) > 1 else lambda column: (column[last[0]],)
    own: tuple[int, ...] = pick(times)
    values: list[tuple[Any, ...]] = []
    moments: list[tuple[int, ...]] = []
    rows: dict[int, list[int]] = {}
    for name, column in columns.items():
        picked, moment = pick(column), own
        gaps = [] if name in gapless else [place for place, value in enumerate(picked) if value is None]
        if gaps:
            rows = rows or _rows_of(series)
            found = list(last)
            for place in gaps:
                known = (row for row in reversed(rows[series[last[place]]]) if column[row] is not None)
                found[place] = next(known, last[place])
            picked, moment = tuple([column[row] for row in found]), tuple([times[row] for row in found])
        values.append(picked)
        moments.append(moment)
    return _Kept(max(own), min(own), tuple(values), tuple(moments))


def _rows_of(series: Sequence[int]) -> dict[int, list[int]]:
    """Give the rows of each series, in order."""
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(series):
        rows.setdefault(number, []).append(row)
    return rows


def _carried(before: _Kept, fresh: _Kept, names: Sequence[str], gapless: AbstractSet[str]) -> _Kept:
    """Give the newer of two, with older values where it has none."""
    changed: dict[int, list[int]] = {}
    for place, column in enumerate(fresh.columns):
        if names[place] not in gapless:
            known = before.columns[place]
            rows = [row for row, value in enumerate(column) if value is None and known[row] is not None]
            if rows:
                changed[place] = rows
    if not changed:
        return fresh
    columns, moments = list(fresh.columns), list(fresh.moments)
    for place, rows in changed.items():
        values, times = list(columns[place]), list(moments[place])
        for row in rows:
            values[row], times[row] = before.columns[place][row], before.moments[place][row]
        columns[place], moments[place] = tuple(values), tuple(times)
    return _Kept(fresh.newest, fresh.oldest, tuple(columns), tuple(moments))


def _merged(before: _Kept, late: _Kept) -> _Kept:
    """Give of two that overlap in time the newer value of each cell."""
    columns, moments = [], []
    for place, column in enumerate(before.columns):
        cells = [
            (then, value) if fresh is None or (value is not None and then > now) else (now, fresh)
            for then, value, now, fresh in zip(
                before.moments[place], column, late.moments[place], late.columns[place], strict=True
            )
        ]
        moments.append(tuple([moment for moment, _ in cells]))
        columns.append(tuple([value for _, value in cells]))
    newest, oldest = max(before.newest, late.newest), max(before.oldest, late.oldest)
    return _Kept(newest, oldest, tuple(columns), tuple(moments))

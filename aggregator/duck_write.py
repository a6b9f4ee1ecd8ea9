# ruff: noqa: S608  # names of tables and columns have passed schemas.metrics.NAME, and are quoted
"""The embedded store's write path: the columns of many batches, joined by measurement, into Arrow and into DuckDB.

Nothing here is done per value in Python: columns are extended by columns, and arro3 and DuckDB do the rest. Explicit
Arrow types keep values what they are; NaN, which means "not reported", becomes absent.

Source: measured on DuckDB 2.0 with arro3-core 0.9; Arrow C stream interface (arrow.apache.org).
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, repeat
from math import isnan
from typing import Any, Final

import msgspec
from arro3.core import Array, DataType
from arro3.core import Table as ArrowTable
from duckdb import DuckDBPyConnection

from aggregator.duck_connection import quoted
from aggregator.duck_schema import Draft, Fit, Shape, Stored, Table, Values, converted
from aggregator.last_values import Noted
from aggregator.series_index import Fresh, SeriesIndex
from schemas.batch import Block
from schemas.verbosity import RowClass

_ARROW: Final = {
    Stored.DOUBLE: DataType.float64(),
    Stored.BIGINT: DataType.int64(),
    Stored.BOOLEAN: DataType.bool(),
    Stored.VARCHAR: DataType.string(),
}
_INT32: Final = DataType.int32()
_INT64: Final = DataType.int64()
_STRING: Final = DataType.string()


class Columns:
    """The rows of one measurement in one transaction, by columns."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.series: list[int] = []
        self.times: list[int] = []
        self.gapless: set[str] = set()
        """The fields of which, once built, no value is absent in any row."""
        self._fields: dict[str, list[Any]] = {}
        self._targets: list[list[Any]] = []
        """The columns in the order of the shape, while every block has the same."""
        self._arrays: dict[str, Array] = {}
        self._shape: Shape | None = None
        """The shape of every block so far; None when they differ."""

    def add(self, block: Block, numbers: Sequence[int], shape: Shape, fit: Fit) -> Noted:
        """Append a block whose keys have these series numbers; give what it says of the last values."""
        before = len(self.times)
        times = list(accumulate(block.steps, initial=block.start))
        del times[0]  # the first step is 0: the first two are the same
        self.times += times
        series = list(map(numbers.__getitem__, block.rows))
        self.series += series
        if fit.casts or (before and shape != self._shape):
            self._shape = None  # from now on columns may be of different lengths
        elif not before:
            self._shape = shape
            self._fields = {name: [] for names in shape[1:] for name in names}
            self._targets = list(self._fields.values())
        if self._shape is None:
            self._add_unlike(block, before, fit)
        else:
            groups = (block.floats.values(), block.ints.values(), block.bools.values(), block.strings.values())
            columns: Iterable[Values] = chain(*groups)
            for column, values in zip(self._targets, columns, strict=True):
                column.extend(values)
        return series, times, block, self.gapless

    def _add_unlike(self, block: Block, before: int, fit: Fit) -> None:
        casts = {name: (wire, stored) for name, wire, stored in fit.casts}
        for group in (block.floats, block.ints, block.bools, block.strings):
            values: Values
            for name, values in group.items():
                column = self._fields.setdefault(name, [])
                if len(column) < before:
                    column.extend(repeat(None, before - len(column)))
                column += converted(values, *casts[name]) if name in casts else values

    def build(self) -> list[str]:
        """Make Arrow columns; give those of 64 bits that hold a whole number beyond them, and are left for later."""
        too_wide = []
        for name, values in self._fields.items():
            if len(values) < len(self.times):
                values.extend(repeat(None, len(self.times) - len(values)))
            try:
                array = self._arrays[name] = _array(values, self.table.columns[name])
            except OverflowError:
                too_wide.append(name)
                continue
            if not array.null_count:
                self.gapless.add(name)
        return too_wide

    def arrow(self) -> ArrowTable:
        """Give the rows as an Arrow table with the table's own types, columns that nothing came for left out."""
        data: dict[str, Any] = {
            "_series": Array(self.series, type=_INT32),
            "_time": Array(self.times, type=_INT64),
        }
        for name, values in self._fields.items():
            data[name] = self._arrays[name] if name in self._arrays else _array(values, self.table.columns[name])
        return ArrowTable(data)


class Prepared(msgspec.Struct):
    """Everything of one transaction's rows that can be worked out before it begins."""

    draft: Draft
    tables: dict[str, ArrowTable]
    noted: list[Noted]
    """The telemetry, for the last values."""
    rows: int
    values: int


def prepare(draft: Draft, index: SeriesIndex) -> Prepared:
    """Join the batches that were admitted by measurement, number their series, and make Arrow tables of them."""
    columns: dict[str, Columns] = {}
    noted: list[Noted] = []
    values = 0
    for batch, fitted in draft.admitted:
        newest = batch.row_class is RowClass.TELEMETRY
        for block, shape, fit in fitted:
            name = block.measurement
            into = columns.get(name)
            if into is None:
                into = columns[name] = Columns(draft.table(name))
            known = into.add(block, index.numbers(batch.publisher, block), shape, fit)
            values += (len(block.floats) + len(block.ints) + len(block.bools) + len(block.strings)) * len(block.rows)
            if newest:
                noted.append(known)
    for name, into in columns.items():
        for field in into.build():
            draft.grow(name, field)
        into.table = draft.table(name)
    arrow = {name: into.arrow() for name, into in columns.items()}
    return Prepared(draft, arrow, noted, sum(len(into.times) for into in columns.values()), values)


def insert(writer: DuckDBPyConnection, prepared: Prepared, fresh: Sequence[Fresh]) -> None:
    """Write what was prepared, inside the transaction that is open. Tables are changed before rows go in."""
    for statement in prepared.draft.statements():
        writer.execute(statement)
    if prepared.draft.changed:
        _insert_declarations(writer, prepared.draft)
    if fresh:
        _insert_series(writer, fresh)
    for name, table in prepared.tables.items():
        insert_arrow(writer, name, table)


def insert_arrow(writer: DuckDBPyConnection, name: str, table: ArrowTable) -> None:
    """Insert an Arrow table's columns by name; the table's other columns are absent in these rows."""
    _blk = table  # DuckDB finds it by this name, in this frame
    writer.execute(f"INSERT INTO {quoted(name)} BY NAME SELECT * FROM _blk")


def strings(values: Sequence[str | None]) -> Array:
    """Give texts as an Arrow column."""
    return Array(values, type=_STRING)


def numbers(values: Sequence[int | None]) -> Array:
    """Give whole numbers of 64 bits as an Arrow column."""
    return Array(values, type=_INT64)


def _insert_declarations(writer: DuckDBPyConnection, draft: Draft) -> None:
    tables = draft.new_tables()
    if tables:
        names, classes = zip(*tables, strict=True)
        insert_arrow(writer, "_measurements", ArrowTable({"measurement": strings(names), "class": numbers(classes)}))
    fields = draft.new_fields()
    if fields:
        names, own, types, levels = zip(*fields, strict=True)
        columns: dict[str, Any] = {"measurement": strings(names), "field": strings(own), "type": strings(types)}
        insert_arrow(writer, "_fields", ArrowTable({**columns, "level": numbers(levels)}))


def _insert_series(writer: DuckDBPyConnection, fresh: Sequence[Fresh]) -> None:
    insert_arrow(
        writer,
        "_series",
        ArrowTable(
            {
                "id": Array([one.id for one in fresh], type=_INT32),
                "measurement": strings([one.group.measurement for one in fresh]),
                "publisher": strings([one.group.publisher for one in fresh]),
                "subject": strings([one.group.subject for one in fresh]),
                "device": strings([one.key[0] for one in fresh]),
                "attributes": strings([one.attributes for one in fresh]),
            }
        ),
    )


def _array(values: list[Any], stored: Stored) -> Array:
    if stored is Stored.HUGEINT:  # Arrow has no such integers; DuckDB reads them from text as they are
        return strings([None if value is None else str(value) for value in values])
    array = Array(values, type=_ARROW[stored])
    if stored is Stored.DOUBLE:
        # one pass in C finds whether any is NaN
        total = sum(filter(None, values)) if array.null_count else sum(values)
        if isnan(total):
            return Array([None if value is None or isnan(value) else value for value in values], type=_ARROW[stored])
    return array

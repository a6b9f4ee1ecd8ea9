"""The embedded store's tables: one wide table a measurement, how its columns get their types, and what does not fit.

A column's type is the declared one, else that of the first value on the wire. It changes once at most: whole numbers
grow from 64 to 128 bits when a value needs it. Rows never change to fit a column; a batch that does not is refused
whole, with the reason.

Names of our own tables and columns begin with `_`; measurements and fields cannot.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import chain
from math import isnan
from typing import Final

import msgspec

from aggregator.duck_connection import quoted
from aggregator.store import Rows
from schemas.batch import Block
from schemas.metrics import RESERVED, Catalogue, ValueType
from schemas.rows import CAPABILITY_METRICS, EVENT_METRICS, LOG_METRICS
from schemas.verbosity import Level, RowClass

MAX_MEASUREMENTS: Final = 2_000
"""Tables; no fleet has that many, a runaway publisher might."""
MAX_FIELDS: Final = 1_024
"""Columns of one table."""
_MAX_SHAPES: Final = 1_000
"""Shapes of blocks remembered for one table."""
_INT64: Final = (-(1 << 63), (1 << 63) - 1)
_UINT64_MAX: Final = (1 << 64) - 1

Values = list[float | None] | list[int | None] | list[bool | None] | list[str | None]
"""One column of a block."""


class Stored(Enum):
    """The type of a column on disk. The value is SQL, and is kept in `_fields`."""

    DOUBLE = "DOUBLE"
    BIGINT = "BIGINT"
    HUGEINT = "HUGEINT"
    BOOLEAN = "BOOLEAN"
    VARCHAR = "VARCHAR"

    @property
    def value_type(self) -> ValueType:
        """The type as people know it."""
        return _VALUE_TYPE[self]


_VALUE_TYPE: Final = {
    Stored.DOUBLE: ValueType.FLOAT,
    Stored.BIGINT: ValueType.INT,
    Stored.HUGEINT: ValueType.INT,
    Stored.BOOLEAN: ValueType.BOOL,
    Stored.VARCHAR: ValueType.STR,
}
STORED: Final = {
    ValueType.FLOAT: Stored.DOUBLE,
    ValueType.INT: Stored.BIGINT,
    ValueType.BOOL: Stored.BOOLEAN,
    ValueType.STR: Stored.VARCHAR,
}
_THINGS: Final = {
    Stored.DOUBLE: "numbers",
    Stored.BIGINT: "whole numbers",
    Stored.HUGEINT: "whole numbers",
    Stored.BOOLEAN: "true and false",
    Stored.VARCHAR: "texts",
}

Shape = tuple[tuple[str, ...], ...]
"""What a block has: attributes, then floats, ints, bools and strings, by name."""


class Fit(msgspec.Struct, frozen=True):
    """How blocks of one shape go into their table."""

    casts: tuple[tuple[str, ValueType, Stored], ...] = ()
    """Columns whose wire type is not the stored one: field, wire type, stored type."""


Fitted = tuple[Block, Shape, Fit]
"""A block that was admitted, and how it goes into its table: columns never change their types within a transaction."""


class Table(msgspec.Struct):
    """One measurement's table, as of some commit. Never changed once others see it; `Draft` makes the next one."""

    measurement: str
    row_class: RowClass
    """The class of its first rows: retention goes by it."""
    columns: dict[str, Stored] = {}
    levels: dict[str, Level] = {}
    """By field, the level at which it was first seen."""
    attributes: set[str] = set()
    fits: dict[Shape, Fit] = {}
    """Shapes of blocks known to fit: a cache."""

    def copy(self) -> "Table":
        """Give a table of the same content that changes on its own, its cache empty."""
        return Table(self.measurement, self.row_class, dict(self.columns), dict(self.levels), set(self.attributes), {})


def with_built_in(catalogue: Catalogue) -> Catalogue:
    """Give the declarations, and with them those of logs, events and capability documents."""
    specs = (spec for name in catalogue.measurements() for spec in catalogue.fields(name).values())
    return Catalogue(chain(LOG_METRICS, EVENT_METRICS, CAPABILITY_METRICS, specs))


def shape_of(block: Block) -> Shape:
    """Give what decides whether a block fits, but for its values."""
    return (
        tuple(block.attributes),
        tuple(block.floats),
        tuple(block.ints),
        tuple(block.bools),
        tuple(block.strings),
    )


class Draft:
    """The tables as they will be once the transaction being prepared is committed.

    `admit` takes batches one after the other, in order; what one batch brings, the next must fit.
    """

    def __init__(self, tables: Mapping[str, Table], catalogue: Catalogue) -> None:
        self._committed = tables
        self._catalogue = catalogue
        self.admitted: list[tuple[Rows, list[Fitted]]] = []
        """The batches that were taken, in order."""
        self.changed: dict[str, Table] = {}
        """Tables that are new, or have new columns, types or attributes."""

    def table(self, measurement: str) -> Table:
        """The table of a measurement that was admitted."""
        return self.changed.get(measurement) or self._committed[measurement]

    def admit(self, rows: Rows) -> str:
        """Take one batch; give "", or why it can never be stored, and then nothing of it is taken."""
        trial: dict[str, Table] = {}
        fitted: list[Fitted] = []
        for block in rows.blocks:
            name = block.measurement
            table = trial.get(name) or self.changed.get(name) or self._committed.get(name)
            shape = shape_of(block)
            fit = table.fits.get(shape) if table is not None else None
            if fit is None:
                if table is None and len(self._committed) + len(self.changed) >= MAX_MEASUREMENTS:
                    return f"{name}: there are {MAX_MEASUREMENTS} measurements already"
                fresh = table.copy() if table is not None else self._new(name, rows.row_class)
                reason = self._widen(fresh, block, rows.level)
                if reason:
                    return reason
                fit = _fit(fresh, block)
                if table is None or fresh.columns != table.columns or fresh.attributes != table.attributes:
                    table = trial[name] = fresh
                if not _misfit(block, fit):
                    _remember(table, shape, fit)
            if fit.casts and (reason := _misfit(block, fit)):
                return reason
            fitted.append((block, shape, fit))
        self.changed.update(trial)
        self.admitted.append((rows, fitted))
        return ""

    def grow(self, measurement: str, field: str) -> None:
        """Make a column of whole numbers 128 bits wide."""
        table = self.table(measurement).copy()
        table.columns[field] = Stored.HUGEINT
        self.changed[measurement] = table

    def statements(self) -> Iterable[str]:
        """Give the SQL that makes the committed tables into these."""
        for name, table in self.changed.items():
            before = self._committed.get(name)
            if before is None:
                columns = "".join(f", {quoted(field)} {stored.value}" for field, stored in table.columns.items())
                yield f"CREATE TABLE {quoted(name)} (_series INTEGER NOT NULL, _time BIGINT NOT NULL{columns})"
                continue
            for field, stored in table.columns.items():
                if field not in before.columns:
                    yield f"ALTER TABLE {quoted(name)} ADD COLUMN {quoted(field)} {stored.value}"
                elif before.columns[field] is not stored:
                    yield f"ALTER TABLE {quoted(name)} ALTER COLUMN {quoted(field)} TYPE {stored.value}"

    def new_tables(self) -> list[tuple[str, int]]:
        """Give what `_measurements` is to learn: measurement and class."""
        changed = self.changed.items()
        return [(name, int(table.row_class)) for name, table in changed if name not in self._committed]

    def new_fields(self) -> list[tuple[str, str, str, int]]:
        """Give what `_fields` is to learn: measurement, field, type, level. Of two rows of a field the later holds."""
        found = []
        for name, table in self.changed.items():
            before = self._committed.get(name)
            for field, stored in table.columns.items():
                if before is None or before.columns.get(field) is not stored:
                    found.append((name, field, stored.value, int(table.levels[field])))
        return found

    def _new(self, measurement: str, row_class: RowClass) -> Table:
        table = Table(measurement, row_class, attributes=set(self._catalogue.attributes(measurement)))
        for field, spec in self._catalogue.fields(measurement).items():
            table.columns[field] = STORED[spec.type]
            table.levels[field] = spec.level
        return table

    def _widen(self, table: Table, block: Block, level: Level) -> str:
        """Give the table the columns and attributes that the block brings; or say why it cannot have them."""
        for attribute in block.attributes:
            if attribute in RESERVED or attribute in table.columns:
                return f"{block.measurement}.{attribute}: an attribute cannot have this name; it is taken"
            table.attributes.add(attribute)
        for wire, name, _ in _columns(block):
            if name in RESERVED or name in table.attributes:
                return f"{block.measurement}.{name}: a field cannot have this name; it is taken"
            if name not in table.columns:
                spec = self._catalogue.get(block.measurement, name)
                table.columns[name] = STORED[spec.type if spec is not None else wire]
                table.levels[name] = spec.level if spec is not None else level
        if len(table.columns) > MAX_FIELDS:
            return f"{block.measurement}: more than {MAX_FIELDS} fields"
        return ""


def converted(values: Values, wire: ValueType, stored: Stored) -> list[object]:
    """Give the values of a column whose wire type is not the stored one. `misfit` has found nothing to say."""
    if wire is ValueType.FLOAT and stored in (Stored.BIGINT, Stored.HUGEINT):
        return [None if value is None or isnan(float(value)) else int(value) for value in values]
    if wire is ValueType.INT and stored is Stored.DOUBLE:
        return [None if value is None else float(value) for value in values]
    return [None] * len(values)  # nothing but absent values fits any type


def _columns(block: Block) -> Iterable[tuple[ValueType, str, Values]]:
    for name, floats in block.floats.items():
        yield ValueType.FLOAT, name, floats
    for name, ints in block.ints.items():
        yield ValueType.INT, name, ints
    for name, bools in block.bools.items():
        yield ValueType.BOOL, name, bools
    for name, strings in block.strings.items():
        yield ValueType.STR, name, strings


def _fit(table: Table, block: Block) -> Fit:
    return Fit(
        tuple(
            (name, wire, table.columns[name])
            for wire, name, _ in _columns(block)
            if table.columns[name].value_type is not wire
        )
    )


def _remember(table: Table, shape: Shape, fit: Fit) -> None:
    if len(table.fits) >= _MAX_SHAPES:  # somebody sends every order of many names
        table.fits.clear()
    table.fits[shape] = fit


def _misfit(block: Block, fit: Fit) -> str:
    """Give "" when the values of the columns that need a conversion survive it unaltered, else which does not."""
    for name, wire, stored in fit.casts:
        column: Values = _group(block, wire)[name]
        for value in column:
            if value is not None and not _survives(value, wire, stored):
                return f"{block.measurement}.{name}: {_shown(value)} in a column of {_THINGS[stored]}"
    return ""


def _group(block: Block, wire: ValueType) -> Mapping[str, Values]:
    groups: dict[ValueType, Mapping[str, Values]] = {
        ValueType.FLOAT: block.floats,
        ValueType.INT: block.ints,
        ValueType.BOOL: block.bools,
        ValueType.STR: block.strings,
    }
    return groups[wire]


def _survives(value: float | bool | str, wire: ValueType, stored: Stored) -> bool:
    if isinstance(value, str) or wire is ValueType.BOOL:
        return False
    if isinstance(value, float):
        if isnan(value):  # NaN is absent in every column
            return stored in (Stored.BIGINT, Stored.HUGEINT)
        whole = stored in (Stored.BIGINT, Stored.HUGEINT) and value.is_integer()
        return whole and _INT64[0] <= value <= _UINT64_MAX
    return stored is Stored.DOUBLE and int(float(value)) == value


def _shown(value: float | bool | str) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""What is declared of measurements, and the tables that grow into blocks."""

import sys
from collections.abc import Iterable
from typing import Any, Final

from schemas.batch import Block
from schemas.metrics import MetricSpec, ValueType
from schemas.rows import FieldValue
from schemas.verbosity import Level

_Column = list[FieldValue]
_AS_IT_IS: Final[dict[ValueType, tuple[type, Any, Any]]] = {
    ValueType.FLOAT: (float, -sys.float_info.max, sys.float_info.max),
    ValueType.INT: (int, -(1 << 63), (1 << 64) - 1),
    ValueType.BOOL: (bool, False, True),
    ValueType.STR: (type(None), None, None),  # each is looked into
}
"""By the type of a column, the class of nearly all values, and the least and most that it holds as it is."""


class Shape:
    """What is declared of one measurement."""

    __slots__ = ("attributes", "fields", "usual")

    def __init__(self, attributes: tuple[str, ...]) -> None:
        self.attributes = attributes
        self.fields: dict[str, tuple[Level, ValueType]] = {}
        self.usual: dict[str, tuple[Level, ValueType, type, Any, Any]] = {}
        """By field, its level and type; values of the class that follows, between the last two, need no conversion."""


def shapes_of(metrics: Iterable[MetricSpec]) -> dict[str, Shape]:
    """Give the shapes of all measurements that are declared."""
    shapes: dict[str, Shape] = {}
    for spec in metrics:
        shape = shapes.setdefault(spec.measurement, Shape(spec.attributes))
        shape.fields[spec.field] = (spec.level, spec.type)
        shape.usual[spec.field] = (spec.level, spec.type, *_AS_IT_IS[spec.type])
    return shapes


class Table:
    """A block in the making: one class, level, measurement and subject."""

    __slots__ = ("_latest", "_names", "columns", "end", "keys", "rows", "start", "steps")

    def __init__(self) -> None:
        self.keys: dict[tuple[str, ...], int] = {}
        self.rows: list[int] = []
        self.steps: list[int] = []
        self.columns: dict[str, _Column] = {}
        self.start = 0
        self.end = 0
        self._names: list[str] = []
        """The fields of the last row, and their columns, which end with that row: the next one has mostly the same."""
        self._latest: list[_Column] = []

    def add(self, key: tuple[str, ...], stamp: int, names: list[str], values: list[FieldValue]) -> None:
        """Add a row: whose it is, when (ns since 1970, later than the row before), and its fields, each once."""
        count = len(self.rows)
        if count:
            self.steps.append(stamp - self.end)
        else:
            self.start = stamp
            self.steps.append(0)
        self.end = stamp
        self.rows.append(self.keys.setdefault(key, len(self.keys)))
        if names != self._names:
            self._names, self._latest = names, [self._column(name, count) for name in names]
        for column, value in zip(self._latest, values, strict=True):
            column.append(value)

    def _column(self, name: str, count: int) -> _Column:
        """Give a column, filled up to `count` rows."""
        column = self.columns.setdefault(name, [])
        column.extend([None] * (count - len(column)))
        return column

    def block(self, measurement: str, subject: str, shape: Shape) -> Block:
        """Give the block; the table is of no more use."""
        count = len(self.rows)
        typed: dict[ValueType, dict[str, _Column]] = {kind: {} for kind in ValueType}
        for name, column in self.columns.items():
            column.extend([None] * (count - len(column)))
            typed[shape.fields[name][1]][name] = column
        return Block(
            measurement=measurement,
            subject=subject,
            attributes=list(shape.attributes),
            keys=[list(key) for key in self.keys],
            rows=self.rows,
            start=self.start,
            steps=self.steps,
            floats=typed[ValueType.FLOAT],  # type: ignore[arg-type]  # every cell went through CONVERT
            ints=typed[ValueType.INT],  # type: ignore[arg-type]
            bools=typed[ValueType.BOOL],  # type: ignore[arg-type]
            strings=typed[ValueType.STR],  # type: ignore[arg-type]
        )

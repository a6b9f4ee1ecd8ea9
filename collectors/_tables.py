"""What is declared of measurements, and the tables that grow into blocks."""

from collections.abc import Iterable

from schemas.batch import Block
from schemas.metrics import MetricSpec, ValueType
from schemas.rows import FieldValue
from schemas.verbosity import Level

_Column = list[FieldValue]


class Shape:
    """What is declared of one measurement."""

    __slots__ = ("attributes", "fields")

    def __init__(self, attributes: tuple[str, ...]) -> None:
        self.attributes = attributes
        self.fields: dict[str, tuple[Level, ValueType]] = {}


def shapes_of(metrics: Iterable[MetricSpec]) -> dict[str, Shape]:
    """Give the shapes of all measurements that are declared."""
    shapes: dict[str, Shape] = {}
    for spec in metrics:
        shape = shapes.setdefault(spec.measurement, Shape(spec.attributes))
        shape.fields[spec.field] = (spec.level, spec.type)
    return shapes


class Table:
    """A block in the making: one class, level, measurement and subject."""

    __slots__ = ("columns", "end", "keys", "rows", "start", "steps")

    def __init__(self) -> None:
        self.keys: dict[tuple[str, ...], int] = {}
        self.rows: list[int] = []
        self.steps: list[int] = []
        self.columns: dict[str, _Column] = {}
        self.start = 0
        self.end = 0

    def add(self, key: tuple[str, ...], stamp: int, cells: list[tuple[str, FieldValue]]) -> None:
        """Add a row: whose it is, when (ns since 1970, later than the row before), and its fields."""
        count = len(self.rows)
        if count:
            self.steps.append(stamp - self.end)
        else:
            self.start = stamp
            self.steps.append(0)
        self.end = stamp
        self.rows.append(self.keys.setdefault(key, len(self.keys)))
        for name, value in cells:
            column = self.columns.get(name)
            if column is None:
                column = self.columns[name] = [None] * count
            elif len(column) < count:
                column.extend([None] * (count - len(column)))
            column.append(value)

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

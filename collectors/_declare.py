"""Declare the metrics of one measurement without saying the same thing at every line."""

from collections.abc import Sequence
from typing import Final

from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level

_SUFFIXES: Final = tuple((unit.value, unit) for unit in Unit if unit.value.strip())
_WHOLE: Final = frozenset({Unit.BYTES, Unit.BYTES_PER_SECOND, Unit.COUNT})


class Declare:
    """A measurement whose metrics are declared one by one: unit and type follow from the field's name.

    Bytes, bytes per second and counts are whole numbers, every other unit is a float.
    """

    def __init__(
        self,
        measurement: str,
        source: str,
        category: Category = Category.USAGE,
        attributes: Sequence[str] = (),
        level: Level = Level.STANDARD,
    ) -> None:
        self._measurement = measurement
        self._source = source
        self._category = category
        self._attributes = tuple(attributes)
        self._level = level

    def gauge(
        self,
        field: str,
        meaning: str,
        level: Level | None = None,
        category: Category | None = None,
        column: ValueType | None = None,
    ) -> MetricSpec:
        """Declare a number that goes up and down."""
        return self._spec(field, meaning, Kind.GAUGE, level, category, column)

    def counter(
        self, field: str, meaning: str, level: Level | None = None, category: Category | None = None
    ) -> MetricSpec:
        """Declare a number that only grows; the field ends in `_total`."""
        return self._spec(field, meaning, Kind.COUNTER, level, category)

    def flag(
        self, field: str, meaning: str, level: Level | None = None, category: Category | None = None
    ) -> MetricSpec:
        """Declare a state that is true or false."""
        return self._spec(field, meaning, Kind.STATE, level, category, ValueType.BOOL)

    def text(
        self, field: str, meaning: str, level: Level | None = None, category: Category | None = None
    ) -> MetricSpec:
        """Declare words for people."""
        return self._spec(field, meaning, Kind.TEXT, level, category, ValueType.STR)

    def _spec(
        self,
        field: str,
        meaning: str,
        kind: Kind,
        level: Level | None,
        category: Category | None,
        column: ValueType | None = None,
    ) -> MetricSpec:
        unit = Unit.NONE if column in (ValueType.BOOL, ValueType.STR) else _unit_of(field)
        return MetricSpec(
            name=f"{self._measurement}.{field}",
            unit=unit,
            kind=kind,
            type=column or (ValueType.INT if unit in _WHOLE else ValueType.FLOAT),
            level=self._level if level is None else level,
            category=self._category if category is None else category,
            meaning=meaning,
            source=self._source,
            attributes=self._attributes,
        )


def _unit_of(field: str) -> Unit:
    stem = field.removesuffix("_total")
    best = Unit.COUNT
    for suffix, unit in _SUFFIXES:
        if (stem == suffix or stem.endswith("_" + suffix)) and len(suffix) > len(best.value):
            best = unit
    return best

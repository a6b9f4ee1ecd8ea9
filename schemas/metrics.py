"""Declarations: what a collector measures, in which unit, at which level. Everything people read is made from them.

A measurement is a small table (`cpu`, `memory`, `gpu`); a metric is one field of it, named `<measurement>.<field>`.
The unit is part of the field's name by construction, as Prometheus and OpenMetrics ask, so that a number can never
be read in the wrong unit: `cpu.usage_ratio`, `disk.read_bytes_total`.
"""

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from schemas.verbosity import Level


class Unit(Enum):
    """The closed list of units. The value is the suffix that the field's name must carry ("" for none)."""

    BYTES = "bytes"
    SECONDS = "seconds"
    WATTS = "watts"
    JOULES = "joules"
    CELSIUS = "celsius"
    HERTZ = "hertz"
    VOLTS = "volts"
    AMPERES = "amperes"
    RATIO = "ratio"
    """A share, 0 to 1."""
    BYTES_PER_SECOND = "bytes_per_second"
    REVOLUTIONS_PER_MINUTE = "rpm"
    """The one unit outside SI: every fan, BMC and person speaks it."""
    PASCALS = "pascals"
    CUBIC_METERS_PER_SECOND = "cubic_meters_per_second"
    COUNT = ""
    """A number of things; the name says which (`processes`, `packets_total`)."""
    NONE = " "
    """No number: a state or a text."""


class Kind(Enum):
    """How a value behaves in time."""

    GAUGE = "gauge"
    """May go up and down; an average makes sense."""
    COUNTER = "counter"
    """Only grows, until it is reset; a rate makes sense."""
    STATE = "state"
    """One of a few values; only its changes make sense."""
    TEXT = "text"
    """Words, for people."""


class ValueType(Enum):
    """The type of a column on the wire and in the store."""

    __hash__ = object.__hash__  # members are one of a kind; Enum's own is Python code, run for every value

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    STR = "str"


class Category(Enum):
    """The kind of telemetry, as the OPI charter divides it."""

    ENVIRONMENT = "environment"
    LOAD = "load"
    ERROR = "error"
    USAGE = "usage"


class Stability(Enum):
    """What a user may rely on."""

    STABLE = "stable"
    """Name, unit and meaning stay until the next major version."""
    BETA = "beta"
    """May change with a note in the changelog."""


NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
"""The form of measurement, field and attribute names, safe unquoted in SQL, line protocol and Prometheus."""

RESERVED: Final = frozenset({"time", "node", "device", "subject", "publisher", "class", "level"})
"""Names that every table has already, so that neither field nor attribute may take them."""


class MetricSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of one metric. Raises ValueError on a name that hides its unit or breaks the rules."""

    name: str
    """`<measurement>.<field>`; the field ends in its unit, and a counter after that in `_total`."""
    unit: Unit
    """The base unit; a vendor's unit is converted once, where it enters."""
    kind: Kind
    """How the value behaves in time."""
    type: ValueType
    """The type of the column."""
    level: Level
    """The verbosity from which on the value is sent."""
    category: Category
    """The kind of telemetry."""
    meaning: str
    """One sentence for people: what it tells, its range, what its absence means."""
    source: str
    """Where it is read: file, call or specification."""
    attributes: tuple[str, ...] = ()
    """What tells the rows of one device and measurement apart (`cpu`, `interface`); the same for all its metrics."""
    stability: Stability = Stability.STABLE
    """What a user may rely on."""

    def __post_init__(self) -> None:
        measurement, _, field = self.name.partition(".")
        columns = (field, *self.attributes)
        for part in (measurement, *columns):
            if not NAME.match(part) or (part in RESERVED and part in columns):
                raise ValueError(f"metric {self.name!r}: {part!r} is not a usable name")
        if len(set(columns)) != len(columns):
            raise ValueError(f"metric {self.name!r}: field and attributes have the same name")
        suffix = self.unit.value.strip()
        ending = "_total" if self.kind is Kind.COUNTER else ""
        stem = field.removesuffix("_total") if ending else field
        if ending and not field.endswith("_total"):
            raise ValueError(f"metric {self.name!r}: a counter's name ends in '_total'")
        if suffix and stem != suffix and not stem.endswith("_" + suffix):
            raise ValueError(f"metric {self.name!r}: the name must end in its unit, '{suffix}{ending}'")
        if ending and self.unit is Unit.NONE:
            raise ValueError(f"metric {self.name!r}: a counter is a number")
        if (self.unit is Unit.NONE) != (self.type in (ValueType.STR, ValueType.BOOL)):
            raise ValueError(f"metric {self.name!r}: texts and booleans have Unit.NONE, and numbers have a unit")

    @property
    def measurement(self) -> str:
        """The table that the metric is a column of."""
        return self.name.partition(".")[0]

    @property
    def field(self) -> str:
        """The column."""
        return self.name.partition(".")[2]


class Catalogue:
    """The declarations of many collectors, by measurement and field.

    Raises ValueError when two collectors declare one metric differently, or one measurement with other attributes.
    """

    def __init__(self, specs: Iterable[MetricSpec] = ()) -> None:
        self._measurements: dict[str, dict[str, MetricSpec]] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: MetricSpec) -> None:
        """Take one declaration; the same one twice does no harm."""
        fields = self._measurements.setdefault(spec.measurement, {})
        known = fields.get(spec.field)
        if known is not None and known != spec:
            raise ValueError(f"metric {spec.name!r} is declared twice, differently")
        for other in fields.values():
            if other.attributes != spec.attributes:
                raise ValueError(
                    f"metric {spec.name!r} has attributes {spec.attributes}, but {other.name!r} has {other.attributes}"
                )
            break
        fields[spec.field] = spec

    def measurements(self) -> list[str]:
        """The declared measurements, sorted."""
        return sorted(self._measurements)

    def fields(self, measurement: str) -> dict[str, MetricSpec]:
        """The metrics of a measurement by field, in order of declaration; empty when nobody declares it."""
        return self._measurements.get(measurement, {})

    def attributes(self, measurement: str) -> tuple[str, ...]:
        """The attributes of a measurement; empty when nobody declares it."""
        for spec in self.fields(measurement).values():
            return spec.attributes
        return ()

    def get(self, measurement: str, field: str) -> MetricSpec | None:
        """The declaration of one field, or None when nobody declares it."""
        return self.fields(measurement).get(field)

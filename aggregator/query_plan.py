"""The planner: checks a query against what exists, and settles everything that does not depend on the store."""

from collections.abc import Mapping
from typing import Final

import msgspec

from aggregator.expression.pattern_syntax import PatternError, parse_pattern
from aggregator.query import (
    MAX_FIELDS,
    MAX_LIMIT,
    Aggregate,
    Asked,
    Clock,
    Column,
    Copies,
    Existing,
    FieldInfo,
    Order,
    Query,
    Role,
)
from schemas.errors import QueryError, near_names
from schemas.metrics import Catalogue, Kind, MetricSpec, ValueType
from schemas.rows import LOG
from schemas.verbosity import Level

SOURCE_TIME: Final = "source_time_ns"
"""The field of logs and events in which the source's own time stands."""
LABELS: Final = ("node", "device", "publisher")
"""What every series has, whatever its measurement."""
MAX_BUCKETS: Final = 100_000
"""Buckets of one query."""

_NUMERIC: Final = frozenset(
    {Aggregate.AVG, Aggregate.SUM, Aggregate.RATE, Aggregate.P50, Aggregate.P95, Aggregate.P99},
)
_DEFAULT: Final = {
    Kind.GAUGE: Aggregate.AVG,
    Kind.COUNTER: Aggregate.RATE,
    Kind.STATE: Aggregate.LAST,
    Kind.TEXT: Aggregate.LAST,
}


class Target(msgspec.Struct, frozen=True):
    """One value column of the answer."""

    field: str
    type: ValueType
    """The field's own type."""
    aggregate: Aggregate | None
    """None in a raw query."""
    column: Column


class Plan(msgspec.Struct, frozen=True):
    """A query that makes sense, with nothing left open."""

    query: Query
    targets: tuple[Target, ...]
    labels: tuple[str, ...]
    """The label columns of the answer, in order."""
    per_series: bool
    """Every label there is: each series is a group of its own (publishers apart only where asked)."""
    order: Order

    @property
    def columns(self) -> list[Column]:
        """The columns of the answer, in order."""
        time = [Column("time", Role.TIME, ValueType.INT)] if self.timed else []
        labels = [Column(name, Role.LABEL, ValueType.STR) for name in self.labels]
        return [*time, *labels, *(target.column for target in self.targets)]

    @property
    def timed(self) -> bool:
        """Whether the answer has a column of times: always, but for one aggregate over the whole range."""
        return self.query.raw or self.query.last or self.query.every is not None


def plan(query: Query, existing: Existing) -> Plan:
    """Check a query and settle it. Raises QueryError that says what exists instead, and what is near."""
    if query.measurement not in existing.measurements():
        raise _unknown("measurement", query.measurement, existing.measurements(), "")
    _check_form(query)
    fields = existing.fields(query.measurement)
    attributes = existing.attributes(query.measurement)
    labels = (*LABELS, *sorted(attributes))
    for name in (*(term.name for term in query.where), *(query.group or ())):
        if name not in labels:
            raise _unknown("attribute", name, labels, f" of {query.measurement!r}")
    _check_text_filters(query, fields)
    shown = query.group if query.group is not None else ("node", "device", *sorted(attributes))
    raw = query.raw
    order = query.order or (Order.NEWEST if raw else Order.OLDEST)
    targets = tuple(_target(query, asked, fields[asked.field]) for asked in _asked(query, list(fields)))
    return Plan(query, targets, shown, query.group is None, order)


def field_info(name: str, spec: MetricSpec) -> FieldInfo:
    """Give what a declaration says of a field."""
    unit = spec.unit.value.strip()
    return FieldInfo(name, spec.type, spec.kind, unit, spec.level, spec.meaning, declared=True)


def guessed_info(name: str, value_type: ValueType, level: Level | None) -> FieldInfo:
    """Give what can be told of a field that nobody declares: its kind from its name and type."""
    kind = Kind.GAUGE
    if value_type is ValueType.STR:
        kind = Kind.TEXT
    elif value_type is ValueType.BOOL:
        kind = Kind.STATE
    elif name.endswith("_total"):
        kind = Kind.COUNTER
    return FieldInfo(name, value_type, kind, level=level)


def declared_fields(catalogue: Catalogue, measurement: str) -> dict[str, FieldInfo]:
    """Give the declared fields of a measurement, in order of declaration."""
    return {name: field_info(name, spec) for name, spec in catalogue.fields(measurement).items()}


def _check_form(query: Query) -> None:
    if not 1 <= query.limit <= MAX_LIMIT:
        raise QueryError(f"limit {query.limit} is outside 1 to {MAX_LIMIT}")
    if query.until is not None and query.until <= query.since:
        raise QueryError("the time range is empty: 'until' is not after 'since'")
    if query.group is not None and len(set(query.group)) != len(query.group):
        raise QueryError("a name to group by is given twice")
    if query.last and (query.every is not None or any(asked.aggregate for asked in query.asked)):
        raise QueryError("last values go with neither a bucket nor an aggregate")
    if query.every is not None and query.every < 1:
        raise QueryError("a bucket is at least one nanosecond wide")
    if query.every is not None and query.until is not None:
        buckets = (query.until - query.since) // query.every
        if buckets > MAX_BUCKETS:
            raise QueryError(f"{buckets} buckets exceed {MAX_BUCKETS}: take a wider one, or less time")


def _check_text_filters(query: Query, fields: Mapping[str, FieldInfo]) -> None:
    message, severity = fields.get("message"), fields.get("severity")
    if (query.contains or query.matches) and (message is None or message.type is not ValueType.STR):
        raise QueryError(f"{query.measurement!r} has no messages to search; measurements `log` and `event` have")
    if query.severity is not None and (severity is None or severity.type is not ValueType.INT):
        raise QueryError(f"{query.measurement!r} has no severity; measurements `log` and `event` have")
    if query.by is Clock.SOURCE and not (query.raw and SOURCE_TIME in fields):
        raise QueryError(
            "only rows of `log` and `event` can be ordered by the source's time, without bucket or aggregate"
        )
    if query.copies is Copies.FOLDED and not (query.raw and query.measurement == LOG):
        raise QueryError("only rows of `log` have copies to fold, without bucket or aggregate")


def refused_pattern(pattern: str, why: str) -> QueryError:
    """Give the error for a regular expression that the store refused with words of its own, with the place in it."""
    column = ""
    try:
        parse_pattern(pattern)
    except PatternError as error:
        why, column = str(error), f" at column {error.at + 1}"
    return QueryError(
        f"matches {pattern[:80]!r} is no regular expression: {why}{column}. Write \\ before a mark that stands for"
        " itself, or search for a plain text with 'contains'"
    )


def _asked(query: Query, fields: list[str]) -> tuple[Asked, ...]:
    if len(query.asked) > MAX_FIELDS:
        raise QueryError(f"{len(query.asked)} fields exceed {MAX_FIELDS}")
    for asked in query.asked:
        if asked.field not in fields:
            raise _unknown("field", asked.field, fields, f" of {query.measurement!r}")
    if len({asked.column for asked in query.asked}) != len(query.asked):
        raise QueryError("a field is asked for twice in the same way")
    return query.asked or tuple(Asked(field) for field in fields[:MAX_FIELDS])


def _target(query: Query, asked: Asked, field: FieldInfo) -> Target:
    if query.raw or query.last:
        column = Column(asked.column, Role.VALUE, field.type, field.unit)
        return Target(asked.field, field.type, Aggregate.LAST if query.last else None, column)
    aggregate = asked.aggregate or _DEFAULT[field.kind]
    numeric = field.type in (ValueType.INT, ValueType.FLOAT)
    if asked.aggregate is None and aggregate in _NUMERIC and not numeric:
        aggregate = Aggregate.LAST
    if aggregate in _NUMERIC and not numeric:
        raise QueryError(
            f"{query.measurement}.{field.name} holds {field.type.value} values, which have no "
            f"{aggregate.value}; ask for last, first, min, max or count"
        )
    return Target(asked.field, field.type, aggregate, _column(asked, field, aggregate))


def _column(asked: Asked, field: FieldInfo, aggregate: Aggregate) -> Column:
    value_type, unit = field.type, field.unit
    if aggregate is Aggregate.COUNT:
        value_type, unit = ValueType.INT, ""
    elif aggregate is Aggregate.RATE:
        value_type, unit = ValueType.FLOAT, f"{unit}_per_second".lstrip("_")
    elif aggregate in _NUMERIC and aggregate is not Aggregate.SUM:
        value_type = ValueType.FLOAT
    return Column(asked.column, Role.VALUE, value_type, unit, aggregate)


def _unknown(what: str, name: str, known: "list[str] | tuple[str, ...]", of: str) -> QueryError:
    shown = ", ".join(sorted(known)[:20]) + (", ..." if len(known) > 20 else "")
    there = f"There is: {shown.removesuffix('.')}." if known else "There is none yet."
    return QueryError(f"no {what} {name!r}{of}.{near_names(name, list(known))} {there}")

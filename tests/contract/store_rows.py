"""What the store and query conformance suites write: small blocks at times that people can read."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from aggregator.query import SECOND, Result
from aggregator.store import Outcome, Position, Progress, Rows, Seen, Stream, Transaction
from schemas.batch import Block
from schemas.metrics import Catalogue, Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level, RowClass

T0: Final = 1_800_000_000 * SECOND
"""A full minute, and a full ten minutes: 2027-01-15T08:00:00Z."""

STREAM: Final = Stream("pub1", "epoch1", RowClass.TELEMETRY, Level.STANDARD)


def declare(name: str, unit: Unit, kind: Kind, value_type: ValueType, attributes: tuple[str, ...] = ()) -> MetricSpec:
    """Declare one metric of the suites."""
    return MetricSpec(
        name=name,
        unit=unit,
        kind=kind,
        type=value_type,
        level=Level.STANDARD,
        category=Category.LOAD,
        meaning=f"What {name} means.",
        source="the suite",
        attributes=attributes,
    )


CATALOGUE: Final = Catalogue(
    [
        declare("gpu.power_watts", Unit.WATTS, Kind.GAUGE, ValueType.FLOAT),
        declare("gpu.energy_joules_total", Unit.JOULES, Kind.COUNTER, ValueType.FLOAT),
        declare("gpu.errors_total", Unit.COUNT, Kind.COUNTER, ValueType.INT),
        declare("gpu.state", Unit.NONE, Kind.STATE, ValueType.STR),
        declare("gpu.healthy", Unit.NONE, Kind.STATE, ValueType.BOOL),
        declare("cpu.usage_ratio", Unit.RATIO, Kind.GAUGE, ValueType.FLOAT, ("cpu",)),
        declare("quiet.value_ratio", Unit.RATIO, Kind.GAUGE, ValueType.FLOAT),
    ]
)
"""What both suites declare."""


def block(
    measurement: str,
    fields: Mapping[str, Sequence[Any]],
    *,
    subject: str = "node1",
    device: str = "gpu:0",
    seconds: Sequence[float] | None = None,
    **attributes: str,
) -> Block:
    """Give the rows of one series: `fields` by column, at these seconds after T0 (0, 1, 2, ... when left out).

    A column's wire type is that of its first value that is not None; all None: float.
    """
    count = len(next(iter(fields.values())))
    times = [T0 + round(second * SECOND) for second in (seconds if seconds is not None else range(count))]
    groups: dict[type, dict[str, list[Any]]] = {float: {}, int: {}, bool: {}, str: {}}
    for name, values in fields.items():
        wire = next((type(value) for value in values if value is not None), float)
        groups[wire][name] = list(values)
    steps = [0, *(later - earlier for earlier, later in pairwise(times))]
    key = [device, *attributes.values()]
    rows = [0] * count
    return Block(
        measurement, subject, list(attributes), [key], rows, times[0], steps,
        groups[float], groups[int], groups[bool], groups[str],
    )  # fmt: skip


def rows_of(*blocks: Block, publisher: str = "pub1", row_class: RowClass = RowClass.TELEMETRY) -> Rows:
    """Give one batch."""
    return Rows(publisher, row_class, Level.STANDARD, list(blocks))


def seen(first: int, end: int, outcome: Outcome = Outcome.DONE, stream: Stream = STREAM) -> Seen:
    """Give rows of the suite's stream as dealt with."""
    return Seen(stream, first, end, outcome)


def transaction(
    *rows: Rows,
    offset: int | None = None,
    seen: Sequence[Seen] = (),
    log_id: str = "log1",
    owner: int | None = None,
) -> Transaction:
    """Give a transaction of these batches that ends at `offset` of the one partition, under its owner's epoch."""
    positions = [Position("telemetry", 0, offset)] if offset is not None else []
    owners = {0: owner} if owner is not None else {}
    return Transaction(list(rows), Progress(log_id if positions else "", positions, list(seen), owners=owners))


def table(result: Result) -> list[dict[str, Any]]:
    """Give an answer as rows by column name."""
    names = [column.name for column in result.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*result.data, strict=True)]


def column(result: Result, name: str) -> list[Any]:
    """Give one column of an answer."""
    return result.data[[column.name for column in result.columns].index(name)]

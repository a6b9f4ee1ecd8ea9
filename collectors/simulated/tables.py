"""Cuts the columns of a node's devices into blocks, one for each level, and makes blocks of events and log lines."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from schemas.batch import Block
from schemas.metrics import MetricSpec, ValueType
from schemas.rows import EVENT, LOG, Event, LogRecord, Parcel
from schemas.verbosity import Level, RowClass, level_of_severity

_GROUPS: Final = {
    ValueType.FLOAT: "floats",
    ValueType.INT: "ints",
    ValueType.BOOL: "bools",
    ValueType.STR: "strings",
}

Columns = Mapping[str, Sequence[Any]]


class Clock:
    """The time of the next row of a step: no two rows of one step share a nanosecond."""

    __slots__ = ("next_ns",)

    def __init__(self, next_ns: int) -> None:
        self.next_ns = next_ns

    def take(self, rows: int) -> int:
        """Give the time of the first of `rows` rows, a nanosecond apart."""
        start = self.next_ns
        self.next_ns += rows
        return start


class Table:
    """One measurement: which fields travel at which level, as which type."""

    def __init__(self, metrics: Iterable[MetricSpec], only: frozenset[str] | None = None) -> None:
        specs = [spec for spec in metrics if only is None or spec.field in only]
        self.measurement = specs[0].measurement
        self.attributes = list(specs[0].attributes)
        self._cuts = [
            (level, [(spec.field, _GROUPS[spec.type]) for spec in specs if spec.level is level])
            for level in sorted({spec.level for spec in specs})
        ]

    def parcels(
        self,
        subject: str,
        keys: list[list[str]],
        columns: Columns,
        clock: Clock,
        level: Level,
        present: list[int] | None,
    ) -> Iterable[Parcel]:
        """Yield a parcel for each level up to `level`.

        `columns` has a value for each key; fields that the devices do not report are left out of it. `present` lists
        the keys whose devices can be read; None for all. Blocks own their lists: whoever gets them may change them.
        """
        if present is not None:
            keys = [keys[index] for index in present]
        count = len(keys)
        if not count:
            return
        for cut_level, fields in self._cuts:
            if cut_level > level:
                break
            groups: dict[str, dict[str, list[Any]]] = {"floats": {}, "ints": {}, "bools": {}, "strings": {}}
            for field, group in fields:
                column = columns.get(field)
                if column is not None:
                    groups[group][field] = list(column) if present is None else [column[index] for index in present]
            yield Parcel(
                RowClass.TELEMETRY,
                cut_level,
                Block(
                    self.measurement,
                    subject,
                    self.attributes,
                    keys.copy(),
                    list(range(count)),
                    clock.take(count),
                    [0] + [1] * (count - 1),
                    **groups,
                ),
            )


def event_parcel(subject: str, events: Sequence[Event], clock: Clock) -> Parcel:
    """Make one parcel of one or more events."""
    block = _block(EVENT, subject, [], [[event.device] for event in events], clock)
    block.ints = {
        "severity": [int(event.severity) for event in events],
        "source_time_ns": [event.source_time_ns for event in events],
    }
    block.strings = {
        "type": [event.type for event in events],
        "message": [event.message for event in events],
        "detail": [msgspec.json.encode(event.detail).decode() for event in events],
    }
    return Parcel(RowClass.EVENT, Level.ESSENTIAL, block)


def log_parcels(subject: str, records: Sequence[LogRecord], clock: Clock, level: Level) -> Iterable[Parcel]:
    """Yield a parcel of log records for each level up to `level`, in order of time within each."""
    by_level: dict[Level, list[LogRecord]] = {}
    for record in records:
        by_level.setdefault(level_of_severity(record.severity), []).append(record)
    for record_level, some in sorted(by_level.items()):
        if record_level > level:
            break
        block = _block(LOG, subject, ["source"], [[record.device, record.source] for record in some], clock)
        block.ints = {
            "severity": [int(record.severity) for record in some],
            "facility": [record.facility for record in some],
            "source_time_ns": [record.source_time_ns for record in some],
            "sequence": [record.sequence for record in some],
        }
        block.strings = {
            "message": [record.message for record in some],
            "host": [record.host for record in some],
            "app": [record.app for record in some],
        }
        yield Parcel(RowClass.LOG, record_level, block)


def _block(measurement: str, subject: str, attributes: list[str], keys: list[list[str]], clock: Clock) -> Block:
    count = len(keys)
    return Block(measurement, subject, attributes, keys, list(range(count)), clock.take(count), [0] + [1] * (count - 1))

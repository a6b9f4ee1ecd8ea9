"""Lines become tables: names are checked once a series, types kept for each field, rows laid out in blocks."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from collectors._tables import Shape, Table
from collectors.push.devices import Devices
from collectors.push.limits import Seen, ration
from collectors.push.line_protocol import Line, Tags, parse_head, parse_line
from collectors.push.names import SOURCE_TIME, Names, check_column
from collectors.push.refusal import CARDINALITY, TYPE, VALUE, RefusedError
from schemas.batch import MAX_ATTRIBUTES
from schemas.metrics import ValueType
from schemas.rows import FieldValue, Parcel
from schemas.verbosity import Level, RowClass

MAX_MEASUREMENTS: Final = 64
"""Of one pusher; of all pushers together MAX_TABLES."""
MAX_TABLES: Final = 512
MAX_COLUMNS: Final = 128
"""Fields of one measurement, tags not counted."""
MAX_TAG: Final = 255
"""Characters of a tag's value."""
LOST_LINES_PER_SECOND: Final = 10_000.0
"""Of lines that are not taken so many are read of one pusher, ten seconds' worth at once; beyond, it waits."""
_HEADS: Final = 4096
"""Heads of lines that are remembered with what they mean, of one pusher."""
_AGAIN: Final = 600.0
"""Seconds after which a series that is remembered is noted as used again."""
_ROWS: Final = 2000
"""Of one parcel: many columns, each of few rows, would grow with the square."""
_CHARACTERS: Final = 256 << 10
"""Of the lines of one parcel."""
_FIRST_NS: Final = 946_684_800_000_000_000
"""The year 2000; what is earlier is in another unit."""
_LAST_NS: Final = 7_258_118_400_000_000_000
"""The year 2200."""
_KINDS: Final = {float: ValueType.FLOAT, int: ValueType.INT, bool: ValueType.BOOL, str: ValueType.STR}
_SPELLED: Final = {
    ValueType.FLOAT: "a number: write 5 or 5.0",
    ValueType.INT: "a whole number: write 5i",
    ValueType.BOOL: "true or false: write t or f",
    ValueType.STR: 'a text: write "text"',
}


class _Measurement:
    """What is known of one measurement of this node; for all pushers, as the store has one type for each field."""

    __slots__ = ("first", "level", "tags", "types")

    def __init__(self, level: Level) -> None:
        self.level = level
        self.types: dict[str, tuple[Level, ValueType]] = {}
        self.tags: set[str] = set()
        self.first: dict[str, str] = {}
        """Who pushed a field or tag first, and so made it what it is."""

    def by(self, name: str, pusher: str) -> str:
        """Give who made a field or tag what it is, as the end of a refusal; "" for the pusher itself."""
        first = self.first.get(name, pusher)
        return "" if first == pusher else f" (by {first})"


class _Series:
    """What a head means."""

    __slots__ = ("attributes", "key", "measurement", "name", "used_at")

    def __init__(self, name: str, measurement: _Measurement, attributes: tuple[str, ...], key: tuple[str, ...]) -> None:
        self.name = name
        self.measurement = measurement
        self.attributes = attributes
        self.key = key
        self.used_at = 0.0


_Place = tuple[str, tuple[str, ...]]
"""Measurement and attributes."""


class Budget:
    """What one pusher may use."""

    __slots__ = ("events", "heads", "measurements", "patience", "rate", "series")

    def __init__(
        self, rows_per_second: float, events_per_second: float, most_series: int, clock: Callable[[], float]
    ) -> None:
        self.rate = ration(rows_per_second, clock)
        self.events = ration(events_per_second, clock)
        self.patience = ration(LOST_LINES_PER_SECOND, clock)
        """For lines that are refused or left out: they cost a thread that others share."""
        self.series = Seen(most_series, "series of this pusher", clock)
        self.measurements = Seen(MAX_MEASUREMENTS, "measurements of this pusher", clock)
        self.heads: dict[str, _Series] = {}


class Tables:
    """The rows of all pushers, until they are taken. For one thread."""

    def __init__(
        self,
        names: Names,
        devices: Devices,
        levels: Mapping[str, Level],
        *,
        clock: Callable[[], float],
        wall_ns: Callable[[], int],
    ) -> None:
        """`levels`: by pattern, the level of measurements; the first that fits holds, else `standard`."""
        self._names = names
        self._devices = devices
        self._levels = dict(levels)
        self._clock = clock
        self._wall_ns = wall_ns
        self._last_ns = 0
        self._known: dict[str, _Measurement] = {}
        self._used = Seen(MAX_TABLES, "measurements on this node", clock)
        self._tables: dict[_Place, tuple[_Measurement, Table]] = {}
        self._full: list[Parcel] = []
        self._sizes: dict[_Place, int] = {}
        self.rows = 0
        """Rows that wait to be taken."""

    def level_of(self, measurement: str) -> Level:
        """Give the level at which a measurement is sent."""
        for pattern, level in self._levels.items():
            if fnmatchcase(measurement, pattern):
                return level
        return Level.STANDARD

    def add(self, pusher: str, budget: Budget, text: str) -> Level | None:
        """Take one line; give None, or, when it is over the limit of rows, its level. Raises RefusedError."""
        line = parse_line(text)
        series = budget.heads.get(line.head)
        if series is None or self._clock() - series.used_at > _AGAIN:
            series = self._series(pusher, budget, line)
        cells = self._cells(pusher, series, line, text)
        if not budget.rate.take():
            return series.measurement.level
        self._last_ns = max(self._wall_ns(), self._last_ns + 1)
        self._table(series, len(text)).add(series.key, self._last_ns, *cells)
        self.rows += 1
        return None

    def take(self) -> list[Parcel]:
        """Give all rows, and begin anew."""
        parcels = self._full + [_parcel(place, *made) for place, made in self._tables.items()]
        self._full, self._tables, self._sizes, self.rows = [], {}, {}, 0
        return parcels

    def _table(self, series: _Series, size: int) -> Table:
        """Give the table of a series, with room for a line of so many characters."""
        place = (series.name, series.attributes)
        made = self._tables.get(place)
        before = self._sizes.get(place, 0)
        self._sizes[place] = before + size
        if made is not None and (
            len(made[1].rows) >= _ROWS or before + size > _CHARACTERS or made[0] is not series.measurement
        ):
            self._full.append(_parcel(place, *made))
            made = None
            self._sizes[place] = size
        if made is None:
            made = self._tables[place] = (series.measurement, Table())
        return made[1]

    def _series(self, pusher: str, budget: Budget, line: Line) -> _Series:
        """Find out what a head means; what it needs is noted as used only when all of it may be."""
        name, tags = parse_head(line.head, line.offset)
        measurement = self._known.get(name)
        if measurement is None:
            self._names.measurement(name, line.offset + 1)
        device, tags = self._device(pusher, line, tags)
        attributes = tuple(key for key, _ in tags)
        self._check_tags(pusher, line, tags, measurement)
        budget.measurements.use(name, line.offset + 1)
        self._used.use(name, line.offset + 1)
        budget.series.use((name, device, tags), line.offset + 1)
        if measurement is None:
            if len(self._known) >= 2 * MAX_TABLES:  # most of them were not used for an hour
                self._known = {one: found for one, found in self._known.items() if one in self._used}
            measurement = self._known[name] = _Measurement(self.level_of(name))
        for key in set(attributes) - measurement.tags:
            measurement.tags.add(key)
            measurement.first[key] = pusher
        series = _Series(name, measurement, attributes, (device, *(value for _, value in tags)))
        series.used_at = self._clock()
        if len(budget.heads) >= _HEADS:
            budget.heads.clear()
        if device == pusher:  # another device may be withdrawn: it is looked up each time
            budget.heads[line.head] = series
        return series

    def _device(self, pusher: str, line: Line, tags: Tags) -> tuple[str, Tags]:
        """Give what the row is filed under: the pusher, or the device of it that the tag `device` names."""
        named = dict(tags).get("device")
        if named is None:
            return pusher, tags
        column = line.offset + line.head.find("device=") + 1
        return self._devices.id_of(pusher, named, column), tuple(tag for tag in tags if tag[0] != "device")

    def _check_tags(self, pusher: str, line: Line, tags: Tags, measurement: _Measurement | None) -> None:
        if len(tags) > MAX_ATTRIBUTES:
            raise RefusedError(CARDINALITY, f"{len(tags)} tags: {MAX_ATTRIBUTES} at most", line.offset + 1)
        for key, value in tags:
            column = line.offset + line.head.find(f",{key}=") + 2
            check_column(key, "tag", column)
            if measurement is not None and key in measurement.types:
                by = measurement.by(key, pusher)
                raise RefusedError(TYPE, f"{key!r} was a field of this measurement before{by}", column)
            if len(value) > MAX_TAG or not value.isprintable():
                raise RefusedError(VALUE, f"the tag {key!r} has more than {MAX_TAG} characters, or unseen ones", column)

    def _cells(self, pusher: str, series: _Series, line: Line, text: str) -> tuple[list[str], list[FieldValue]]:
        """Give the names and values of the fields. A field that is new gets its type when the whole line is sound."""
        measurement = series.measurement
        types, fresh = measurement.types, dict[str, tuple[Level, ValueType]]()
        for name, value in line.fields:
            kind = _KINDS[type(value)]
            known = types.get(name)
            if known is None:
                column = _column(text, name)
                check_column(name, "field", column)
                if name in measurement.tags:
                    by = measurement.by(name, pusher)
                    raise RefusedError(TYPE, f"{name!r} was a tag of this measurement before{by}", column)
                fresh[name] = (measurement.level, kind)
            elif known[1] is not kind:
                spelled, by = _SPELLED[known[1]], measurement.by(name, pusher)
                raise RefusedError(TYPE, f"the field {name!r} was before{by} {spelled}", _column(text, name))
        names: list[str] = [name for name, _ in line.fields]
        values: list[FieldValue] = [value for _, value in line.fields]
        if line.time_ns is not None:
            if not _FIRST_NS <= line.time_ns <= _LAST_NS:
                column = len(text.rstrip(" \r")) - len(str(line.time_ns)) + 1
                raise RefusedError(VALUE, f"{line.time_ns} is no time of these years: nanoseconds since 1970", column)
            names.append(SOURCE_TIME)
            values.append(line.time_ns)
            if SOURCE_TIME not in types:
                fresh[SOURCE_TIME] = (measurement.level, ValueType.INT)
        if fresh:
            if len(types) + len(fresh) > MAX_COLUMNS:
                raise RefusedError(
                    CARDINALITY, f"{series.name} has {MAX_COLUMNS} fields: no more", _column(text, next(iter(fresh)))
                )
            types.update(fresh)
            measurement.first.update(dict.fromkeys(fresh, pusher))
        return names, values


def _parcel(place: _Place, measurement: _Measurement, table: Table) -> Parcel:
    shape = Shape(place[1])
    shape.fields = measurement.types
    return Parcel(RowClass.TELEMETRY, measurement.level, table.block(place[0], "", shape))


def _column(text: str, name: str) -> int:
    """Give where a field stands; 1 where it is written with escapes."""
    return max(text.find(f" {name}="), text.find(f",{name}=")) + 2 if f"{name}=" in text else 1

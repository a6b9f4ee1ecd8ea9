r"""Items become parcels: what a collector yields is checked against its declarations, stamped, and laid out in blocks.

Runs in the helper. One bad value harms only itself; what is refused is counted by reason and never sent:

| value | in a column of | becomes |
|---|---|---|
| None, or NaN | any | absent, no fault |
| infinity | float | refused, `not_finite` |
| bool | int, float | refused, `type`: a truth is no number |
| int | float | the float |
| float | int, even a whole one | refused, `type`: the declaration or the reading is wrong |
| int beyond 64 bits | int | refused, `out_of_range` |
| text over 64 Ki characters | str | cut, `too_long` |
| half surrogate pairs (file names) | str | spelled as `\udc80`, no fault |
| anything in a field not declared | | refused, `undeclared` |

A row is refused whole when its measurement is not declared (`undeclared`), or its attributes are not exactly the
declared ones (`attributes`). A ready-made `Parcel` is taken or refused as a whole; of a collector that says
`undeclared`, one of telemetry that nobody declares is taken as it is, where its names are such as can be declared.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from collectors._tables import Shape, Table, shapes_of
from collectors._values import CONVERT, MAX_TEXT, FaultError, plain
from collectors.delivery import Told
from schemas.batch import MAX_COLUMNS, MAX_ROWS, Block
from schemas.device import Document, decode_document, encode_document
from schemas.metrics import NAME, RESERVED, MetricSpec, ValueType
from schemas.rows import (
    EVENT,
    EVENT_METRICS,
    LOG,
    LOG_METRICS,
    Described,
    Event,
    FieldValue,
    LogRecord,
    Parcel,
    Position,
    Reading,
    Tally,
)
from schemas.verbosity import Level, RowClass, level_of_severity

MAX_NAME: Final = 255
"""Characters of a subject, a device or an attribute's value."""
MAX_PARCEL_BYTES: Final = 2 << 20
"""A larger ready-made parcel is refused, `too_large`."""
MAX_DELIVERY_BYTES: Final = 7 << 20
"""A larger delivery is refused, `too_large`: it would not pass the channel."""
MAX_TOLD_BYTES: Final = 1 << 20
"""Of the capability documents of one subject; more are refused, `too_large`."""
PART_BYTES: Final = 3 << 20
"""A delivery is sent off when it holds about so much, so that neither side ever holds a whole flood."""
_FUTURE_NS: Final = 1_000_000_000
_PAST_NS: Final = 60_000_000_000

_encoder = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()


_EVENT_SHAPE: Final = shapes_of(EVENT_METRICS)[EVENT]
_LOG_SHAPE: Final = shapes_of(LOG_METRICS)[LOG]
_EVENT_FIELDS: Final = ("type", "message", "severity", "source_time_ns")
_LOG_FIELDS: Final = tuple(name for name in _LOG_SHAPE.fields if name in LogRecord.__struct_fields__)

_TableName = tuple[RowClass, Level, str, str]
_Cells = tuple[list[str], list[FieldValue]]
"""Names of fields, and the value of each."""


class _Wire(msgspec.Struct, array_like=True):
    """A `Delivery` whose parcels are encoded already."""

    parcels: list[msgspec.Raw]
    positions: list[Position] = []
    documents: list[str] | None = None
    tallies: list[Tally] = []
    apart: bool = False
    told: list[Told] = []


class Packer:
    """Takes the items of one `collect` or `emit`, and gives encoded deliveries. Not for several threads at once."""

    def __init__(
        self,
        metrics: Iterable[MetricSpec],
        subject: str,
        *,
        undeclared: bool = False,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`undeclared`: parcels of measurements that are not among `metrics` are taken."""
        self._shapes = shapes_of(metrics)
        self._undeclared = undeclared
        self._apart = False
        self._subject = subject
        self._wall_ns = wall_ns
        self._last_ns = 0
        self._tables: dict[_TableName, Table] = {}
        self._parcels: list[bytes] = []
        self._positions: dict[str, str] = {}
        self._tallies: list[Tally] = []
        self._told: list[Told] = []
        self._held_rows = 0
        self._held_bytes = 0
        self.rows = 0
        """Rows taken since this was made."""
        self.faults: dict[str, int] = {}
        """What was refused since the last `reset`, by reason."""
        self.note = ""
        """What the first of it was."""

    @property
    def full(self) -> bool:
        """Whether it is time to `pack`."""
        return self._held_bytes >= PART_BYTES

    def reset(self) -> None:
        """Forget what was counted, so that one packer serves many ticks."""
        self.rows, self.faults, self.note = 0, {}, ""

    def fault(self, reason: str, note: str, count: int = 1) -> None:
        """Count something that was refused."""
        self.faults[reason] = self.faults.get(reason, 0) + count
        self.note = self.note or f"{reason}: {plain(note)[:300]}"

    def add(self, item: object) -> None:
        """Take one item, whatever it is. Raises nothing on account of the item."""
        try:
            if isinstance(item, Reading):
                self._reading(item)
            elif isinstance(item, Parcel):
                self._parcel(item)
            elif isinstance(item, LogRecord):
                self._log_record(item)
            elif isinstance(item, Event):
                self._event(item)
            elif isinstance(item, Position):
                self._position(item)
            elif isinstance(item, Tally):
                self._tally(item)
            elif isinstance(item, Described):
                self._described(item)
            else:
                raise FaultError("not_an_item", f"a {type(item).__name__} was yielded")
        except FaultError as error:
            self.fault(error.reason, error.note)
        except (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError) as error:
            # fields of wrong types: a struct checks nothing when it is made
            self.fault("garbage", f"{type(item).__name__}: {type(error).__name__}: {error}")

    def pack(self, documents: list[str] | None = None) -> bytes:
        """Give what was taken since the last call as an encoded `Delivery`; b"" when there is nothing.

        One unit is one delivery, and so one transaction with its positions, up to PART_BYTES.
        """
        for (row_class, level, measurement, subject), table in self._tables.items():
            shape = self._shape(row_class, measurement)
            parcel = Parcel(row_class, level, table.block(measurement, subject, shape))
            self._parcels.append(_encoder.encode(parcel))
        positions = [Position(source, value) for source, value in self._positions.items()]
        if sum(map(len, self._parcels)) > MAX_DELIVERY_BYTES:  # a wide table, most of it absent
            self.fault("too_large", f"{self._held_rows} rows at once", self._held_rows)
            self._parcels, positions = [], []
        raw_parcels = [msgspec.Raw(raw) for raw in self._parcels]
        delivery = _Wire(raw_parcels, positions, documents, self._tallies, self._apart, self._told)
        self._tables, self._parcels, self._positions, self._tallies, self._apart = {}, [], {}, [], False
        self._told = []
        self._held_rows = self._held_bytes = 0
        if not (delivery.parcels or positions or documents is not None or delivery.tallies or delivery.told):
            return b""
        return _encoder.encode(delivery)

    # --- one kind of item each ---------------------------------------------------------------------------------------

    def _reading(self, item: Reading) -> None:
        shape = self._shape(RowClass.TELEMETRY, item.measurement)
        key = _key(item.device, item.attributes, shape.attributes)
        by_level: dict[Level, _Cells] = {}
        for name, value in item.fields.items():
            if value is None:
                continue
            declared = shape.usual.get(name)
            if declared is None:
                self.fault("undeclared", f"{item.measurement}.{name}")
                continue
            level, kind, usual, least, most = declared
            fit: FieldValue | None = value
            if type(value) is not usual or not least <= value <= most:
                fit = self._value(f"{item.measurement}.{name}", value, kind)
                if fit is None:
                    continue
            cells = by_level.get(level)
            if cells is None:
                cells = by_level[level] = ([], [])
            cells[0].append(name)
            cells[1].append(fit)
        if by_level:
            stamp = self._stamp()
            for level, cells in by_level.items():
                self._put((RowClass.TELEMETRY, level, item.measurement, self._about(item.subject)), key, stamp, cells)

    def _event(self, item: Event) -> None:
        if not item.type or not item.type.replace(".", "").replace("_", "").replace("-", "").isalnum():
            raise FaultError("garbage", f"an event's type is {item.type!r}")
        cells = self._cells(item, _EVENT_FIELDS, _EVENT_SHAPE)
        if item.detail:
            detail = {
                str(name): plain(value) if isinstance(value, str) else value for name, value in item.detail.items()
            }
            text = _json.encode(detail).decode()
            if len(text) > MAX_TEXT:
                self.fault("too_long", f"the detail of an event {item.type}")
            else:
                cells[0].append("detail")
                cells[1].append(text)
        key = _key(item.device, {}, ())
        self._put((RowClass.EVENT, Level.ESSENTIAL, EVENT, self._about(item.subject)), key, self._stamp(), cells)

    def _log_record(self, item: LogRecord) -> None:
        if not 0 <= item.severity <= 7:
            raise FaultError("out_of_range", f"severity {item.severity}")
        key = _key(item.device, {"source": item.source}, _LOG_SHAPE.attributes)
        cells = self._cells(item, _LOG_FIELDS, _LOG_SHAPE)
        name = (RowClass.LOG, level_of_severity(item.severity), LOG, self._about(item.subject))
        self._put(name, key, self._stamp(), cells)

    def _position(self, item: Position) -> None:
        self._positions[plain(item.source)] = plain(item.value)

    def _tally(self, item: Tally) -> None:
        if min(item.folded, item.filtered) < 0:
            raise FaultError("out_of_range", f"a tally of {item.folded} and {item.filtered} rows")
        self._tallies.append(item)

    def _described(self, item: Described) -> None:
        """Take what a subject has; a document that cannot be used leaves what is known of its device."""
        if not item.subject:
            raise FaultError("garbage", "the node's own devices are described by `describe`")
        texts, whole = [], item.whole
        for document in item.documents:
            try:
                text = encode_document(document)
                decode_document(text)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                self.fault("document", f"{_named(document)!r:.80}: {error}")
                whole = False
            else:
                texts.append(text)
        size = sum(map(len, texts))
        if size > MAX_TOLD_BYTES:
            raise FaultError("too_large", f"documents of {item.subject:.80}: {size} bytes")
        self._told.append(Told(self._about(item.subject), texts, whole))
        self._held_bytes += size

    def _parcel(self, item: Parcel) -> None:
        block = item.block
        rows = len(block.rows)
        if self._undeclared and item.row_class is RowClass.TELEMETRY and block.measurement not in self._shapes:
            _check_names(block)
            self._apart = True
        else:
            self._check_columns(item, self._shape(item.row_class, block.measurement))
        block.subject = self._about(block.subject)
        now = self._wall_ns()
        if not now - _PAST_NS <= block.start <= now + _FUTURE_NS:
            block.start = now
        try:
            raw = _encoder.encode(item)
        except UnicodeEncodeError:
            block.strings = {name: [_plain_or_none(text) for text in column] for name, column in block.strings.items()}
            block.keys = [[plain(part) for part in key] for key in block.keys]
            raw = _encoder.encode(item)
        if len(raw) > MAX_PARCEL_BYTES or rows > MAX_ROWS:
            raise FaultError("too_large", f"a parcel of {rows} rows and {len(raw)} bytes")
        self._parcels.append(raw)
        self._count(rows, len(raw))

    # --- parts -------------------------------------------------------------------------------------------------------

    def _check_columns(self, item: Parcel, shape: Shape) -> None:
        """Check that a ready-made parcel holds what is declared, at the level that is declared."""
        block = item.block
        if tuple(block.attributes) != shape.attributes:
            raise FaultError("attributes", f"{block.measurement} has {shape.attributes}, not {block.attributes}")
        groups = (
            (ValueType.FLOAT, block.floats),
            (ValueType.INT, block.ints),
            (ValueType.BOOL, block.bools),
            (ValueType.STR, block.strings),
        )
        for kind, columns in groups:
            for name in columns:
                declared = shape.fields.get(name)
                if declared is None:
                    raise FaultError("undeclared", f"{block.measurement}.{name}")
                if declared[1] is not kind:
                    raise FaultError("type", f"{block.measurement}.{name} is {declared[1].value}, not {kind.value}")
                if item.row_class is RowClass.TELEMETRY and declared[0] != item.level:
                    raise FaultError("level", f"{block.measurement}.{name} is {declared[0].word}, not {item.level!r}")

    def _shape(self, row_class: RowClass, measurement: str) -> Shape:
        shape: Shape | None = None
        if row_class is RowClass.EVENT and measurement == EVENT:
            shape = _EVENT_SHAPE
        elif row_class is RowClass.LOG and measurement == LOG:
            shape = _LOG_SHAPE
        elif row_class is not RowClass.CAPABILITY:  # its own tables may travel as any class
            shape = self._shapes.get(measurement)
        if shape is None:
            raise FaultError("undeclared", f"the measurement {measurement!r}")
        return shape

    def _cells(self, item: Event | LogRecord, names: tuple[str, ...], shape: Shape) -> _Cells:
        cells: _Cells = ([], [])
        for name in names:
            value = getattr(item, name)
            if value is not None:
                converted = self._value(name, value, shape.fields[name][1])
                if converted is not None:
                    cells[0].append(name)
                    cells[1].append(converted)
        return cells

    def _value(self, name: str, value: object, kind: ValueType) -> FieldValue:
        """Give the value as its column holds it, or None (counted, unless it simply was not reported)."""
        try:
            converted = CONVERT[kind](value)
        except FaultError as error:
            self.fault(error.reason, f"{name}: {error.note}")
            return None
        if type(converted) is str:
            self._held_bytes += len(converted)
            if len(converted) > MAX_TEXT:
                self.fault("too_long", f"{name}: {len(converted)} characters")
                return converted[:MAX_TEXT]
        return converted

    def _about(self, subject: str) -> str:
        if not subject:
            return self._subject
        if len(subject) > MAX_NAME or not subject.isprintable():
            raise FaultError("garbage", f"a subject {subject[:80]!r}")
        return subject

    def _stamp(self) -> int:
        """Give the time, strictly increasing: the levels of one reading share it, and no two readings do."""
        self._last_ns = max(self._wall_ns(), self._last_ns + 1)
        return self._last_ns

    def _put(self, name: _TableName, key: tuple[str, ...], stamp: int, cells: _Cells) -> None:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = Table()
        table.add(key, stamp, *cells)
        self._count(1, 8 * len(cells[0]))

    def _count(self, rows: int, size: int) -> None:
        self.rows += rows
        self._held_rows += rows
        self._held_bytes += size


def _check_names(block: Block) -> None:
    """Check that nobody will stumble over what somebody else called his table and its columns."""
    columns = [name for group in (block.floats, block.ints, block.bools, block.strings) for name in group]
    names = [*columns, *block.attributes]
    if not all(NAME.match(name) for name in (block.measurement, *names)) or not RESERVED.isdisjoint(names):
        raise FaultError("names", f"{block.measurement}: {names}"[:200])
    if len(set(names)) != len(names) or len(columns) > MAX_COLUMNS:
        raise FaultError("names", f"{block.measurement}: {len(names)} columns, some twice or too many")


def _key(device: str, attributes: Mapping[str, str], declared: tuple[str, ...]) -> tuple[str, ...]:
    if len(attributes) != len(declared):
        raise FaultError("attributes", f"declared are {declared}, given {tuple(attributes)}")
    try:
        key = (device, *[attributes[name] for name in declared])
    except KeyError:
        raise FaultError("attributes", f"declared are {declared}, given {tuple(attributes)}") from None
    for part in key:
        if len(part) > MAX_NAME:
            raise FaultError("attributes", f"{part!r:.80} has more than {MAX_NAME} characters")
    return key if "".join(key).isascii() else tuple(map(plain, key))


def _named(document: object) -> str:
    return document.device if isinstance(document, Document) else type(document).__name__


def _plain_or_none(text: str | None) -> str | None:
    return None if text is None else plain(text)

"""What a collector yields: readings, events, log records, and how far it has read. The host makes blocks of them."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from schemas.batch import Block
from schemas.device import Document
from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level, RowClass

FieldValue = float | int | bool | str | None


class Severity(IntEnum):
    """How bad, as RFC 5424 counts: 0 is worst."""

    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFORMATIONAL = 6
    DEBUG = 7


class Reading(msgspec.Struct, frozen=True):
    """One row of telemetry: the values of one measurement of one device at one time."""

    measurement: str
    fields: Mapping[str, FieldValue]
    """By field name; None or left out when the source did not report it. NaN counts as not reported."""
    device: str = ""
    """The device's id; "" for the subject itself."""
    attributes: Mapping[str, str] = {}
    """What tells the rows of one device apart; exactly the attributes that the measurement declares."""
    subject: str = ""
    """What the row speaks about; "" for the publisher itself."""


class Event(msgspec.Struct, frozen=True):
    """One change of state, seen by a collector."""

    type: str
    """A dotted word, stable once released: `systemd.unit.down`, `nvml.xid`, `log.gap`."""
    message: str
    """One sentence for people, with the facts in it."""
    severity: Severity = Severity.NOTICE
    device: str = ""
    detail: Mapping[str, FieldValue] = {}
    """The facts for programs."""
    source_time_ns: int | None = None
    """When the source says it happened, nanoseconds since 1970; None when it does not say."""
    subject: str = ""


class LogRecord(msgspec.Struct, frozen=True):
    """One record of a log. A collector of many a second yields `Parcel` instead."""

    message: str
    severity: Severity
    source: str
    """The way it came: `kmsg`, `udp`, `tcp`, `unix`, `journald`."""
    facility: int | None = None
    host: str | None = None
    """The host that the record names; None when it names none."""
    app: str | None = None
    process_id: str | None = None
    message_id: str | None = None
    structured_data: str | None = None
    """RFC 5424 structured data, raw as it came."""
    source_time_ns: int | None = None
    device: str = ""
    sequence: int | None = None
    """The source's own number (the kernel log's)."""
    subject: str = ""


class Parcel(msgspec.Struct, array_like=True):
    """A block ready made, for sources of many rows a second; the host still stamps, filters and counts it."""

    row_class: RowClass
    level: Level
    block: Block


class Position(msgspec.Struct, frozen=True):
    """How far a source that can be read again has been read: committed with the rows yielded before it."""

    source: str
    value: str


class Described(msgspec.Struct, frozen=True):
    """All devices of a subject that is not the node itself, such as a BMC that is polled.

    It takes the place of what was described of this subject before; what `describe` gives is the node's own. Devices
    are named so that no two subjects of one collector have a name in common.
    """

    subject: str
    documents: tuple[Document, ...]
    whole: bool = True
    """Whether what is missing is gone; else something could not be read, and what was described before stays."""


class Tally(msgspec.Struct, array_like=True, frozen=True):
    """Rows that were produced and do not travel: the collector itself folded them into others, or left them out."""

    row_class: RowClass
    level: Level
    folded: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Merged into another row, which says for how many it stands."""
    filtered: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Left out, as the operator asked."""


Item = Reading | Event | LogRecord | Parcel | Position | Described | Tally

EVENT: Final = "event"
"""The measurement of events."""
LOG: Final = "log"
"""The measurement of log records."""
CAPABILITY: Final = "capability"
"""The measurement of capability documents: one row, the document as JSON in the field `document`."""


def _column(name: str, meaning: str, kind: Kind = Kind.TEXT, unit: Unit = Unit.NONE) -> MetricSpec:
    return MetricSpec(
        name=name,
        unit=unit,
        kind=kind,
        type=ValueType.STR if unit is Unit.NONE else ValueType.INT,
        level=Level.ESSENTIAL,
        category=Category.USAGE,
        meaning=meaning,
        source="Muster",
        attributes=("source",) if name.startswith("log.") else (),
    )


EVENT_METRICS: Final = (
    _column("event.type", "What happened: a dotted word, stable once released."),
    _column("event.severity", "RFC 5424 severity, 0 (worst) to 7.", Kind.STATE, Unit.COUNT),
    _column("event.message", "One sentence for people."),
    _column("event.detail", "The facts for programs, a JSON object."),
    _column("event.source_time_ns", "When the source says it happened, ns since 1970.", Kind.GAUGE, Unit.COUNT),
)
"""The columns of the measurement `event`."""

LOG_METRICS: Final = (
    _column("log.message", "The text of the record."),
    _column("log.severity", "RFC 5424 severity, 0 (worst) to 7.", Kind.STATE, Unit.COUNT),
    _column("log.facility", "RFC 5424 facility, 0 to 23.", Kind.STATE, Unit.COUNT),
    _column("log.host", "The host that the record names."),
    _column("log.app", "The program that wrote it."),
    _column("log.process_id", "The process that wrote it, as written."),
    _column("log.message_id", "RFC 5424 MSGID."),
    _column("log.structured_data", "RFC 5424 structured data, raw."),
    _column("log.source_time_ns", "The record's own time, ns since 1970.", Kind.GAUGE, Unit.COUNT),
    _column("log.sequence", "The source's own number of the record.", Kind.GAUGE, Unit.COUNT),
    _column(
        "log.copies",
        "For how many records it stands, itself included: the last of them is shown. Absent for itself alone.",
        Kind.GAUGE,
        Unit.COUNT,
    ),
    _column("log.first_time_ns", "When the first of its copies came, ns since 1970.", Kind.GAUGE, Unit.COUNT),
    _column("log.last_time_ns", "When the last of its copies came, ns since 1970.", Kind.GAUGE, Unit.COUNT),
    _column("log.unit", "The unit of systemd that wrote it, as journald says."),
    _column("log.peer", "Who sent it, by the name in the certificate that the sender showed (TLS)."),
)
"""The columns of the measurement `log`; its attribute `source` is the way the record came."""

CAPABILITY_METRICS: Final = (_column("capability.document", "The device's capability document, a JSON object."),)
"""The column of the measurement `capability`."""

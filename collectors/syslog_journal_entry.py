"""One record of the journal as `journalctl --output=json` writes it: a line, a JSON object, fields of many shapes.

A field is a string; a list of numbers, its bytes, when it is not UTF-8 or not printable; a list of such when it occurs
more than once; or null when it was too large.

Source: journalctl(1) `--output=json`, systemd.journal-fields(7), systemd's `src/shared/logs-show.c` (version 252).
"""

import re
from typing import Final

import msgspec

from collectors.syslog_framing import MARK, cut
from schemas.verbosity import Level, level_of_severity

_Part = str | int | None | list[int]
Field = str | list[_Part] | None

_INFO: Final = 6
"""The severity of a record without one, as journald itself gives to the output of services (`SyslogLevel=info`)."""
_UNSAID: Final = (level_of_severity(_INFO), _INFO)
_PRIORITIES: Final[dict[str | None, tuple[Level, int]]] = {
    str(value): (level_of_severity(value), value) for value in range(8)
}
_FACILITIES: Final[dict[str | None, int]] = {str(value): value for value in range(24)}
_SUPPRESSED: Final = "a596d6fe7bfa4994828e72309e95d61e"
"""SD_MESSAGE_JOURNAL_DROPPED: journald wrote less than a service said, because it said too much in a short time."""
_CURSOR: Final = re.compile(rb'"__CURSOR" ?: ?"([^"\\]{1,512})"')
_NUMBER: Final = re.compile(r"(?:\A|;)i=([0-9a-f]{1,16})(?:;|\Z)")
_DIGITS: Final = 19
_LARGEST: Final = 1 << 63
_ENDS: Final = "\0\r\n"
_TOO_LARGE: Final = "a record that is too large to be read"


class _Entry(msgspec.Struct):
    cursor: str = msgspec.field(name="__CURSOR", default="")
    received: Field = msgspec.field(name="__REALTIME_TIMESTAMP", default=None)
    said: Field = msgspec.field(name="_SOURCE_REALTIME_TIMESTAMP", default=None)
    message: Field | msgspec.UnsetType = msgspec.field(name="MESSAGE", default=msgspec.UNSET)
    priority: Field = msgspec.field(name="PRIORITY", default=None)
    facility: Field = msgspec.field(name="SYSLOG_FACILITY", default=None)
    identifier: Field = msgspec.field(name="SYSLOG_IDENTIFIER", default=None)
    command: Field = msgspec.field(name="_COMM", default=None)
    said_process: Field = msgspec.field(name="SYSLOG_PID", default=None)
    process: Field = msgspec.field(name="_PID", default=None)
    message_id: Field = msgspec.field(name="MESSAGE_ID", default=None)
    host: Field = msgspec.field(name="_HOSTNAME", default=None)
    transport: Field = msgspec.field(name="_TRANSPORT", default=None)
    unit: Field = msgspec.field(name="_SYSTEMD_UNIT", default=None)
    kernel_subsystem: Field = msgspec.field(name="_KERNEL_SUBSYSTEM", default=None)
    kernel_device: Field = msgspec.field(name="_KERNEL_DEVICE", default=None)
    dropped: Field = msgspec.field(name="N_DROPPED", default=None)


FIELDS: Final = tuple(
    each.encode_name for each in msgspec.structs.fields(_Entry) if not each.encode_name.startswith("__")
)
"""What is asked for with `--output-fields`; the cursor and the time of receipt come unasked."""


class Record(msgspec.Struct):
    """One record, in the words of the measurement `log`."""

    cursor: str
    """Where it is in the journal; "" when that could not be read."""
    sequence: int | None
    """Its number in the journal, by the cursor."""
    kernel: bool
    """The kernel wrote it."""
    level: Level
    severity: int
    facility: int | None
    text: str | None
    """None when there was none. Bytes that are not UTF-8 are `\\xNN`."""
    truncated: bool
    app: str | None
    process: str | None
    message_id: str | None
    host: str | None
    unit: str | None
    when: int | None
    """Its own time, else when journald received it; nanoseconds since 1970."""
    kernel_subsystem: str | None
    kernel_device: str | None
    suppressed: int
    """How many records journald says that it left out before this one."""


_decoder = msgspec.json.Decoder(_Entry)


def read_record(line: bytes, limit: int) -> Record | None:
    """Read one line; None when it is no record. Text above `limit` bytes is cut and marked."""
    try:
        entry = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    level, severity = _PRIORITIES.get(_text(entry.priority), _UNSAID)
    message, truncated = _message(entry.message, limit)
    message_id = _text(entry.message_id)
    number = _NUMBER.search(entry.cursor)
    sequence = int(number[1], 16) if number else _LARGEST
    when = (_count(entry.said) or _count(entry.received) or _LARGEST) * 1000  # they are microseconds
    return Record(  # in the order of its fields: this is done for every record, and names take time
        entry.cursor,
        sequence if sequence < _LARGEST else None,
        entry.transport == "kernel",
        level,
        severity,
        _FACILITIES.get(_text(entry.facility)),
        message,
        truncated,
        _text(entry.identifier) or _text(entry.command),
        _text(entry.said_process) or _text(entry.process),
        message_id,
        _text(entry.host),
        _text(entry.unit),
        when if when < _LARGEST else None,
        _text(entry.kernel_subsystem),
        _text(entry.kernel_device),
        _count(entry.dropped) if message_id == _SUPPRESSED else 0,
    )


def oversized_record(line: bytes) -> Record:
    """Give what can be told of a record whose line was too long, by the beginning and the end of the line."""
    found = _CURSOR.search(line)
    entry = read_record(msgspec.json.encode({"__CURSOR": found[1].decode("ascii", "replace") if found else ""}), 0)
    assert entry is not None  # it was made here
    return msgspec.structs.replace(entry, text=_TOO_LARGE + MARK.decode(), truncated=True)


def _message(field: Field | msgspec.UnsetType, limit: int) -> tuple[str | None, bool]:
    """Give the text and whether it was cut. A text that occurs more than once is one of several lines."""
    if type(field) is str:  # nearly always
        text, lost = field, False
    elif isinstance(field, msgspec.UnsetType):
        return None, False
    else:
        parts = [_part(field)] if _whole(field) else [_part(part) for part in field or ()]
        text, lost = "\n".join(part for part in parts if part is not None), None in parts
    if text[-1:] in _ENDS:
        text = text.rstrip(_ENDS)
    if len(text) * 4 > limit and len(data := text.encode("utf-8", "backslashreplace")) > limit:
        return (cut(data, limit) + MARK).decode("utf-8", "replace"), True
    if lost:
        return f"{text or _TOO_LARGE}{MARK.decode()}", True
    return text or None, False


def _whole(field: Field) -> bool:
    """Tell whether the field occurs once: a string, null, or the bytes of one value."""
    return not isinstance(field, list) or all(isinstance(part, int) for part in field)


def _part(value: "Field | _Part") -> str | None:
    """Give one value's text; None for null, and for what is none."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    try:
        data = bytes(value)  # type: ignore[arg-type]  # what is no byte raises
    except (ValueError, TypeError):
        return None
    return data.decode("utf-8", "backslashreplace")


def _text(field: Field) -> str | None:
    """Give the text of a field, the first where it occurs more than once; None when there is none."""
    if type(field) is str:
        return field or None
    if field is None:
        return None
    if not _whole(field):
        field = field[0]  # type: ignore[assignment]  # a list, not empty
    return _part(field) or None


def _count(field: Field) -> int:
    """Give the number; 0 when there is none."""
    text = field if type(field) is str else _text(field) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0

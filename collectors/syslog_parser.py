r"""The text of syslog: RFC 5424, and RFC 3164 with the dialects that devices really send.

Whatever the bytes are, a message becomes one row and nothing raises. Text that is not UTF-8 keeps its bytes as `\xNN`.
What a message does not say is None: a host that is not named is absent, and is not the sender's address.

Source: RFC 5424 part 6, RFC 3164 parts 4 and 5. Regular expressions have possessive quantifiers wherever they
repeat, so that time is linear in the length of the message.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final

from collectors.syslog_listener import Counts
from collectors.syslog_rows import Rows, Table
from schemas.verbosity import level_of_severity

USER: Final = 1
"""The facility of a message without PRI (RFC 3164 part 4.3.3: PRI 13, user.notice)."""
NOTICE: Final = 5

_SECOND = r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)"
_RFC5424 = re.compile(
    r"<(\d{1,3})>1 "
    r"(?:-|(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d:\d\d)) "
    r"(?:-|([!-~]{1,255}+)) (?:-|([!-~]{1,48}+)) (?:-|([!-~]{1,128}+)) (?:-|([!-~]{1,32}+)) "
    r'(?:-|((?:\[[!#-<>-\\^-~]{1,32}+(?: [!#-<>-\\^-~]{1,32}+="[^"\\\]]*+(?:\\.[^"\\\]]*+)*+")*+\])++))'
    r"(?: \ufeff?(.*))?\Z",
    re.ASCII | re.DOTALL,
)
_TAG = r"([^\s\[\]:]{1,128}+)(?:\[([^\]\s]{0,128}+)\]:?|:(?![/\d:\\]))"
TAG: Final = re.compile(rf"{_TAG}[ ]?", re.ASCII)
"""A program's name, perhaps with a process id, before a message: `sshd[233]: `, `su: `."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_RFC3164 = re.compile(
    r"(?:<(\d{1,3})>)?"
    r"(?:[ ]?[*.]?(?:"  # Cisco marks a clock that is not synchronised with `*` or `.`
    rf"((?:{'|'.join(_MONTHS)}) [ \d]?\d(?: \d{{4}})? \d\d:\d\d:\d\d)(?:\.(\d{{1,9}}))?(?:[ ]((?:19|20)\d\d)(?=[ ]\S))?"
    rf"|{_SECOND}(?:[.,](\d{{1,9}}))?(Z|[+-]\d\d:?\d\d)?"
    r"):?(?:[ ]++|\Z)"
    r"(?:(?![^\s\[\]:]{1,128}+(?:\[[^\]\s]{0,128}+\]:?|:)(?:\s|\Z))([^\s\[\]]{1,255}+)(?:[ ](?::[ ])?|\Z))?)?"
    rf"(?:{_TAG}[ ]?)?"
    r"(.*)",
    re.ASCII | re.DOTALL,
)
_CISCO = re.compile(
    r"<(\d{1,3})>(?::[ ]?|(\d{1,10}):[ ])?"  # IOS numbers its messages, NX-OS and FTD leave the number out
    r"(?:([^\s:\[\]]{1,255}+):[ ])?"  # `logging origin-id`
    rf"[*.]?(?:(\d{{4}})[ ])?({'|'.join(_MONTHS)}) ([ \d]?\d)(?: (\d{{4}}))? (\d\d:\d\d:\d\d)(?:\.(\d{{1,9}}))?"
    r"(?:[ ]([A-Z]{2,5})(?=:?[ ]))?:?[ ](?:([^\s:%\[\]]{1,255}+)[ ](?::[ ])?)?"
    r"(%\w[\w-]*-\d-\w+):[ ]?(.*)",
    re.ASCII | re.DOTALL,
)
"""Cisco's form: number, host, time with the name of its zone, and `%FACILITY-SEVERITY-MNEMONIC`."""
_ZONES: Final = {"UTC": 0, "GMT": 0, "UT": 0, "Z": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
                 "PST": -8, "PDT": -7}  # fmt: skip
"""Hours that a zone is ahead of UTC, of the names that RFC 5322 part 4.3 defines; any other name says nothing."""
_LONG_FRACTION = re.compile(r"(<\d{1,3}>1 \S{19}\.\d{6})\d{1,3}(?=[Z+-])", re.ASCII)
_MARK = "\ufeff"
_ENDS = "\0\r\n"
_SCALE = tuple(10 ** (9 - digits) for digits in range(10))
_DAY_NS = 86_400_000_000_000
_AHEAD_NS = 7 * _DAY_NS
"""How far a sender's clock may run ahead before its time without year is taken for last year's."""
_WORDS_WITH_YEAR = 4
_LATEST = (1 << 63) - 1_000_000_000
"""The year 2262: later times, and those before 1970, are no times of a log record."""
_REMEMBERED = 4096
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (arithmetic on times whose zone was taken off)
_ONE_SECOND = timedelta(seconds=1)


def _priorities() -> dict[str, tuple[int, int, int]]:
    """For each PRI as written: level, severity, facility."""
    table = {}
    for value in range(192):
        entry = (int(level_of_severity(value & 7)), value & 7, value >> 3)
        for text in {f"{value}", f"{value:02}", f"{value:03}"}:
            table[text] = entry
    return table


_PRIORITIES: Final = _priorities()
_UNKNOWN: Final = (int(level_of_severity(NOTICE)), NOTICE, USER)


class Parser:
    """Reads messages into rows. Remembers the last few thousand distinct seconds, since one second is many messages."""

    def __init__(self, wall_ns: Callable[[], int], zone: tzinfo | None = None) -> None:
        """Take the clock by which missing years are told, and the zone of times without one; None is this machine's."""
        self._wall_ns = wall_ns
        self._zone = zone
        self._seconds: dict[str, int | None] = {}
        self._local: dict[str, int | None] = {}
        self._local_until = 0
        self._zones: dict[int, Parser] = {}

    def parse(self, messages: Iterable[bytes], source: str, rows: Rows, counts: Counts) -> int:
        """Append a row for each message and give how many were appended: all but those that are empty.

        Counted in `counts` as malformed: no PRI or one above 191, a message that says it is RFC 5424 and is not, an
        impossible time. An empty message is counted too.
        """
        table = rows.table(source)
        first = number = rows.number
        match_5424, priority_of, seconds = _RFC5424.match, _PRIORITIES.get, self._seconds
        for data in messages:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                text = data.decode("utf-8", "backslashreplace")
            if text[-1:] in _ENDS:
                text = text.rstrip(_ENDS)
            match = match_5424(text)
            if match is None and (text[:1] == _MARK or text.find(">1 ", 2, 7) > 0):
                text = _mended(text)
                match = match_5424(text)
                if match is not None:
                    counts.malformed_total += 1
            if match is None:
                number += self._parse_3164(text, table, number, counts)
                continue
            pri, second, fraction, zone, host, app, process, message_id, structured, message = match.groups()
            entry = priority_of(pri)
            if entry is None:
                number += self._unreadable(text, table, number, counts)
                continue
            when = None
            if second is not None:
                try:
                    when = seconds[second + zone]
                except KeyError:
                    when = self._learn(second, zone)
                if when is None:
                    counts.malformed_total += 1
                elif fraction is not None:
                    when += int(fraction) * _SCALE[len(fraction)]
            level, severity, facility = entry
            table[level].append(
                (number, message, severity, facility, host, app, process, message_id, structured, when, None, "")
            )
            number += 1
        rows.number = number
        return number - first

    def _parse_3164(self, text: str, table: Table, number: int, counts: Counts) -> int:
        """Append a row for what is not RFC 5424, and give 1; 0 when there is nothing in it."""
        match = _RFC3164.match(text)
        if match is None or not text:
            counts.malformed_total += 1
            return 0
        pri, bsd, bsd_fraction, year, second, fraction, zone, host, app, process, message = match.groups()
        entry = _UNKNOWN if pri is None else _PRIORITIES.get(pri)
        if entry is None:
            return self._unreadable(text, table, number, counts)
        when = None
        timed = bsd or second
        if not timed and (cisco := _CISCO.match(text)):
            return self._parse_cisco(cisco, table, number, counts)
        if year is not None:  # Junos: the year comes last
            bsd = f"{bsd[:-9]} {year}{bsd[-9:]}"
        if timed:
            when = self.time_of(bsd, second, zone)
            fraction = fraction or bsd_fraction
            if when is not None and fraction is not None:
                when += int(fraction) * _SCALE[len(fraction)]
        if pri is None or (timed and when is None) or (not timed and message.startswith("1 ")):
            counts.malformed_total += 1
        level, severity, facility = entry
        table[level].append(
            (number, message or None, severity, facility, host, app, process or None, None, None, when, None, "")
        )
        return 1

    def _parse_cisco(self, match: re.Match[str], table: Table, number: int, counts: Counts) -> int:
        """Append a row for a message in Cisco's form, and give 1."""
        pri, sequence, origin, first, month, day, year, clock, fraction, zone, host, app, message = match.groups()
        entry = _PRIORITIES.get(pri)
        if entry is None:
            return self._unreadable(match.string, table, number, counts)
        year = first or year
        moment = f"{month} {day} {year} {clock}" if year else f"{month} {day} {clock}"
        when = self._in_zone(zone).time_of(moment, None, None)
        if when is None:
            counts.malformed_total += 1
        elif fraction is not None:
            when += int(fraction) * _SCALE[len(fraction)]
        level, severity, facility = entry
        told = None if sequence is None else int(sequence)
        table[level].append(
            (number, message or None, severity, facility, host or origin, app, None, None, None, when, told, "")
        )
        return 1

    def _in_zone(self, name: str | None) -> "Parser":
        """Give the parser of times in a zone by its name; this one where the name says nothing."""
        hours = _ZONES.get(name or "")
        if hours is None:
            return self
        parser = self._zones.get(hours)
        if parser is None:
            parser = self._zones[hours] = Parser(self._wall_ns, timezone(timedelta(hours=hours)))
        return parser

    def _unreadable(self, text: str, table: Table, number: int, counts: Counts) -> int:
        """Append a row for a message whose PRI cannot be believed: all of it is its text."""
        counts.malformed_total += 1
        level, severity, facility = _UNKNOWN
        table[level].append((number, text, severity, facility, None, None, None, None, None, None, None, ""))
        return 1

    def time_of(self, bsd: str | None, second: str | None, zone: str | None) -> int | None:
        """Give the nanoseconds since 1970 of a time in any of the dialects; None when there is no such time."""
        if second is not None and zone is not None:
            known = self._seconds.get(second + zone)
            return self._learn(second, zone) if known is None else known
        text = bsd or second or ""
        now = self._wall_ns()
        if now >= self._local_until or len(self._local) >= _REMEMBERED:
            self._local.clear()  # the year that was inferred, and the zone's offset, hold for a while only
            self._local_until = now + _DAY_NS
        if text not in self._local:
            self._local[text] = self._of_text(text, now) if bsd else self._of_moment(_moment(text))
        return self._local[text]

    def _learn(self, second: str, zone: str) -> int | None:
        """Work out, and remember, the nanoseconds since 1970 of a time with zone."""
        if len(self._seconds) >= _REMEMBERED:
            self._seconds.clear()
        moment, offset = _moment(second), _offset(zone)
        when = None
        if moment is not None and offset is not None:
            when = _in_range(((moment - _EPOCH) // _ONE_SECOND - offset) * 1_000_000_000)
        self._seconds[second + zone] = when
        return when

    def _of_text(self, text: str, now: int) -> int | None:
        """Give the time of `Oct 11 22:14:15`. A year that is not told is the last one not ahead of `now`.

        Clocks may run ahead a little, and in January, December is past. A leap day may need a year that is ahead.
        """
        words = text.split()
        month, day, clock = _MONTHS.index(words[0]) + 1, int(words[1]), words[-1]
        if len(words) == _WORDS_WITH_YEAR:
            return self._of_moment(_moment(f"{words[2]}-{month:02}-{day:02}T{clock}"))
        this = datetime.fromtimestamp(now / 1e9, self._zone).year
        for year in (this + 1, this, this - 1):
            when = self._of_moment(_moment(f"{year:04}-{month:02}-{day:02}T{clock}"))
            if when is not None and when <= now + _AHEAD_NS:
                return when
        return self._of_moment(_moment(f"{this:04}-{month:02}-{day:02}T{clock}"))

    def _of_moment(self, moment: datetime | None) -> int | None:
        if moment is None:
            return None
        try:
            return _in_range(int(moment.replace(tzinfo=self._zone).timestamp()) * 1_000_000_000)
        except (ValueError, OverflowError, OSError):  # years that the C library cannot place
            return None


def _mended(text: str) -> str:
    """Give a message without a byte order mark before it, and without more digits of a second than RFC 5424 allows."""
    return _LONG_FRACTION.sub(r"\1", text.lstrip(_MARK))


def _moment(text: str) -> datetime | None:
    """Give the date and time without zone of `2003-10-11T22:14:15`, or None when the calendar has no such time."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _offset(zone: str) -> int | None:
    """Give the seconds that `Z`, `+01:00` or `+0100` is ahead of UTC, or None when there is no such zone."""
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:
        return None
    offset = hours * 3600 + minutes * 60
    return -offset if zone[0] == "-" else offset


def _in_range(when: int) -> int | None:
    return when if 0 <= when < _LATEST else None

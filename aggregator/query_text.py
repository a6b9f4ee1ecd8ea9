"""Queries as people write them: the parameters of `GET /v1/query` and of `muster query`, checked by pydantic."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from aggregator.query import (
    DEFAULT_LAST,
    DEFAULT_LIMIT,
    DEFAULT_RANGE,
    MAX_LIMIT,
    SECOND,
    Aggregate,
    Asked,
    Clock,
    Copies,
    Order,
    Query,
)
from aggregator.selector import parse_selector
from schemas.errors import QueryError, near_names
from schemas.rows import CAPABILITY, Severity

_UNITS: Final[Mapping[str, int]] = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
    "w": 604_800 * SECOND,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d|w)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)\Z")
_MAX_NS: Final = 1 << 62

Text = Annotated[str, Field(max_length=4_096)]


class QueryParameters(BaseModel):
    """One query, as text. Unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    measurement: Annotated[str, Field(max_length=64)]
    """The table: `cpu`, `gpu`, `log`, `event`."""
    fields: Text = ""
    """Comma-separated, each `field` or `field:aggregate`; all when left out."""
    where: Text = ""
    """A selector: `node=n1|n2,gpu!=3,interface=eth*`."""
    since: Text = ""
    """RFC 3339, nanoseconds since 1970, or how long ago: `15m`. Left out: `1h`, of last values `5m`, of last documents
    no bound."""
    until: Text = ""
    """Likewise; no end when left out."""
    every: Text = ""
    """Width of a bucket of time: `10s`, `5m`."""
    aggregate: Text = ""
    """For every field that names none: avg, min, max, sum, count, last, first, rate, p50, p95 or p99."""
    group: Text | None = None
    """Comma-separated names to group by; `all` puts everything in one group. Left out: each series apart."""
    last: bool = False
    """The newest value of every field; of `log`, `event` and `capability` the newest row of each series."""
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    """Rows of the answer; it says `truncated` when there were more."""
    order: Order | None = None
    """Which rows come first: `oldest` or `newest`. Left out: raw rows newest first, everything else oldest first."""
    by: Clock = Clock.READ
    """Which time of logs and events the order goes by: `read`, when Muster read the row (the column `time`), or
    `source`, what the source itself says (`source_time_ns`; `time` where it says none). The range is always by `read`.
    """
    copies: Copies = Copies.APART
    """Of log records in storms: `apart`, as they are stored, or `folded`, copies as one record that says for how many
    it stands, and when the first and the last of them came."""
    contains: Text = ""
    """Only logs and events whose message contains this, upper and lower case alike."""
    matches: Text = ""
    """Only logs and events whose message matches this regular expression (RE2)."""
    severity: Text = ""
    """Only logs and events at least this bad: `warning`, or 0 to 7."""

    def query(self, now_ns: int) -> Query:
        """Give the query, relative times resolved against `now_ns`. Raises QueryError."""
        back = DEFAULT_LAST if self.last else DEFAULT_RANGE
        begin = 0 if self.last and self.measurement == CAPABILITY else now_ns - back
        return Query(
            measurement=self.measurement,
            since=parse_time(self.since, now_ns) if self.since else begin,
            until=parse_time(self.until, now_ns) if self.until else None,
            asked=_asked(self.fields, self.aggregate),
            where=parse_selector(self.where),
            every=parse_duration(self.every) if self.every else None,
            group=_group(self.group),
            last=self.last,
            limit=self.limit,
            order=self.order,
            by=self.by,
            copies=self.copies,
            contains=self.contains,
            matches=self.matches,
            severity=parse_severity(self.severity) if self.severity else None,
        )


def span_words(seconds: float) -> str:
    """Give a length of time in the largest unit of which it is a whole number: `1 day`, `36 hours`, `90.5 seconds`."""
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if isfinite(seconds) and seconds and seconds % size == 0:
            count = int(seconds // size)
            return f"{count:,} {word}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"


def parse_duration(text: str) -> int:
    """Give the nanoseconds of `90s`, `15m`, `1h30m`. Raises QueryError unless it is more than nothing."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise QueryError(f"{text!r} is not a duration such as 30s, 15m, 1h30m or 7d")
    total = sum(round(float(number) * _UNITS[unit]) for number, unit in parts)
    if not 0 < total < _MAX_NS:
        raise QueryError(f"{text!r} is no usable duration: more than nothing, and less than 146 years")
    return total


def parse_time(text: str, now_ns: int) -> int:
    """Give the nanoseconds since 1970 of an RFC 3339 time, a bare number of them, or of `15m` ago. Raises QueryError.

    A date alone is its beginning in UTC.

    Source: RFC 3339; fractions are read to the nanosecond.
    """
    word = text.strip()
    if word.isascii() and word.isdigit():
        if int(word) >= _MAX_NS:
            raise QueryError(f"{text!r} is beyond the year 2116; times in numbers are nanoseconds since 1970")
        return int(word)
    if word == "now":
        return now_ns
    match = _RFC3339.match(f"{word}T00:00:00Z" if _DATE.match(word) else word)
    if match is None:
        try:
            return max(0, now_ns - parse_duration(word.removeprefix("-")))
        except QueryError:
            raise QueryError(
                f"{text!r} is neither RFC 3339, nor nanoseconds since 1970, nor how long ago (15m, 2h, 7d)"
            ) from None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        raise QueryError(f"{text!r} is not a time: {error}") from None
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    whole = since_epoch.days * 86_400 + since_epoch.seconds
    if whole < 0:
        raise QueryError(f"{text!r} is before 1970")
    return whole * SECOND + int((fraction or "0").ljust(9, "0"))


def parse_severity(text: str) -> Severity:
    """Give the severity spelled `warning` or `4`. Raises QueryError that lists the words."""
    word = text.strip().upper()
    if word in Severity.__members__:
        return Severity[word]
    if word.isdigit() and int(word) <= Severity.DEBUG:
        return Severity(int(word))
    words = [severity.name.lower() for severity in Severity]
    hint = near_names(word.lower(), words)
    raise QueryError(f"{text!r} is not a severity.{hint} There is: {', '.join(words)}, or 0 to 7.")


def _asked(fields: str, aggregate: str) -> tuple[Asked, ...]:
    common = _aggregate(aggregate) if aggregate else None
    asked: list[Asked] = []
    for part in filter(None, (part.strip() for part in fields.split(","))):
        name, colon, word = part.partition(":")
        asked.append(Asked(name, _aggregate(word) if colon else common))
    if common and not asked:
        raise QueryError("an aggregate needs fields to apply to: name them")
    return tuple(asked)


def _aggregate(word: str) -> Aggregate:
    try:
        return Aggregate(word.strip().lower())
    except ValueError:
        words = [aggregate.value for aggregate in Aggregate]
        raise QueryError(f"no aggregate {word!r}.{near_names(word, words)} There is: {', '.join(words)}.") from None


def _group(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    if text.strip() in ("", "all"):
        return ()
    names = (name.strip() for name in text.split(","))
    return tuple("node" if name == "subject" else name for name in names)

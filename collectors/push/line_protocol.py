r"""InfluxDB line protocol, one line: `measurement,tag=value field=5i,other="a text" 1700000000000000000`.

| place | a backslash takes the meaning of |
|---|---|
| measurement | comma, space |
| tag key, tag value, field key | comma, equals sign, space |
| text in quotes | quote, backslash |

Before anything else a backslash is itself. Where the specification leaves a choice: a line ends at its line feed, in
quotes too; a field or tag that is there twice is refused, since nobody can know which was meant; so is NaN, as by
InfluxDB. What names may be used is not decided here.

Source: docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol; where that is silent, the parser of InfluxDB 2,
`models/points.go`.
"""

import math
import re
from typing import Final, NamedTuple

from collectors.push.refusal import SYNTAX, VALUE, RefusedError

Tags = tuple[tuple[str, str], ...]
Fields = list[tuple[str, float | int | bool | str]]

MAX_FIELDS: Final = 256
"""Fields of one line."""
_HEAD: Final = re.compile(r"(?:\\ |[^ ])++")
_MEASUREMENT: Final = re.compile(r"(?:\\[, ]|[^, ])*+")
_KEY: Final = re.compile(r"(?:\\[,= ]|[^,= ])*+")
_VALUE: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[^, "]*+', re.DOTALL)
_TO_NEXT: Final = re.compile(r"[^, ]*+")
_SPACES: Final = re.compile(r" *+")
_UNESCAPE_MEASUREMENT: Final = re.compile(r"\\([, ])")
_UNESCAPE_KEY: Final = re.compile(r"\\([,= ])")
_UNESCAPE_TEXT: Final = re.compile(r'\\(["\\])')
_FLOAT: Final = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_WHOLE: Final = re.compile(r"-?[0-9]{1,20}\Z")
_TRUTHS: Final = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)
_NO_NUMBERS: Final = frozenset(("nan", "inf", "-inf", "+inf", "infinity", "-infinity"))
_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64


class Line(NamedTuple):
    """One line, its head not yet taken apart: most heads come again and again."""

    head: str
    """Measurement and tags, as written; `parse_head` reads it."""
    fields: Fields
    """In order; int for `i` and `u`, else float, bool or str. At least one."""
    time_ns: int | None
    """Nanoseconds since 1970, as written; None when the line has no time stamp."""
    offset: int
    """Characters before the head."""


def parse_line(text: str) -> Line:
    """Read one line without its line feed. Raises RefusedError with the place."""
    start = len(text) - len(text.lstrip(" "))
    end = len(text.rstrip(" \r"))
    head = _HEAD.match(text, start, end)
    if head is None:
        raise RefusedError(SYNTAX, "there is nothing in this line", start + 1)
    at = head.end()
    fields_at = _SPACES.match(text, at, end).end()  # type: ignore[union-attr]  # it matches nothing as well
    if fields_at == end:
        raise RefusedError(SYNTAX, "fields are missing: write a space and name=value after this", at + 1)
    fields, at = _fields(text, fields_at, end)
    at = _SPACES.match(text, at, end).end()  # type: ignore[union-attr]
    return Line(head[0], fields, None if at == end else _time(text, at, end), start)


def parse_head(head: str, offset: int = 0) -> tuple[str, Tags]:
    """Give measurement and tags of a head, the tags in order of their keys. Raises RefusedError with the place."""
    end = len(head)
    at = _MEASUREMENT.match(head).end()  # type: ignore[union-attr]
    if not at:
        raise RefusedError(SYNTAX, "a measurement is missing before this", offset + 1)
    measurement = _UNESCAPE_MEASUREMENT.sub(r"\1", head[:at])
    tags: dict[str, str] = {}
    while at < end:
        key, at, key_at = *_key(head, at + 1, end, "tag", offset), at + 1
        found = _KEY.match(head, at, end)
        value_end = at if found is None else found.end()
        if value_end == at:
            raise RefusedError(SYNTAX, f"the tag {key!r:.80} has no value: leave it out", offset + at + 1)
        if value_end < end and head[value_end] == "=":
            raise RefusedError(SYNTAX, r"a second = in a tag: write \= for one in its value", offset + value_end + 1)
        if key in tags:
            raise RefusedError(SYNTAX, f"the tag {key!r:.80} is there twice", offset + key_at + 1)
        tags[key] = _UNESCAPE_KEY.sub(r"\1", head[at:value_end])
        at = value_end
    return measurement, tuple(sorted(tags.items()))


def _key(text: str, at: int, end: int, what: str, offset: int) -> tuple[str, int]:
    """Give a key, and where its value begins."""
    found = _KEY.match(text, at, end)
    stop = at if found is None else found.end()
    if stop == at:
        raise RefusedError(SYNTAX, f"the name of a {what} is missing here", offset + at + 1)
    if stop == end or text[stop] != "=":
        raise RefusedError(SYNTAX, f"a = is missing after the {what} {text[at:stop]!r:.80}", offset + stop + 1)
    key = text[at:stop]
    return (_UNESCAPE_KEY.sub(r"\1", key) if "\\" in key else key), stop + 1


def _fields(text: str, at: int, end: int) -> tuple[Fields, int]:
    """Give the fields, and where they end."""
    fields: Fields = []
    seen: set[str] = set()
    while True:
        key_at = at
        key, at = _key(text, at, end, "field", 0)
        stop = _VALUE.match(text, at, end).end()  # type: ignore[union-attr]
        fields.append((key, _value(key, text, at, stop, end)))
        seen.add(key)
        if len(seen) < len(fields):
            raise RefusedError(SYNTAX, f"the field {key!r:.80} is there twice", key_at + 1)
        if len(fields) > MAX_FIELDS:
            raise RefusedError(SYNTAX, f"more than {MAX_FIELDS} fields in a line", key_at + 1)
        if stop == end or text[stop] == " ":
            return fields, stop
        if text[stop] != ",":
            raise RefusedError(SYNTAX, "after a value comes a comma, a space, or the end of the line", stop + 1)
        at = stop + 1


def _value(key: str, text: str, at: int, stop: int, end: int) -> float | bool | str:
    word = text[at:stop]
    if word.startswith('"'):
        inner = word[1:-1]
        return _UNESCAPE_TEXT.sub(r"\1", inner) if "\\" in inner else inner
    last = word[-1:]
    if last in ("i", "u") and (whole := _whole(word, last)) is not None:
        return whole
    if _FLOAT.match(word):
        number = float(word)
        if math.isinf(number):
            raise RefusedError(VALUE, f"{key!r:.80}: {word[:40]} is larger than any number that is kept", at + 1)
        return number
    truth = _TRUTHS.get(word)
    if truth is None:
        raise _no_value(key, word, text, at, stop, end)
    return truth


def _whole(word: str, suffix: str) -> int | None:
    """Give a whole number in its range, or None."""
    if not _WHOLE.match(word[:-1]) or (suffix == "u" and word.startswith("-")):
        return None
    number = int(word[:-1])
    least, most = (0, _UINT64) if suffix == "u" else (-_INT64, _INT64)
    return number if least <= number < most else None


def _no_value(key: str, word: str, text: str, at: int, stop: int, end: int) -> RefusedError:
    """Say what is wrong with what stands in a value's place."""
    name = f"{key!r:.80}"
    if stop < end and text[stop] == '"':
        if stop == at:
            return RefusedError(SYNTAX, f"{name}: a text begins here, and its closing quote is missing", at + 1)
        return RefusedError(SYNTAX, f"{name}: a quote within a value: a text begins and ends with one", stop + 1)
    if not word:
        return RefusedError(SYNTAX, f"{name} has no value: leave the field out", at + 1)
    if word.casefold() in _NO_NUMBERS:
        return RefusedError(VALUE, f"{name}: {word} is no value: leave the field out when there is none", at + 1)
    if _WHOLE.match(word[:-1]) and word[-1] in "iu":
        return RefusedError(VALUE, f"{name}: {word} is outside of 64 bits", at + 1)
    return RefusedError(
        VALUE, f'{name}: {word[:40]!r} is no value: 1.5 is a number, 5i a whole one, t or f, and "text"', at + 1
    )


def _time(text: str, at: int, end: int) -> int:
    word = text[at:end]
    if not _WHOLE.match(word) or not -_INT64 <= int(word) < _INT64:
        stop = _TO_NEXT.match(text, at, end).end()  # type: ignore[union-attr]
        if stop < end and _WHOLE.match(text[at:stop]):
            raise RefusedError(SYNTAX, "there is more after the time stamp", stop + 1)
        raise RefusedError(SYNTAX, f"{word[:40]!r} is no time stamp: nanoseconds since 1970 as a whole number", at + 1)
    return int(word)

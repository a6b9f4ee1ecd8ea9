"""Durations and ages as people write and read them. The aggregator's own parser imports too much for a command."""

import re
from typing import Final

from schemas.errors import MusterError

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
MAX_SECONDS: Final = 100 * 366 * 86400.0
"""The longest duration that is taken: a hundred years."""
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")


class WordError(MusterError):
    """What was written is none of the words that can stand there."""

    code = "cli.word"


class UsageError(MusterError):
    """The command line cannot be understood."""

    code = "cli.usage"


def seconds_of(text: str) -> float:
    """Give the seconds of `90s`, `10m`, `1h30m`, `30d`. Raises WordError for nothing, and above MAX_SECONDS."""
    parts = _PART.findall(text)
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip() or total <= 0:
        raise WordError(f"{text!r} is not a duration: write 30s, 10m, 1h30m or 7d")
    if total > MAX_SECONDS:
        raise WordError(f"{text!r} is longer than 100 years")
    return total


def expression_of(text: str | None, option: str = "--where") -> str:
    """Give an expression, "" where none was given. Raises WordError for an empty one, which would mean everything."""
    if text is not None and not text.strip():
        raise WordError(f"{option} is empty, and would mean everything: leave it out, or write an expression")
    return text or ""


def age(seconds: float | None) -> str:
    """Give a length of time in one unit, as lists show it: `3 s`, `12 min`, `5 h`, `9 d`; `-` when it is not known."""
    if seconds is None:
        return "-"
    for limit, size, unit in ((100, 1, "s"), (5400, 60, "min"), (129600, 3600, "h")):
        if seconds < limit:
            return f"{max(0.0, seconds) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def ago_ns(then_ns: int | None, now_ns: int) -> str:
    """Give how long ago a time was, in nanoseconds since 1970; `-` when there is none."""
    return age(None if then_ns is None else (now_ns - then_ns) / 1e9)


def shorten(text: str, width: int) -> str:
    """Cut a text to `width` characters, the last of them an ellipsis where something was cut."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"

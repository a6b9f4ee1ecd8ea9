"""The functions and macros of the language, and how those over constants read their text."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from aggregator.expression.runtime import MAX_INT, MIN_INT
from aggregator.expression.types import BOOL, DOUBLE, DURATION, DYN, INT, STRING, TIMESTAMP, Scalar, Type


@dataclass(frozen=True, slots=True)
class Function:
    """A function on values. What it takes, by parameter: the types that will do."""

    parameters: tuple[tuple[Type, ...], ...]
    result: Type
    member: bool = True
    """Called on its first argument: `text.startsWith("a")`."""


FUNCTIONS: Final[dict[str, Function]] = {
    "startsWith": Function(((STRING,), (STRING,)), BOOL),
    "endsWith": Function(((STRING,), (STRING,)), BOOL),
    "contains": Function(((STRING,), (STRING,)), BOOL),
    "matches": Function(((STRING,), (STRING,)), BOOL),
    "double": Function(((DOUBLE, INT, DYN),), DOUBLE, member=False),
    "int": Function(((INT, DOUBLE, DYN),), INT, member=False),
}
"""By name. Besides them `size`, which takes many types and both forms."""

MACROS: Final = ("exists", "all", "exists_one")
"""Called on a list or a map, with a variable and what must hold of it."""

_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION = re.compile(r"([0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})\Z"
)
_QUANTITY = re.compile(
    r"([+-]?)([0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:([eE][+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE])?(B?))\Z"
)
_SCALES: Final[dict[str | None, Fraction]] = {
    **{f"{letter}i": Fraction(1024 ** (power + 1)) for power, letter in enumerate("KMGTPE")},
    **{letter: Fraction(1000 ** (power + 1)) for power, letter in enumerate("kMGTPE")},
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), None: Fraction(1),
}  # fmt: skip
Read = tuple[Scalar, int | float]


def read_duration(text: str) -> Read:
    """Read `1h30m`, `1.5s`, `-250ms`. Raises ValueError.

    Source: Go's time.ParseDuration, as CEL prescribes; the range is that of 64 bits of nanoseconds, about 292 years.
    """
    bare = text[1:] if text[:1] in {"-", "+"} else text
    parts = _DURATION.findall(bare)
    if bare == "0":
        return DURATION, 0
    if not parts or "".join(number + unit for number, unit in parts) != bare:
        raise ValueError(f"{text!r} is not a duration such as 30s, 15m or 1h30m (units: h, m, s, ms, us, ns)")
    total = sum(int(Fraction(_plain(number)) * _NS[unit]) for number, unit in parts)
    total = -total if text[:1] == "-" else total
    if not MIN_INT <= total <= MAX_INT:
        raise ValueError(f"{text!r} is longer than 292 years")
    return DURATION, total


def read_timestamp(text: str) -> Read:
    """Read a time of RFC 3339, to the nanosecond. Raises ValueError."""
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T12:00:00Z (RFC 3339)")
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone == 'Z' else zone}")
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time: {error}") from None
    total = (since.days * 86_400 + since.seconds) * 10**9 + int((fraction or "0").ljust(9, "0"))
    if not MIN_INT <= total <= MAX_INT:
        raise ValueError(f"{text!r} is not between the years 1678 and 2262")
    return TIMESTAMP, total


def read_quantity(text: str) -> Read:
    """Read `40GiB`, `1.5G`, `500m`: a whole number where it is one, else a double. Raises ValueError.

    Source: Kubernetes, resource.Quantity (`m` is a thousandth, `M` a million); a `B` for bytes may follow.
    """
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity such as 40GiB, 1.5G or 500m")
    sign, number, exponent, suffix, byte = match.groups()
    if byte and suffix in {"n", "u", "m"}:
        raise ValueError(f"{text!r} is less than a byte: m is a thousandth, M a million")
    value = Fraction(_plain(number)) * (Fraction(f"1{exponent}") if exponent else _SCALES[suffix])
    value = -value if sign == "-" else value
    if not MIN_INT <= value <= MAX_INT:
        raise ValueError(f"{text!r} does not fit into 64 bits")
    return (INT, int(value)) if value.denominator == 1 else (DOUBLE, float(value))


def _plain(number: str) -> str:
    """Give digits as Fraction reads them in every version of Python: neither `5.` nor `.5`."""
    return f"0{number}0" if "." in number else number


CONSTANTS: Final[dict[str, Callable[[str], Read]]] = {
    "duration": read_duration,
    "timestamp": read_timestamp,
    "quantity": read_quantity,
}
"""Functions of one constant text, read when the expression is compiled."""

NAMES: Final = (*FUNCTIONS, "size", "has", *MACROS, *CONSTANTS)
"""Every function and macro."""


def duration_text(value: int) -> str:
    """Give nanoseconds as `read_duration` reads them, in the largest unit that divides them."""
    unit = next(unit for unit in ("h", "m", "s", "ms", "us", "ns") if value % _NS[unit] == 0)
    return f"{value // _NS[unit]}{unit}"


def timestamp_text(value: int) -> str:
    """Give nanoseconds since 1970 as `read_timestamp` reads them."""
    seconds, rest = divmod(value, 10**9)
    moment = datetime.fromtimestamp(seconds, UTC)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"

"""Values become what a column holds, or a fault. The table of what becomes what is in `collectors.blocks`."""

import math
from collections.abc import Callable
from typing import Final

from schemas.metrics import ValueType
from schemas.rows import FieldValue

MAX_TEXT: Final = 1 << 16
"""Characters of one text."""


class FaultError(Exception):
    """A value, row or parcel that is refused. `Packer` counts it; it goes no further."""

    def __init__(self, reason: str, note: str) -> None:
        super().__init__(f"{reason}: {note}")
        self.reason = reason
        self.note = note


def plain(text: str) -> str:
    """Give a text that can be encoded: half surrogate pairs (as in undecodable file names) are spelled out."""
    if text.isascii():
        return str.__str__(text)
    return text.encode("utf-8", "backslashreplace").decode()


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (float, int)):
        raise FaultError("type", f"{value!r:.80} is not a number")
    try:
        number = float(value)
    except OverflowError:
        raise FaultError("out_of_range", "an integer too large for a float") from None
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return None
    raise FaultError("not_finite", str(number))


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FaultError("type", f"{value!r:.80} is not a whole number")
    number = int(value)
    if not -(1 << 63) <= number < 1 << 64:
        raise FaultError("out_of_range", "an integer beyond 64 bits")
    return number


def _bool(value: object) -> bool:
    if value is True or value is False:
        return bool(value)
    raise FaultError("type", f"{value!r:.80} is not true or false")


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise FaultError("type", f"{value!r:.80} is not a text")
    return plain(value)


CONVERT: Final[dict[ValueType, Callable[[object], FieldValue]]] = {
    ValueType.FLOAT: _float,
    ValueType.INT: _int,
    ValueType.BOOL: _bool,
    ValueType.STR: _str,
}
"""By the type of a column, what makes a value fit for it: None when it was not reported; raises FaultError."""

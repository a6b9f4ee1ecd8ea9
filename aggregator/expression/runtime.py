"""What compiled expressions are made of: faults, and the operations that need more than an operator of Python.

Operands are never absent here: the code around has seen to that. What cannot be computed gives a Fault, never raises.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1


class Fault(Enum):
    """Why a value could not be computed. It is false, so that a fault is no match, and it is counted."""

    OVERFLOW = "overflow"
    """A whole number, duration or timestamp beyond 64 bits."""
    DIVISION_BY_ZERO = "division_by_zero"
    WRONG_TYPE = "wrong_type"
    """A value was not of the type that it was used as: one of type dyn, or one that its source misdeclared."""
    OUT_OF_RANGE = "out_of_range"
    """A double that no whole number stands for."""
    TOO_LONG = "too_long"
    """A text too long for the pattern that it was to be searched with."""

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return False


Truth = bool | None | Fault
"""True: it holds. False: it does not. None: unknown, for something is absent. Fault: it could not be computed."""


def whole(value: int) -> int | Fault:
    """Give a result, when it fits into 64 bits with sign."""
    return value if MIN_INT <= value <= MAX_INT else Fault.OVERFLOW


def divide(left: int, right: int) -> int | Fault:
    """Divide whole numbers, towards zero."""
    if right == 0:
        return Fault.DIVISION_BY_ZERO
    quotient = abs(left) // abs(right)
    return whole(quotient if (left < 0) is (right < 0) else -quotient)


def remainder(left: int, right: int) -> int | Fault:
    """Give what is left after `divide`, with the sign of `left`."""
    if right == 0:
        return Fault.DIVISION_BY_ZERO
    if left == MIN_INT and right == -1:
        return Fault.OVERFLOW
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def divide_double(left: float, right: float) -> float:
    """Divide as IEEE 754 says: by zero it is an infinity, or not a number."""
    if right:
        return left / right
    if left == 0 or left != left:  # noqa: PLR0124  # not a number is not itself
        return float("nan")
    return left * float("inf") * (-1.0 if str(right)[0] == "-" else 1.0)


def to_int(value: float) -> int | Fault:
    """Cut off a double's fraction; CEL leaves out the two ends of the range, which doubles cannot tell apart."""
    if -(2.0**63) < value < 2.0**63:
        return int(value)
    return Fault.OUT_OF_RANGE


def as_bool(value: Any) -> bool | Fault:
    """Give a value that is a truth."""
    return value if value.__class__ is bool else Fault.WRONG_TYPE


def as_int(value: Any) -> int | Fault:
    """Give a value that is a whole number."""
    return value if value.__class__ is int else Fault.WRONG_TYPE


def as_double(value: Any) -> float | Fault:
    """Give a value that is a double."""
    return value if value.__class__ is float else Fault.WRONG_TYPE


def as_number(value: Any) -> float | Fault:
    """Give a value that is a whole number or a double."""
    return value if value.__class__ is int or value.__class__ is float else Fault.WRONG_TYPE


def as_string(value: Any) -> str | Fault:
    """Give a value that is a text."""
    return value if value.__class__ is str else Fault.WRONG_TYPE


def as_map(value: Any) -> Mapping[str, Any] | Fault:
    """Give a value that is a map."""
    return value if isinstance(value, Mapping) else Fault.WRONG_TYPE


def as_many(value: Any) -> Any:
    """Give a value that is a list or a map."""
    return value if isinstance(value, list | tuple | Mapping) else Fault.WRONG_TYPE


def as_sized(value: Any) -> Any:
    """Give a value that has a size: a text, a list or a map."""
    return value if isinstance(value, str | list | tuple | Mapping) else Fault.WRONG_TYPE


def dyn_double(value: Any) -> float | Fault:
    """Give a value that is a number as a double."""
    return float(value) if value.__class__ is float or value.__class__ is int else Fault.WRONG_TYPE


def dyn_int(value: Any) -> int | Fault:
    """Give a value that is a number as a whole number."""
    if value.__class__ is float:
        return to_int(value)
    return whole(value) if value.__class__ is int else Fault.WRONG_TYPE


def same(left: Any, right: Any) -> bool | Fault:
    """Tell whether two values, one of them of type dyn, are equal: of different types they are not, numbers apart."""
    if not isinstance(left, _SCALARS) and not isinstance(right, _SCALARS):
        return Fault.WRONG_TYPE
    return bool(left == right) and (left.__class__ is bool) is (right.__class__ is bool)


def different(left: Any, right: Any) -> bool | Fault:
    """Give the opposite of `same`."""
    truth = same(left, right)
    return truth if truth.__class__ is Fault else not truth


_SCALARS = (bool, int, float, str)


def among(value: Any, items: Iterable[Any]) -> Truth:
    """Tell whether a value is one of some; unknown when it may be one that is absent."""
    return exists(items, lambda item: item if item is None or item.__class__ is Fault else same(value, item))


def exists(items: Iterable[Any], holds: Callable[[Any], Truth]) -> Truth:
    """Tell whether something holds of any item."""
    absent, fault = False, None
    for item in items:
        truth = holds(item)
        if truth is True:
            return True
        if truth is None:
            absent = True
        elif truth is not False and fault is None:
            fault = truth
    return None if absent else fault if fault is not None else False


def every(items: Iterable[Any], holds: Callable[[Any], Truth]) -> Truth:
    """Tell whether something holds of every item."""
    absent, fault = False, None
    for item in items:
        truth = holds(item)
        if truth is False:
            return False
        if truth is None:
            absent = True
        elif truth is not True and fault is None:
            fault = truth
    return None if absent else fault if fault is not None else True


def exists_one(items: Iterable[Any], holds: Callable[[Any], Truth]) -> Truth:
    """Tell whether something holds of exactly one item; as CEL says, every item must be known."""
    truths = [holds(item) for item in items]
    if None in truths:
        return None
    for truth in truths:
        if truth.__class__ is Fault:
            return truth
    return truths.count(True) == 1

"""The types of values: what the checker reasons with, and how records of names are held in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from schemas.metrics import Unit


@dataclass(frozen=True, slots=True)
class Scalar:
    """A type without parts."""

    word: str

    def __str__(self) -> str:
        return self.word


BOOL: Final = Scalar("bool")
INT: Final = Scalar("int")
"""Whole numbers. What is computed must fit into 64 bits with sign; what is read may be up to 2**64 - 1."""
DOUBLE: Final = Scalar("double")
STRING: Final = Scalar("string")
DURATION: Final = Scalar("duration")
"""Held as nanoseconds."""
TIMESTAMP: Final = Scalar("timestamp")
"""Held as nanoseconds since 1970, UTC."""
DYN: Final = Scalar("dyn")
"""Known only when it is read: bool, int, double, string, a list or a map of them. CEL's word."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list: any sequence."""

    item: "Type"

    def __str__(self) -> str:
        return f"list({self.item})"


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map from texts: any mapping. A key that is not there, or holds None, is absent."""

    item: "Type"

    def __str__(self) -> str:
        return f"map(string, {self.item})"


class Held(Enum):
    """How a record's fields are reached in memory."""

    ITEMS = "items"
    """A mapping from the fields' names; a missing one is absent."""
    ATTRIBUTES = "attributes"
    """Attributes of an object."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record."""

    type: "Type"
    meaning: str = ""
    """One sentence for people."""
    unit: Unit = Unit.NONE
    """The base unit of a number, where it is known."""
    read: Callable[[Any], object] | None = None
    """How it is read from what holds the record; None: by its name."""
    blank_is_absent: bool = False
    """Whether "" stands for not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Named fields: a measurement, a device, a part. Each record is a type of its own."""

    name: str
    fields: Mapping[str, Field] = field(repr=False)
    held: Held = Held.ATTRIBUTES

    def __str__(self) -> str:
        return self.name


Type = Scalar | ListOf | MapOf | Record

NUMBERS: Final = (INT, DOUBLE)
ORDERED: Final = (BOOL, INT, DOUBLE, STRING, DURATION, TIMESTAMP)
"""What `<` takes, two of one type, or two numbers."""


def comparable(left: Type, right: Type) -> bool:
    """Tell whether values of two types can be compared: one scalar type, or two numbers."""
    return (left == right and left in ORDERED) or (left in NUMBERS and right in NUMBERS)

"""What the parser makes of a text: a tree of words, not yet checked against any names or types.

`at` is the place in the text, in characters from 0; it takes no part in comparisons.
"""

from dataclasses import dataclass, field
from typing import Final

MAX_TEXT: Final = 8_192
"""Characters of an expression."""
MAX_DEPTH: Final = 32
"""Expressions within expressions: brackets, operators of different rank, chained arithmetic."""
MAX_NODES: Final = 1_000
"""Words, operators and literals of an expression."""
MAX_LIST: Final = 256
"""Items of one list in the text."""

LiteralValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Literal:
    """`true`, `5`, `0.5`, `"text"`."""

    value: LiteralValue
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    """A bare name: `gpu`."""

    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.name`."""

    operand: "Syntax"
    name: str
    at: int = field(default=0, compare=False)
    """The place of the name."""


@dataclass(frozen=True, slots=True)
class Subscript:
    """`operand[key]`."""

    operand: "Syntax"
    key: "Syntax"
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)`, or `target.function(arguments)`."""

    function: str
    target: "Syntax | None"
    arguments: tuple["Syntax", ...]
    at: int = field(default=0, compare=False)
    """The place of the function's name."""


@dataclass(frozen=True, slots=True)
class Items:
    """`[a, b, c]`."""

    items: tuple["Syntax", ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Prefix:
    """`!operand` or `-operand`."""

    operator: str
    operand: "Syntax"
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Infix:
    """`left operator right`: arithmetic, a comparison, or `in`."""

    operator: str
    left: "Syntax"
    right: "Syntax"
    at: int = field(default=0, compare=False)
    """The place of the operator."""


@dataclass(frozen=True, slots=True)
class Logical:
    """`a && b && c` or `a || b || c`: two or more terms of one operator."""

    operator: str
    terms: tuple["Syntax", ...]
    at: int = field(default=0, compare=False)
    """The place of the first operator."""


@dataclass(frozen=True, slots=True)
class Conditional:
    """`condition ? then : otherwise`."""

    condition: "Syntax"
    then: "Syntax"
    otherwise: "Syntax"
    at: int = field(default=0, compare=False)
    """The place of the question mark."""


Syntax = Literal | Name | Select | Subscript | Call | Items | Prefix | Infix | Logical | Conditional

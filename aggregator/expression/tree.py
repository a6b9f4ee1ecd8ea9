"""The typed tree: an expression whose every name is known and whose every operator takes what it is given.

Both back ends are made from it, and so is its canonical text. `at` is the place in the text that was compiled, in
characters from 0; it takes no part in comparisons.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from aggregator.expression.types import Type


@dataclass(frozen=True, slots=True)
class Node:
    """What every node has."""

    type: Type
    at: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A value known from the text. A duration or timestamp is nanoseconds."""

    value: bool | int | float | str


@dataclass(frozen=True, slots=True)
class Read(Node):
    """What stands under a name of the environment: `("gpu", "temperature_celsius")`. A column, in columns."""

    path: tuple[str, ...]

    @property
    def name(self) -> str:
        """The path as it is written."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """The item that a macro looks at."""

    name: str


@dataclass(frozen=True, slots=True)
class Member(Node):
    """A field of a record that is an item of a list."""

    operand: Node
    name: str


@dataclass(frozen=True, slots=True)
class Key(Node):
    """The value of a key of a map."""

    operand: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Present(Node):
    """`has(operand)`: never unknown."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Assume(Node):
    """A value of type dyn, used as `what`: a fault when it is something else. Not written in the text."""

    operand: Node
    what: str
    """The function `as_<what>` of `runtime`."""


@dataclass(frozen=True, slots=True)
class Not(Node):
    """`!operand`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Negative(Node):
    """`-operand`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """`left operator right`, of `+ - * / %`; `+` of two texts joins them."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """`left operator right`, of `== != < <= > >=`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Within(Node):
    """`value in items`; `items` is a list, or a map, of which the keys count."""

    value: Node
    items: Node


@dataclass(frozen=True, slots=True)
class AllOf(Node):
    """`a && b && c`."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class AnyOf(Node):
    """`a || b || c`."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choose(Node):
    """`condition ? then : otherwise`."""

    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Items(Node):
    """A list in the text."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Apply(Node):
    """A function of `functions.FUNCTIONS`; of one called on a value, that is the first argument."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Quantify(Node):
    """`items.macro(variable, body)`."""

    macro: str
    items: Node
    variable: str
    body: Node


def walk(node: Node) -> Iterator[Node]:
    """Give a node and all below it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        for part in fields(node):
            value = getattr(node, part.name)
            if isinstance(value, Node):
                waiting.append(value)
            elif isinstance(value, tuple):
                waiting += [one for one in value if isinstance(one, Node)]

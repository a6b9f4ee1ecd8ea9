"""A compiled expression: its typed tree, and a function of objects or of columns made from it.

expression = compile_expression('gpu.temperature_celsius > 85.0 && has(gpu.power_watts)', environment)
predicate = expression.on_objects("gpu")
predicate({"temperature_celsius": 91.0, "power_watts": 240.0})  # True
mask = expression.on_columns()(2, {"gpu.temperature_celsius": [91.0, None], "gpu.power_watts": [240.0, 3.0]})
mask.outcomes  # [True, None]
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from aggregator.expression.checker import Checker
from aggregator.expression.emit import Code, Emitter
from aggregator.expression.environment import Environment
from aggregator.expression.errors import ExpressionTypeError
from aggregator.expression.parser import parse
from aggregator.expression.printer import print_tree
from aggregator.expression.runtime import Fault, Truth
from aggregator.expression.tree import Node, Read, walk
from aggregator.expression.types import BOOL, DYN, Record

Column = Sequence[Any]
"""Values by row; None is absent."""


class Counts(msgspec.Struct, frozen=True):
    """What became of some rows. The four sum up to all of them."""

    matched: int = 0
    unmatched: int = 0
    absent: int = 0
    """No match, for something that was asked about is absent."""
    faults: int = 0
    """No match, for something could not be computed."""


class Mask:
    """What an expression says of each of some rows."""

    __slots__ = ("outcomes",)

    def __init__(self, outcomes: list[Truth]) -> None:
        self.outcomes: Final = outcomes
        """By row."""

    @property
    def survivors(self) -> list[int]:
        """The numbers of the rows that match, ascending."""
        return [row for row, outcome in enumerate(self.outcomes) if outcome is True]

    @property
    def counts(self) -> Counts:
        """How many rows had which outcome."""
        matched, unmatched, absent = (self.outcomes.count(one) for one in (True, False, None))
        return Counts(matched, unmatched, absent, len(self.outcomes) - matched - unmatched - absent)

    @property
    def faults(self) -> dict[Fault, int]:
        """How many rows had which fault."""
        found = {fault: self.outcomes.count(fault) for fault in Fault}
        return {fault: count for fault, count in found.items() if count}


ColumnPredicate = Callable[[int, Mapping[str, Column]], Mask]
"""Takes how many rows there are, and columns by dotted name; a column that is not there is absent in every row."""


class Expression:
    """An expression that has been checked against an environment. Any thread may use it."""

    def __init__(self, text: str, tree: Node, environment: Environment, hints: Sequence[str] = ()) -> None:
        self.text: Final = text
        """As it was written."""
        self.tree: Final = tree
        self.environment: Final = environment
        self.hints: Final = tuple(hints)
        """What is allowed and hardly meant, for whoever wrote it."""

    def __str__(self) -> str:
        """Give the canonical text: equal for expressions that say the same in other brackets and spaces."""
        return print_tree(self.tree)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The dotted names that it reads, sorted: the columns it needs."""
        return tuple(sorted({node.name for node in walk(self.tree) if isinstance(node, Read)}))

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The roots that it reads, sorted: by them a rule is found for a measurement."""
        return tuple(sorted({name.partition(".")[0] for name in self.names}))

    def on_objects(self, *roots: str) -> Callable[..., Any]:
        """Give the function that evaluates it on objects, one argument for each of `roots`, in that order.

        Of a predicate it returns True, False, None (something is absent) or a Fault: only True is true. A root that is
        None is absent in all its fields. Without names it takes the roots that the expression reads, sorted. It never
        raises: an object that is not what the environment says of it is a fault. Raises ValueError when a root that is
        read is not named.
        """
        arguments = roots or self.roots
        if missing := set(self.roots) - {*arguments}:
            raise ValueError(f"the expression reads {', '.join(sorted(missing))} as well")
        places = {root: f"r{place}" for place, root in enumerate(arguments)}

        def read(emitter: Emitter, node: Read) -> Code:
            code = Code(places[node.path[0]], absent=True, atom=True)
            for record, name in self.environment.steps(node.path):
                code = emitter.step(record, name, code)
            return code

        emitter = Emitter(self.environment, read)
        return emitter.guarded([*places.values()], emitter.emit(self.tree).text)

    def on_columns(self) -> ColumnPredicate:
        """Give the function that evaluates it on columns, all rows in one call.

        It raises only ValueError, on columns of different lengths.
        """
        names = self.names
        places = {name: f"v{place}" for place, name in enumerate(names)}

        def read(_emitter: Emitter, node: Read) -> Code:
            return Code(places[node.name], absent=True, atom=True)

        emitter = Emitter(self.environment, read)
        value, columns = emitter.emit(self.tree).text, [f"c{place}" for place in range(len(names))]
        over = f"for {', '.join(places.values())} in zip({', '.join(columns)})" if len(names) > 1 else "for v0 in c0"
        one_row = emitter.guarded([*places.values()], value)
        all_rows = emitter.function(["rows", *columns], f"return [{value} {over if names else 'for _ in range(rows)'}]")

        def evaluate(rows: int, given: Mapping[str, Column]) -> Mask:
            if any(len(column) != rows for column in given.values()):
                raise ValueError(f"every column must have {rows} rows")
            blank: Column = () if all(name in given for name in names) else [None] * rows
            chosen = [given.get(name, blank) for name in names]
            try:
                return Mask(all_rows(rows, *chosen))
            except Exception:  # noqa: BLE001  # one bad value: the row that holds it is a fault, the others stand
                return Mask([one_row(*values) for values in zip(*chosen, strict=True)])

        return evaluate


def compile_expression(text: str, environment: Environment) -> Expression:
    """Compile a predicate: what is true, false, or unknown of a row or an object.

    Raises ExpressionError, with the place and what to do, whatever the text is.
    """
    expression = compile_value(text, environment)
    if expression.tree.type == DYN:
        tree = Checker(text, environment).truth(expression.tree, "a condition")
        return Expression(text, tree, environment, expression.hints)
    if expression.tree.type != BOOL:
        message = f"a condition is true or false, and this is {expression.tree.type}: compare it with something"
        raise ExpressionTypeError(message, text, expression.tree.at)
    return expression


def compile_value(text: str, environment: Environment) -> Expression:
    """Compile an expression of any type but a record. Raises ExpressionError."""
    checker = Checker(text, environment)
    tree = checker.check(parse(text))
    for node in walk(tree):
        if isinstance(node, Read) and isinstance(node.type, Record):
            message = f"{node.name} is not a value: write one of its fields, {_example(node)}"
            raise ExpressionTypeError(message, text, node.at)
    return Expression(text, tree, environment, checker.hints)


def _example(node: Read) -> str:
    assert isinstance(node.type, Record)
    return f"{node.name}.{next(iter(node.type.fields), '...')}"

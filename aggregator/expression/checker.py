"""Words into the typed tree: every name is looked up, every operator told what it takes.

A value of type dyn may be used as anything once: what it is used as is assumed, and is a fault where it is not so.
"""

from typing import Final

from aggregator.expression.calls import CallChecker
from aggregator.expression.environment import Environment
from aggregator.expression.errors import ExpressionNameError, ExpressionTypeError
from aggregator.expression.syntax import (
    Call,
    Conditional,
    Infix,
    Items,
    Literal,
    Logical,
    Name,
    Prefix,
    Select,
    Subscript,
    Syntax,
)
from aggregator.expression.tree import (
    AllOf,
    AnyOf,
    Arithmetic,
    Choose,
    Compare,
    Constant,
    Key,
    Member,
    Negative,
    Node,
    Not,
    Read,
    Variable,
    Within,
)
from aggregator.expression.tree import Items as ItemsNode
from aggregator.expression.types import (
    BOOL,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NUMBERS,
    ORDERED,
    STRING,
    TIMESTAMP,
    ListOf,
    MapOf,
    Record,
    Type,
    comparable,
)
from schemas.errors import near_names
from schemas.metrics import Unit

_WORDS: Final = {BOOL: "bool", INT: "int", DOUBLE: "double", STRING: "string"}
"""What dyn may be assumed to be: the word of `runtime.as_<word>`."""
_RESULTS: Final[dict[tuple[str, Type, Type], Type]] = {
    **{(operator, INT, INT): INT for operator in "+-*/%"},
    **{(operator, DOUBLE, DOUBLE): DOUBLE for operator in "+-*/"},
    ("+", STRING, STRING): STRING,
    ("+", DURATION, DURATION): DURATION,
    ("-", DURATION, DURATION): DURATION,
    ("+", TIMESTAMP, DURATION): TIMESTAMP,
    ("+", DURATION, TIMESTAMP): TIMESTAMP,
    ("-", TIMESTAMP, DURATION): TIMESTAMP,
    ("-", TIMESTAMP, TIMESTAMP): DURATION,
}
"""What arithmetic gives."""


class Checker(CallChecker):
    """Checks one text against one environment. `hints` gathers what is allowed and hardly meant."""

    def __init__(self, text: str, environment: Environment) -> None:
        super().__init__(text)
        self._environment = environment
        self.hints: list[str] = []

    def check(self, syntax: Syntax) -> Node:
        """Give the typed tree. Raises ExpressionNameError, ExpressionTypeError, ExpressionPatternError."""
        match syntax:
            case Literal():
                return Constant(_type_of(syntax.value), syntax.value, at=syntax.at)
            case Name():
                return self._name(syntax)
            case Select():
                return self._select(syntax)
            case Subscript():
                return self._subscript(syntax)
            case Call():
                return self.call(syntax)
            case Items():
                return self._items(syntax)
            case Prefix():
                return self._prefix(syntax)
            case Infix():
                return self._infix(syntax)
            case Logical():
                return self._logical(syntax)
            case Conditional():
                return self._conditional(syntax)

    # ------------------------------------------------------------------------------------------ names

    def _name(self, syntax: Name) -> Node:
        variable = self.variable(syntax.name)
        if variable is not None:
            return Variable(variable, syntax.name, at=syntax.at)
        roots = self._environment.roots
        if syntax.name not in roots:
            known = [*roots]
            listed = f" There is: {', '.join(sorted(known))}." if len(known) <= 12 else ""
            message = f"there is no {syntax.name!r} here.{near_names(syntax.name, known)}{listed}"
            raise ExpressionNameError(message, self._text, syntax.at)
        return Read(roots[syntax.name], (syntax.name,), at=syntax.at)

    def _select(self, syntax: Select) -> Node:
        operand = self.check(syntax.operand)
        if isinstance(operand.type, Record):
            field = operand.type.fields.get(syntax.name)
            if field is None:
                self._no_field(operand.type, syntax)
            assert field is not None
            if isinstance(operand, Read):
                return Read(field.type, (*operand.path, syntax.name), at=operand.at)
            return Member(field.type, operand, syntax.name, at=syntax.at)
        if isinstance(operand.type, MapOf) or operand.type == DYN:
            return self._key(operand, Constant(STRING, syntax.name, at=syntax.at), syntax.at)
        raise ExpressionTypeError(f"{operand.type} has no fields", self._text, syntax.at)

    def _no_field(self, record: Record, syntax: Select) -> None:
        known = [*record.fields]
        near = near_names(syntax.name, known)
        if not near and len(known) <= 12:
            near = f" There is: {', '.join(known)}."
        message = f"{record} has no field {syntax.name!r}.{near}"
        raise ExpressionNameError(message, self._text, syntax.at)

    def _subscript(self, syntax: Subscript) -> Node:
        operand = self.check(syntax.operand)
        key = self.check(syntax.key)
        if isinstance(operand.type, ListOf):
            message = "lists have no order to rely on: write list.exists(x, ...) or value in list"
            raise ExpressionTypeError(message, self._text, syntax.at)
        if not isinstance(operand.type, MapOf) and operand.type != DYN:
            raise ExpressionTypeError(f"{operand.type} has no keys", self._text, syntax.at)
        if key.type == DYN:
            key = self.assume(key, "string")
        if key.type != STRING:
            raise ExpressionTypeError(f"a key is a string, not {key.type}", self._text, key.at)
        return self._key(operand, key, syntax.at)

    def _key(self, operand: Node, key: Node, at: int) -> Node:
        if isinstance(operand.type, MapOf):
            return Key(operand.type.item, operand, key, at=at)
        return Key(DYN, self.assume(operand, "map"), key, at=at)

    # ------------------------------------------------------------------------------------------ operators

    def _items(self, syntax: Items) -> Node:
        items = tuple(self.check(item) for item in syntax.items)
        if not items:
            raise ExpressionTypeError("an empty list holds nothing to compare with", self._text, syntax.at)
        first = items[0].type
        for item in items:
            if item.type not in (*ORDERED, DYN):
                raise ExpressionTypeError(f"a list here holds plain values, not {item.type}", self._text, item.at)
            if item.type != first:
                message = (
                    f"a list holds values of one type, here {first}; this is {item.type}{_remedy(first, item.type)}"
                )
                raise ExpressionTypeError(message, self._text, item.at)
        return ItemsNode(ListOf(first), items, at=syntax.at)

    def _prefix(self, syntax: Prefix) -> Node:
        operand = self.check(syntax.operand)
        if syntax.operator == "!":
            return Not(BOOL, self.truth(operand, "'!'"), at=syntax.at)
        if isinstance(operand, Constant) and operand.type in NUMBERS and operand.value != -(2**63):
            return Constant(operand.type, -operand.value, at=syntax.at)  # type: ignore[operator]
        if operand.type not in (*NUMBERS, DURATION):
            message = f"'-' takes a number or a duration, not {operand.type}{self.dyn_remedy(operand.type)}"
            raise ExpressionTypeError(message, self._text, operand.at)
        return Negative(operand.type, operand, at=syntax.at)

    def _infix(self, syntax: Infix) -> Node:
        left, right = self.check(syntax.left), self.check(syntax.right)
        if syntax.operator == "in":
            return self._within(left, right, syntax.at)
        if syntax.operator in "+-*/%":
            return self._arithmetic(syntax, left, right)
        return self._compare(syntax, left, right)

    def _arithmetic(self, syntax: Infix, left: Node, right: Node) -> Node:
        if left.type == DYN and right.type in _WORDS:
            left = self.assume(left, _WORDS[right.type])
        elif right.type == DYN and left.type in _WORDS:
            right = self.assume(right, _WORDS[left.type])
        result = _RESULTS.get((syntax.operator, left.type, right.type))
        if result is None:
            message = f"'{syntax.operator}' does not take {left.type} and {right.type}{_remedy(left.type, right.type)}"
            raise ExpressionTypeError(message, self._text, syntax.at)
        return Arithmetic(result, syntax.operator, left, right, at=syntax.at)

    def _compare(self, syntax: Infix, left: Node, right: Node) -> Node:
        if DYN in (left.type, right.type):
            left, right = self._compare_dyn(syntax, left, right)
        elif not comparable(left.type, right.type):
            message = f"{left.type} and {right.type} cannot be compared{_remedy(left.type, right.type)}"
            raise ExpressionTypeError(message, self._text, syntax.at)
        self._compare_units(syntax, left, right)
        return Compare(BOOL, syntax.operator, left, right, at=syntax.at)

    def _compare_dyn(self, syntax: Infix, left: Node, right: Node) -> tuple[Node, Node]:
        """Say what a dyn is taken to be beside the other side. Equality is defined for any two plain values."""
        other = right.type if left.type == DYN else left.type
        if other not in (*_WORDS, DYN):
            raise ExpressionTypeError(f"dyn and {other} cannot be compared", self._text, syntax.at)
        if syntax.operator in {"==", "!="}:
            return left, right
        if other == DYN:
            message = "it is not known what these two are: write double(x) or int(x) around one of them"
            raise ExpressionTypeError(message, self._text, syntax.at)
        word = "number" if other in NUMBERS else _WORDS[other]
        if left.type == DYN:
            return self.assume(left, word), right
        return left, self.assume(right, word)

    def _compare_units(self, syntax: Infix, left: Node, right: Node) -> None:
        units = (self._unit(left), self._unit(right))
        if None not in units and units[0] is not units[1]:
            words = " and ".join(unit.value.strip() or "a number of things" for unit in units if unit)
            raise ExpressionTypeError(f"{words} cannot be compared", self._text, syntax.at)
        for unit, other in ((units[0], right), (units[1], left)):
            if unit is Unit.RATIO and isinstance(other, Constant) and abs(float(other.value)) > 1:
                self.hints.append(
                    f"a ratio is a share of 1, and {other.value} is beyond it: for per cent divide by 100"
                )

    def _unit(self, node: Node) -> Unit | None:
        """Give the unit of a number that is read as it is; None when it is not known."""
        if not isinstance(node, Read) or node.type not in NUMBERS:
            return None
        record, name = self._environment.steps(node.path)[-1]
        unit = record.fields[name].unit
        return None if unit is Unit.NONE else unit

    def _within(self, value: Node, items: Node, at: int) -> Node:
        if items.type == DYN:
            items = self.assume(items, "many")
        item: Type = DYN
        if isinstance(items.type, ListOf):
            item = items.type.item
        elif isinstance(items.type, MapOf):
            item = STRING
        elif items.type != DYN:
            raise ExpressionTypeError(f"'in' takes a list or a map, not {items.type}", self._text, items.at)
        if value.type not in (*ORDERED, DYN) or (DYN not in (value.type, item) and not comparable(value.type, item)):
            message = f"this can hold no {value.type}: it holds {item}{_remedy(item, value.type)}"
            raise ExpressionTypeError(message, self._text, at)
        return Within(BOOL, value, items, at=at)

    def _logical(self, syntax: Logical) -> Node:
        kind = AllOf if syntax.operator == "&&" else AnyOf
        terms: list[Node] = []
        for one in syntax.terms:
            term = self.truth(self.check(one), f"'{syntax.operator}'")
            terms += term.terms if isinstance(term, kind) else [term]
        return kind(BOOL, tuple(terms), at=syntax.at)

    def _conditional(self, syntax: Conditional) -> Node:
        condition = self.truth(self.check(syntax.condition), "'?'")
        then, otherwise = self.check(syntax.then), self.check(syntax.otherwise)
        if then.type != otherwise.type:
            message = (
                f"both sides of ':' must be of one type; these are {then.type} and {otherwise.type}"
                f"{_remedy(then.type, otherwise.type)}"
            )
            raise ExpressionTypeError(message, self._text, otherwise.at)
        return Choose(then.type, condition, then, otherwise, at=syntax.at)


def _type_of(value: bool | float | str) -> Type:  # a value, not a switch
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT
    return DOUBLE if isinstance(value, float) else STRING


def _remedy(left: Type, right: Type) -> str:
    """Say what makes two types one, when something does."""
    both = {left, right}
    if both == {INT, DOUBLE}:
        return ": write double(x) around the whole number, or 2.0 for 2"
    if DYN in both:
        return ": write double(x) or int(x) around what is dyn"
    if DURATION in both and both & {INT, DOUBLE, STRING}:
        return ': write duration("5m")'
    if TIMESTAMP in both and both & {INT, DOUBLE, STRING}:
        return ': write timestamp("2026-01-31T12:00:00Z")'
    if STRING in both and both & {INT, DOUBLE}:
        return ': a number stands without quotation marks; quantity("40GiB") gives one from a text'
    if STRING in both and BOOL in both:
        return ": true and false stand without quotation marks"
    return ""

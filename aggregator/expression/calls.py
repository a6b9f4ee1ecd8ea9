"""The part of the checker that knows functions and macros."""

from abc import ABC, abstractmethod
from typing import Final

from aggregator.expression.errors import (
    ExpressionLimitError,
    ExpressionNameError,
    ExpressionPatternError,
    ExpressionSyntaxError,
    ExpressionTypeError,
)
from aggregator.expression.functions import CONSTANTS, FUNCTIONS, MACROS, NAMES
from aggregator.expression.pattern import search_of
from aggregator.expression.pattern_syntax import PatternError
from aggregator.expression.syntax import Call, Name, Select, Syntax
from aggregator.expression.tree import Apply, Assume, Constant, Key, Member, Node, Present, Quantify, Read
from aggregator.expression.types import BOOL, DYN, INT, STRING, ListOf, MapOf, Type
from schemas.errors import near_names

MAX_MACROS: Final = 2
"""Macros within macros: each looks at every item of its list for every item of the one around it."""
_ELSEWHERE: Final = {
    "has_key": "write has(x.key)",
    "len": "write size(x)",
    "length": "write x.size()",
    "startswith": "write startsWith",
    "endswith": "write endsWith",
    "any": "write list.exists(x, ...)",
    "now": "expressions do not know the time: a window is a field of its rule",
    "rate": "expressions look at one row: a window is a field of its rule",
    "avg": "expressions look at one row: a window is a field of its rule",
    "dyn": "every value here has a type already",
    "map": "lists are asked with exists, all and exists_one",
    "filter": "lists are asked with exists, all and exists_one",
    "uint": "write int(x)",
    "string": "compare the value itself",
    "float": "write double(x)",
}


class CallChecker(ABC):
    """Checks calls; what else there is, the class below checks."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._variables: list[tuple[str, Type]] = []

    @abstractmethod
    def check(self, syntax: Syntax) -> Node:
        """Give the typed tree of any expression."""

    def variable(self, name: str) -> Type | None:
        """Give the type of a macro's variable, the innermost of that name; None when there is none."""
        return next((type_ for known, type_ in reversed(self._variables) if known == name), None)

    def assume(self, node: Node, what: str) -> Node:
        """Take a dyn to be something."""
        types: dict[str, Type] = {"bool": BOOL, "int": INT, "string": STRING, "double": FUNCTIONS["double"].result}
        return Assume(types.get(what, DYN), node, what, at=node.at)

    def truth(self, node: Node, who: str) -> Node:
        """Give a node that is a truth. Raises ExpressionTypeError."""
        if node.type == DYN:
            return self.assume(node, "bool")
        if node.type != BOOL:
            message = f"{who} takes true or false, not {node.type}: compare it with something"
            raise ExpressionTypeError(message, self._text, node.at)
        return node

    def dyn_remedy(self, type_: Type) -> str:
        """Say what to write around a dyn; "" for other types."""
        return ": write double(x) or int(x) around it" if type_ == DYN else ""

    def call(self, syntax: Call) -> Node:
        """Give the typed tree of a call."""
        name = syntax.function
        if name not in NAMES:
            remedy = _ELSEWHERE.get(name)
            near = f": {remedy}" if remedy else f".{near_names(name, NAMES)} There is: {', '.join(NAMES)}."
            raise ExpressionNameError(f"there is no function {name!r}{near}", self._text, syntax.at)
        member = name in MACROS or (name in FUNCTIONS and FUNCTIONS[name].member)
        if member is not (syntax.target is not None) and name != "size":
            form = f"x.{name}(...)" if member else f"{name}(...)"
            raise ExpressionSyntaxError(f"{name} is written {form}", self._text, syntax.at)
        if name in CONSTANTS:
            return self._constant(syntax)
        if name in MACROS:
            return self._macro(syntax)
        if name == "has":
            return self._has(syntax)
        return self._size(syntax) if name == "size" else self._function(syntax)

    def _arity(self, syntax: Call, wanted: int, what: str) -> None:
        if len(syntax.arguments) != wanted:
            raise ExpressionTypeError(f"{syntax.function} takes {what}", self._text, syntax.at)

    def _constant(self, syntax: Call) -> Node:
        what = f"one text in quotation marks, {syntax.function}({_EXAMPLES[syntax.function]!r})"
        self._arity(syntax, 1, what)
        argument = self.check(syntax.arguments[0])
        if not isinstance(argument, Constant) or not isinstance(argument.value, str):
            raise ExpressionTypeError(f"{syntax.function} takes {what}", self._text, argument.at)
        try:
            type_, value = CONSTANTS[syntax.function](argument.value)
        except ValueError as error:
            raise ExpressionTypeError(str(error), self._text, argument.at) from None
        return Constant(type_, value, at=syntax.at)

    def _has(self, syntax: Call) -> Node:
        self._arity(syntax, 1, "one field: has(x.field)")
        argument = syntax.arguments[0]
        if not isinstance(argument, Select):
            message = 'has takes a field, has(x.field); for another key write "key" in x'
            raise ExpressionTypeError(message, self._text, argument.at)
        node = self.check(argument)
        assert isinstance(node, Read | Member | Key)
        return Present(BOOL, node, at=syntax.at)

    def _macro(self, syntax: Call) -> Node:
        self._arity(syntax, 2, f"a name and what must hold: list.{syntax.function}(x, x > 5)")
        variable, body = syntax.arguments
        if not isinstance(variable, Name):
            raise ExpressionTypeError("a name for the item is expected", self._text, variable.at)
        assert syntax.target is not None
        items = self.check(syntax.target)
        if items.type == DYN:
            items = self.assume(items, "many")
        if not isinstance(items.type, ListOf | MapOf) and items.type != DYN:
            message = f"{syntax.function} takes a list or a map, not {items.type}"
            raise ExpressionTypeError(message, self._text, syntax.at)
        if len(self._variables) == MAX_MACROS:
            message = f"macros are nested deeper than {MAX_MACROS}: make several rules of it"
            raise ExpressionLimitError(message, self._text, syntax.at)
        item = items.type.item if isinstance(items.type, ListOf) else STRING if isinstance(items.type, MapOf) else DYN
        self._variables.append((variable.name, item))
        checked = self.truth(self.check(body), syntax.function)
        self._variables.pop()
        return Quantify(BOOL, syntax.function, items, variable.name, checked, at=syntax.at)

    def _size(self, syntax: Call) -> Node:
        self._arity(syntax, 0 if syntax.target else 1, "one text, list or map: size(x) or x.size()")
        argument = self.check(syntax.target or syntax.arguments[0])
        if argument.type == DYN:
            argument = self.assume(argument, "sized")
        elif argument.type != STRING and not isinstance(argument.type, ListOf | MapOf):
            message = f"size takes a text, a list or a map, not {argument.type}"
            raise ExpressionTypeError(message, self._text, argument.at)
        return Apply(INT, "size", (argument,), at=syntax.at)

    def _function(self, syntax: Call) -> Node:
        known = FUNCTIONS[syntax.function]
        written = (syntax.target, *syntax.arguments) if syntax.target else syntax.arguments
        self._arity(syntax, len(known.parameters) - known.member, f"{len(known.parameters) - known.member} argument")
        arguments: list[Node] = []
        for one, types in zip(written, known.parameters, strict=True):
            argument = self.check(one)
            if argument.type == DYN and DYN not in types:
                argument = self.assume(argument, "string")
            if argument.type not in types:
                wanted = " or ".join(str(type_) for type_ in types)
                message = f"{syntax.function} takes {wanted}, not {argument.type}"
                raise ExpressionTypeError(message, self._text, argument.at)
            arguments.append(argument)
        if syntax.function == "matches":
            self._pattern(arguments[1])
        return Apply(known.result, syntax.function, tuple(arguments), at=syntax.at)

    def _pattern(self, argument: Node) -> None:
        if not isinstance(argument, Constant) or not isinstance(argument.value, str):
            raise ExpressionPatternError("a pattern stands in quotation marks", self._text, argument.at)
        try:
            search_of(argument.value)
        except PatternError as error:
            message = f"in the pattern, after {error.at} characters: {error}"
            raise ExpressionPatternError(message, self._text, argument.at) from None


_EXAMPLES: Final = {"duration": "5m", "timestamp": "2026-01-31T12:00:00Z", "quantity": "40GiB"}

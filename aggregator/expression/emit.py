"""The typed tree as one expression of Python, which both back ends put into a function.

A value is what it is; None is absent; a Fault could not be computed. Of each part it is known whether it can be either,
so that what is always there is not asked about: `gpu.power_watts > 300.0` becomes `None if v0 is None else v0 > 300.0`.
`&&` and `||` are Kleene's: false with anything is false, true or anything is true; unknown outranks a fault, as in CEL.

Nothing of the user's text gets into the code but names of the environment, checked to be plain words, and constants
by `repr`.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from aggregator.expression import runtime
from aggregator.expression.environment import Environment
from aggregator.expression.pattern import search_of
from aggregator.expression.tree import (
    AllOf,
    AnyOf,
    Apply,
    Arithmetic,
    Assume,
    Choose,
    Compare,
    Constant,
    Items,
    Key,
    Member,
    Negative,
    Node,
    Not,
    Present,
    Quantify,
    Read,
    Variable,
    Within,
)
from aggregator.expression.types import DOUBLE, DYN, STRING, Field, Held, ListOf, MapOf, Record

_RUNTIME: Final = {
    name: getattr(runtime, name)
    for name in [
        "Fault",
        "whole",
        "divide",
        "remainder",
        "divide_double",
        "to_int",
        "among",
        "exists",
        "every",
        "exists_one",
        "same",
        "different",
        "as_bool",
        "as_int",
        "as_double",
        "as_number",
        "as_string",
        "as_map",
        "as_many",
        "as_sized",
        "dyn_double",
        "dyn_int",
    ]
}
_BUILTINS: Final[dict[str, object]] = {"len": len, "float": float, "zip": zip, "range": range, "Exception": Exception}
_QUANTIFIERS: Final = {"exists": "exists", "all": "every", "exists_one": "exists_one"}


class Code(msgspec.Struct, frozen=True):
    """A piece of Python."""

    text: str
    """An expression that can stand anywhere: a name, a literal, or in brackets."""
    absent: bool = False
    """It may be None."""
    fault: bool = False
    """It may be a Fault."""
    atom: bool = False
    """It costs nothing to write twice."""


class Emitter:
    """Makes code for one function. `namespace` is what the code needs besides its arguments."""

    def __init__(self, environment: Environment, read: "Callable[[Emitter, Read], Code]") -> None:
        self.namespace: dict[str, object] = {"__builtins__": {}, **_BUILTINS, **_RUNTIME}
        self._environment = environment
        self._reader = read
        self._variables: list[tuple[str, str]] = []
        self._count = 0

    def function(self, arguments: list[str], *lines: str) -> Callable[..., Any]:
        """Give the function of `arguments` with these lines."""
        body = "".join(f"    {line}\n" for line in lines)
        source = f"def evaluate({', '.join(arguments)}):\n{body}"
        exec(compile(source, "<expression>", "exec"), self.namespace)  # noqa: S102  # see the module's docstring
        function: Callable[..., Any] = self.namespace["evaluate"]  # type: ignore[assignment]
        return function

    def guarded(self, arguments: list[str], value: str) -> Callable[..., Any]:
        """Give the function of `arguments` that returns `value`, or a Fault where a value is not what it should be."""
        return self.function(
            arguments, "try:", f"    return {value}", "except Exception:", "    return Fault.WRONG_TYPE"
        )

    def fresh(self) -> str:
        """Give a name that nothing else has."""
        self._count += 1
        return f"t{self._count}"

    def constant(self, value: object) -> str:
        """Give the name under which the code finds an object."""
        name = f"k{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def emit(self, node: Node) -> Code:
        """Give the code of a node."""
        method: Callable[[Any], Code] = getattr(self, f"_{type(node).__name__.lower()}")
        return method(node)

    # ------------------------------------------------------------------------------------------ frame

    def strict(self, operands: list[Code], build: Callable[..., str], *, fault: bool = False) -> Code:
        """Give the code of an operation that is absent, or a fault, when an operand is."""
        names, absent, faults = [], [], []
        for code in operands:
            bound = code.text
            if code.absent or code.fault:
                name = code.text if code.atom else self.fresh()
                bound = name if code.atom else f"({name} := {code.text})"
                absent.append(f"{bound} is None")
                if code.fault:
                    faults.append(f"{name} if {name}.__class__ is Fault else ")
                bound = name
            names.append(bound)
        text = "".join(faults) + build(*names)
        if absent:
            text = f"None if {' or '.join(absent)} else {text}"
        return Code(f"({text})", bool(absent), fault or bool(faults))

    def step(self, record: Record, name: str, operand: Code) -> Code:
        """Give the code of reading a field of a record."""
        field = record.fields[name]

        def build(held: str) -> str:
            text = self._field(record, name, field, held)
            return f"({text} or None)" if field.blank_is_absent else text

        code = self.strict([operand], build)
        return Code(code.text, absent=True, fault=code.fault)

    def _field(self, record: Record, name: str, field: Field, held: str) -> str:
        if field.read is not None:
            return f"{self.constant(field.read)}({held})"
        return f"{held}.get({name!r})" if record.held is Held.ITEMS else f"{held}.{name}"

    # ------------------------------------------------------------------------------------------ leaves

    def _constant(self, node: Constant) -> Code:
        text = repr(node.value)
        return Code(f"({text})" if text.startswith("-") else text, atom=True)

    def _read(self, node: Read) -> Code:
        return self._reader(self, node)

    def _variable(self, node: Variable) -> Code:
        name = next(name for known, name in reversed(self._variables) if known == node.name)
        return Code(name, absent=True, atom=True)

    def _member(self, node: Member) -> Code:
        assert isinstance(node.operand.type, Record)
        return self.step(node.operand.type, node.name, self.emit(node.operand))

    def _key(self, node: Key) -> Code:
        code = self.strict([self.emit(node.operand), self.emit(node.key)], lambda held, key: f"{held}.get({key})")
        return Code(code.text, absent=True, fault=code.fault)

    def _items(self, node: Items) -> Code:
        return Code(f"({''.join(f'{self.emit(item).text}, ' for item in node.items)})")

    def _present(self, node: Present) -> Code:
        code = self.emit(node.operand)
        if not code.fault:
            return Code(f"({code.text} is not None)")
        name = self.fresh()
        return Code(f"(({name} := {code.text}) is not None and {name}.__class__ is not Fault)")

    def _assume(self, node: Assume) -> Code:
        return self.strict([self.emit(node.operand)], lambda value: f"as_{node.what}({value})", fault=True)

    # ------------------------------------------------------------------------------------------ operators

    def _not(self, node: Not) -> Code:
        return self.strict([self.emit(node.operand)], lambda value: f"not {value}")

    def _negative(self, node: Negative) -> Code:
        if node.type == DOUBLE:
            return self.strict([self.emit(node.operand)], lambda value: f"-{value}")
        return self.strict([self.emit(node.operand)], lambda value: f"whole(-{value})", fault=True)

    def _arithmetic(self, node: Arithmetic) -> Code:
        operands = [self.emit(node.left), self.emit(node.right)]
        if node.type == DOUBLE and node.operator == "/":
            return self.strict(operands, lambda left, right: f"divide_double({left}, {right})")
        if node.type in (DOUBLE, STRING):
            return self.strict(operands, lambda left, right: f"{left} {node.operator} {right}")
        form = {"/": "divide({}, {})", "%": "remainder({}, {})"}.get(node.operator, f"whole({{}} {node.operator} {{}})")
        return self.strict(operands, form.format, fault=True)

    def _compare(self, node: Compare) -> Code:
        operands = [self.emit(node.left), self.emit(node.right)]
        if DYN in (node.left.type, node.right.type) and node.operator in {"==", "!="}:
            word = "same" if node.operator == "==" else "different"
            return self.strict(operands, lambda left, right: f"{word}({left}, {right})", fault=True)
        return self.strict(operands, lambda left, right: f"{left} {node.operator} {right}")

    def _within(self, node: Within) -> Code:
        value, items = self.emit(node.value), node.items
        if isinstance(items, Items) and all(isinstance(item, Constant) for item in items.items):
            values = frozenset(item.value for item in items.items if isinstance(item, Constant))
            name = self.constant(values)
            if node.value.type != DYN:
                return self.strict([value], lambda one: f"{one} in {name}")
        if isinstance(items.type, MapOf) and node.value.type == STRING:
            return self.strict([value, self.emit(items)], lambda one, many: f"{many}.get({one}) is not None")
        operands = [value, self.emit(items)]
        may_fault = node.value.type == DYN or not (isinstance(items.type, ListOf) and items.type.item != DYN)
        may_fault = may_fault or any(
            self.emit(item).fault for item in (items.items if isinstance(items, Items) else ())
        )
        code = self.strict(operands, lambda one, many: f"among({one}, {many})", fault=may_fault)
        return Code(code.text, absent=True, fault=code.fault)

    def _allof(self, node: AllOf) -> Code:
        return self._logical(node.terms, ends=False)

    def _anyof(self, node: AnyOf) -> Code:
        return self._logical(node.terms, ends=True)

    def _logical(self, terms: tuple[Node, ...], *, ends: bool) -> Code:
        """Give the code of terms joined by `&&` (`ends` false: a false one settles it) or `||`."""
        tests, absent, faults = [], [], []
        for term in terms:
            code = self.emit(term)
            if not code.absent and not code.fault:
                tests.append(code.text if ends else f"not {code.text}")
                continue
            name = code.text if code.atom else self.fresh()
            tests.append(f"{name if code.atom else f'({name} := {code.text})'} is {ends}")
            if code.absent:
                absent.append(f"{name} is None")
            if code.fault:
                faults.append(f"{name} if {name}.__class__ is Fault else ")
        text = f"{ends} if {' or '.join(tests)} else "
        if absent:
            text += f"None if {' or '.join(absent)} else "
        return Code(f"({text}{''.join(faults)}{not ends})", bool(absent), bool(faults))

    def _choose(self, node: Choose) -> Code:
        condition, then, otherwise = self.emit(node.condition), self.emit(node.then), self.emit(node.otherwise)
        absent, fault = then.absent or otherwise.absent, then.fault or otherwise.fault
        if not condition.absent and not condition.fault:
            return Code(f"({then.text} if {condition.text} else {otherwise.text})", absent, fault)
        name = condition.text if condition.atom else self.fresh()
        test = name if condition.atom else f"({name} := {condition.text})"
        text = f"({then.text} if {test} is True else {otherwise.text} if {name} is False else {name})"
        return Code(text, absent or condition.absent, fault or condition.fault)

    # ------------------------------------------------------------------------------------------ functions

    def _quantify(self, node: Quantify) -> Code:
        items = self.emit(node.items)
        name = self.fresh()
        self._variables.append((node.variable, name))
        body = self.emit(node.body)
        self._variables.pop()
        word = _QUANTIFIERS[node.macro]
        code = self.strict([items], lambda many: f"{word}({many}, lambda {name}: {body.text})", fault=body.fault)
        return Code(code.text, code.absent or body.absent, code.fault)

    def _apply(self, node: Apply) -> Code:
        if node.function == "matches":
            return self._matches(node)
        operands = [self.emit(argument) for argument in node.arguments]
        if node.function == "int" and node.arguments[0].type == DOUBLE:
            return self.strict(operands, "to_int({})".format, fault=True)
        if node.arguments[0].type == DYN and node.function in {"int", "double"}:
            return self.strict(operands, f"dyn_{node.function}({{}})".format, fault=True)
        if node.function == "int":
            return operands[0]
        forms = {"double": "float({})", "size": "len({})", "contains": "{1} in {0}", "startsWith": "{}.startswith({})"}
        return self.strict(operands, forms.get(node.function, "{}.endswith({})").format)

    def _matches(self, node: Apply) -> Code:
        text, pattern = node.arguments
        assert isinstance(pattern, Constant)
        search, fault = search_of(str(pattern.value))
        name = self.constant(search)
        return self.strict([self.emit(text)], lambda subject: f"{name}({subject})", fault=fault)

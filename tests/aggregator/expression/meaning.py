"""What an expression means, said as plainly as can be: a walk over the typed tree, value by value.

Slow, and written without a look at the compiler: where the two differ, one of them is wrong.
"""

import math
import operator
import re
from collections.abc import Callable
from typing import Any

from aggregator.expression import Fault
from aggregator.expression import tree as nodes
from aggregator.expression.types import DOUBLE, INT, STRING

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "double": (float,),
    "number": (int, float),
    "string": (str,),
    "map": (dict,),
    "many": (list, dict),
    "sized": (str, list, dict),
}


class _Stop(Exception):  # noqa: N818  # not an error: how a value that is none travels up
    def __init__(self, outcome: Fault | None) -> None:
        self.outcome = outcome


def meaning(node: nodes.Node, row: dict[str, Any]) -> Any:
    """Give the value of an expression over one row of the world, None when it is absent, or a Fault."""
    return _Meaning({"x": row}).outcome(node)


def _worst(outcomes: list[Any]) -> Any:
    """Unknown outranks a fault; of faults the first counts."""
    if None in outcomes:
        return None
    return next((one for one in outcomes if isinstance(one, Fault)), _Nothing)


_Nothing = object()


class _Meaning:
    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def outcome(self, node: nodes.Node) -> Any:
        try:
            return self._value(node)
        except _Stop as stop:
            return stop.outcome

    def _all(self, *parts: nodes.Node) -> list[Any]:
        """Give the values of operands, all of which are needed."""
        outcomes = [self.outcome(part) for part in parts]
        worst = _worst(outcomes)
        if worst is not _Nothing:
            raise _Stop(worst)
        return outcomes

    def _value(self, node: nodes.Node) -> Any:  # noqa: C901, PLR0911, PLR0912  # one case for each kind of node
        match node:
            case nodes.Constant():
                return node.value
            case nodes.Variable():
                return self._names[node.name]
            case nodes.Read():
                value: Any = self._names
                for name in node.path:
                    value = None if value is None else value.get(name)
                return None if node.path[-1] == "serial" and not value else value
            case nodes.Member():
                (held,) = self._all(node.operand)
                return held.get(node.name)
            case nodes.Key():
                held, key = self._all(node.operand, node.key)
                return held.get(key)
            case nodes.Present():
                return self.outcome(node.operand) is not None and not isinstance(self.outcome(node.operand), Fault)
            case nodes.Assume():
                (value,) = self._all(node.operand)
                fits = isinstance(value, KINDS[node.what]) and (node.what == "bool") is isinstance(value, bool)
                return value if fits else Fault.WRONG_TYPE
            case nodes.AllOf() | nodes.AnyOf():
                return self._logical([self.outcome(term) for term in node.terms], isinstance(node, nodes.AnyOf))
            case nodes.Not():
                return not self._all(node.operand)[0]
            case nodes.Items():
                return [self.outcome(item) for item in node.items]
            case nodes.Choose():
                (condition,) = self._all(node.condition)
                return self._value(node.then if condition else node.otherwise)
            case nodes.Compare():
                return self._compare(node.operator, *self._all(node.left, node.right))
            case nodes.Within():
                return self._within(node)
            case nodes.Quantify():
                return self._quantify(node)
            case nodes.Negative():
                return self._fits(-self._all(node.operand)[0], node)
            case nodes.Arithmetic():
                return self._arithmetic(node, *self._all(node.left, node.right))
            case nodes.Apply():
                return self._apply(node, *self._all(*node.arguments))
        raise AssertionError(node)

    def _logical(self, outcomes: list[Any], ends: bool) -> Any:
        if ends in [one for one in outcomes if isinstance(one, bool)]:
            return ends
        worst = _worst(outcomes)
        return (not ends) if worst is _Nothing else worst

    def _compare(self, sign: str, left: Any, right: Any) -> Any:
        if isinstance(left, list | dict) and isinstance(right, list | dict):
            return Fault.WRONG_TYPE
        if isinstance(left, bool) is not isinstance(right, bool):
            return sign == "!="
        return COMPARE[sign](left, right)

    def _within(self, node: nodes.Within) -> Any:
        if isinstance(node.items, nodes.Items):
            value = self._all(node.value)[0]
            items = [self.outcome(item) for item in node.items.items]
        else:
            value, items = self._all(node.value, node.items)
        if isinstance(items, dict) and isinstance(value, str) and node.value.type == STRING:
            return items.get(value) is not None if not isinstance(node.items, nodes.Assume) else value in items
        same = [one if one is None or isinstance(one, Fault) else self._compare("==", value, one) for one in items]
        return self._logical(same, True)

    def _quantify(self, node: nodes.Quantify) -> Any:
        (items,) = self._all(node.items)
        outcomes = [_Meaning({**self._names, node.variable: item}).outcome(node.body) for item in items]
        if node.macro != "exists_one":
            return self._logical(outcomes, node.macro == "exists")
        worst = _worst(outcomes)
        return outcomes.count(True) == 1 if worst is _Nothing else worst

    def _fits(self, value: Any, node: nodes.Node) -> Any:
        if node.type in (DOUBLE, STRING):
            return value
        return value if -(2**63) <= value < 2**63 else Fault.OVERFLOW

    def _arithmetic(self, node: nodes.Arithmetic, left: Any, right: Any) -> Any:
        if node.operator in "/%":
            if node.type == DOUBLE:
                return self._ieee(left, right)
            if right == 0:
                return Fault.DIVISION_BY_ZERO
            quotient = math.trunc(abs(left) // abs(right)) * (1 if (left < 0) == (right < 0) else -1)
            if not -(2**63) <= quotient < 2**63:
                return Fault.OVERFLOW
            return quotient if node.operator == "/" else left - quotient * right
        signs = {"+": operator.add, "-": operator.sub, "*": operator.mul}
        return self._fits(signs[node.operator](left, right), node)

    def _ieee(self, left: float, right: float) -> float:
        if right != 0:
            return left / right
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)

    def _apply(self, node: nodes.Apply, *values: Any) -> Any:
        first = values[0]
        match node.function:
            case "size":
                return len(first)
            case "startsWith":
                return first[: len(values[1])] == values[1]
            case "endsWith":
                return values[1] == "" or first[-len(values[1]) :] == values[1]
            case "contains":
                return first.find(values[1]) >= 0
            case "matches":
                return re.search(values[1].replace("$", r"\Z"), first) is not None
        if isinstance(first, bool) or not isinstance(first, int | float):
            return Fault.WRONG_TYPE
        if node.function == "double":
            return float(first)
        if isinstance(first, float) and (math.isnan(first) or abs(first) >= 2**63):
            return Fault.OUT_OF_RANGE
        return self._fits(math.trunc(first), nodes.Constant(INT, 0))

"""The typed tree as text, in one form only: equal trees have equal texts, and the text compiles to the tree."""

from typing import Final

from aggregator.expression.functions import FUNCTIONS, duration_text, timestamp_text
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
from aggregator.expression.types import DURATION, TIMESTAMP

_CHOOSE, _ANY, _ALL, _RELATION, _SUM, _PRODUCT, _UNARY, _MEMBER = range(8)
"""Ranks, loosest first."""
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def print_tree(node: Node) -> str:
    """Give the canonical text of a tree."""
    return _print(node, _CHOOSE)


def quoted(text: str) -> str:
    """Give a text in quotation marks."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _print(node: Node, rank: int) -> str:
    """Print a node where only what binds at least as tightly as `rank` may stand without brackets."""
    if isinstance(node, Assume):
        return _print(node.operand, rank)
    text, own = _ranked(node)
    return f"({text})" if own < rank else text


def _ranked(node: Node) -> tuple[str, int]:
    match node:
        case Choose():
            condition, then = _print(node.condition, _ANY), _print(node.then, _ANY)
            return f"{condition} ? {then} : {_print(node.otherwise, _CHOOSE)}", _CHOOSE
        case AnyOf():
            return " || ".join(_print(term, _ALL) for term in node.terms), _ANY
        case AllOf():
            return " && ".join(_print(term, _RELATION) for term in node.terms), _ALL
        case Compare():
            return f"{_print(node.left, _RELATION)} {node.operator} {_print(node.right, _SUM)}", _RELATION
        case Within():
            return f"{_print(node.value, _RELATION)} in {_print(node.items, _SUM)}", _RELATION
        case Arithmetic():
            own = _SUM if node.operator in "+-" else _PRODUCT
            return f"{_print(node.left, own)} {node.operator} {_print(node.right, own + 1)}", own
        case Not():
            return f"!{_print(node.operand, _UNARY if isinstance(node.operand, Not) else _MEMBER)}", _UNARY
        case Negative():
            return f"-{_print(node.operand, _UNARY if isinstance(node.operand, Negative) else _MEMBER)}", _UNARY
        case Constant():
            return _constant(node)
        case _:
            return _member(node), _MEMBER


def _constant(node: Constant) -> tuple[str, int]:
    value = node.value
    if node.type == DURATION:
        return f'duration("{duration_text(int(value))}")', _MEMBER
    if node.type == TIMESTAMP:
        return f'timestamp("{timestamp_text(int(value))}")', _MEMBER
    if isinstance(value, str):
        return quoted(value), _MEMBER
    if isinstance(value, bool):
        return "true" if value else "false", _MEMBER
    text = repr(value)
    return text, _UNARY if text.startswith("-") else _MEMBER


def _member(node: Node) -> str:
    match node:
        case Read():
            return node.name
        case Variable():
            return node.name
        case Member():
            return f"{_print(node.operand, _MEMBER)}.{node.name}"
        case Key():
            return f"{_print(node.operand, _MEMBER)}[{_print(node.key, _CHOOSE)}]"
        case Present():
            return f"has({_field(node.operand)})"
        case Items():
            return f"[{', '.join(_print(item, _CHOOSE) for item in node.items)}]"
        case Quantify():
            return f"{_print(node.items, _MEMBER)}.{node.macro}({node.variable}, {_print(node.body, _CHOOSE)})"
        case Apply():
            return _call(node)
    raise AssertionError(node)


def _field(node: Node) -> str:
    """Print what `has` takes: a key there is written as a field."""
    if isinstance(node, Key) and isinstance(node.key, Constant):
        return f"{_print(node.operand, _MEMBER)}.{node.key.value}"
    return _print(node, _MEMBER)


def _call(node: Apply) -> str:
    if node.function in FUNCTIONS and FUNCTIONS[node.function].member:
        target, *arguments = node.arguments
        return f"{_print(target, _MEMBER)}.{node.function}({', '.join(_print(one, _CHOOSE) for one in arguments)})"
    return f"{node.function}({', '.join(_print(one, _CHOOSE) for one in node.arguments)})"

"""Text into words: names, numbers, texts, operators, each with its place.

Source: the CEL language definition, https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax. Left out of
the subset, with an error that says so: unsigned integers (`5u`), bytes (`b"..."`), `null`, maps and messages (`{...}`).
"""

import re
from dataclasses import dataclass
from typing import Final

from aggregator.expression.errors import ExpressionLimitError, ExpressionSyntaxError
from aggregator.expression.syntax import MAX_TEXT, LiteralValue

RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
"""Words that CEL keeps for itself: none of them is a name, though a field may bear it."""
KEYWORDS: Final = frozenset({"true", "false", "null", "in"})
"""Words with a meaning; neither names nor fields."""

OPERATORS: Final = ("&&", "||", "==", "!=", "<=", ">=", *"<>+-*/%!?:.,()[]")

_REMEDIES: Final = {
    "=": "write == to compare",
    "&": "write && for 'and'",
    "|": "write || for 'or'",
    "{": "maps and messages are not part of this language",
    "`": "write texts in \" or '",
    "\u201c": "write texts in plain quotation marks, \" or '",
    "\u201d": "write texts in plain quotation marks, \" or '",
    "~": "write text.matches(pattern) for a regular expression",
    "$": "names stand as they are, without $",
}
_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip
_SPACE = re.compile(r"(?:[ \t\n\f\r]+|//[^\n]*)*+")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+")
_NUMBER = re.compile(
    r"0[xX](?P<hex>[0-9a-fA-F]++)|(?P<double>[0-9]*+\.[0-9]++(?:[eE][+-]?[0-9]++)?|[0-9]++[eE][+-]?[0-9]++)|[0-9]++"
)
_TEXT = re.compile(r"(?P<raw>[rR])?(?P<mark>\"\"\"|'''|\"|')")
_ESCAPE = re.compile(
    r"\\(?:[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<o>[0-3][0-7]{2})|(?P<one>.))",
    re.DOTALL,
)
MAX_INT: Final = 2**63 - 1
"""The largest whole number."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word. `kind`: `name`, `literal`, `end`, or the operator itself."""

    kind: str
    at: int
    text: str = ""
    """As written, for names."""
    value: LiteralValue = False
    """Of a literal. A whole number may be MAX_INT + 1: `-9223372036854775808` is two words."""


def tokens(text: str) -> list[Token]:
    """Give the words of a text, an `end` last. Raises ExpressionSyntaxError or ExpressionLimitError."""
    if len(text) > MAX_TEXT:
        message = f"an expression of {len(text)} characters exceeds {MAX_TEXT}: make several rules of it"
        raise ExpressionLimitError(message, text[: MAX_TEXT + 1], MAX_TEXT)
    found: list[Token] = []
    at = _skip(text, 0)
    while at < len(text):
        token, at = _token(text, at)
        found.append(token)
        at = _skip(text, at)
    found.append(Token("end", len(text)))
    return found


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _token(text: str, at: int) -> tuple[Token, int]:
    if match := _TEXT.match(text, at):
        value, end = _text(text, at, match)
        return Token("literal", at, value=value), end
    if match := _NUMBER.match(text, at):
        return _number(text, at, match), match.end()
    if match := _WORD.match(text, at):
        return _word(text, at, match[0]), match.end()
    for operator in OPERATORS:
        if text.startswith(operator, at):
            return Token(operator, at), at + len(operator)
    letter = text[at]
    remedy = _REMEDIES.get(letter, "it has no meaning here")
    raise ExpressionSyntaxError(f"{letter!r} is not part of an expression: {remedy}", text, at)


def _word(text: str, at: int, word: str) -> Token:
    if word in {"true", "false"}:
        return Token("literal", at, word, word == "true")
    if word == "in":
        return Token("in", at)
    if word == "null":
        message = "null is not part of this language: write has(x) to ask whether x is there"
        raise ExpressionSyntaxError(message, text, at)
    if word.lower() in {"b", "rb", "br"} and text[at + len(word) : at + len(word) + 1] in {'"', "'"}:
        raise ExpressionSyntaxError("bytes are not part of this language: write a text without b", text, at)
    return Token("name", at, word)


def _number(text: str, at: int, match: re.Match[str]) -> Token:
    if follows := _WORD.match(text, match.end()):
        if follows[0] in {"u", "U"}:
            message = f"unsigned numbers are not part of this language: write {match[0]}"
            raise ExpressionSyntaxError(message, text, match.end())
        message = f'{match[0]}{follows[0]} is not a number: write quantity("40GiB") or duration("5m") for units'
        raise ExpressionSyntaxError(message, text, at)
    if match["double"]:
        double = float(match["double"])
        if double == float("inf"):
            raise ExpressionSyntaxError(f"{match[0]} is beyond what a double can hold", text, at)
        return Token("literal", at, value=double)
    number = int(match["hex"], 16) if match["hex"] else int(match[0][:40])
    if number > MAX_INT + 1:
        raise ExpressionSyntaxError(f"a whole number of at most {MAX_INT} is expected", text, at)
    return Token("literal", at, value=number)


def _text(text: str, at: int, opening: re.Match[str]) -> tuple[str, int]:
    """Read a text; give it, and where it ends."""
    mark, begin = opening["mark"], opening.end()
    parts: list[str] = []
    place = begin
    while not text.startswith(mark, place):
        letter = text[place : place + 1]
        if not letter or (letter in "\r\n" and len(mark) == 1):
            message = f"a text that begins here does not end: {mark} is missing"
            raise ExpressionSyntaxError(message, text, at)
        if letter == "\\" and not opening["raw"]:
            letter, place = _escape(text, place)
        else:
            place += 1
        parts.append(letter)
    return "".join(parts), place + len(mark)


def _escape(text: str, at: int) -> tuple[str, int]:
    match = _ESCAPE.match(text, at)
    if match is None:
        raise ExpressionSyntaxError("an escape is cut off", text, at)
    if match["one"]:
        letter = _ESCAPES.get(match["one"])
        if letter is None:
            message = f'\\{match["one"]} is not an escape: write \\\\ for a backslash, or r"..." to take all as it is'
            raise ExpressionSyntaxError(message, text, at)
        return letter, match.end()
    code = int(match["o"], 8) if match["o"] else int(match["x"] or match["u"] or match["U"], 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ExpressionSyntaxError(f"{match[0]} is not a character of Unicode", text, at)
    return chr(code), match.end()

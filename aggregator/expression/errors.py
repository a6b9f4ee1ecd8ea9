"""What can be wrong with the text of an expression: each error says where, shows the place, and says what to do.

ExpressionError
|-- ExpressionSyntaxError   the text is not an expression of the language
|-- ExpressionNameError     a name, function or field that there is not
|-- ExpressionTypeError     an operator or function that does not take what it is given
|-- ExpressionPatternError  a regular expression that cannot be used
`-- ExpressionLimitError    over a stated limit of length, depth or size
"""

from schemas.errors import QueryError

_SHOWN = 72
"""Characters of a long line that an excerpt shows."""


class ExpressionError(QueryError):
    """An expression that cannot be used. The message ends in an excerpt with a caret under the place."""

    code = "expression.invalid"

    def __init__(self, message: str, text: str, at: int) -> None:
        line = text.count("\n", 0, at) + 1
        column = at - (text.rfind("\n", 0, at) + 1) + 1
        place = f"column {column}" if line == 1 else f"line {line}, column {column}"
        super().__init__(f"{place}: {message}\n{excerpt(text, at)}")
        self.problem = message
        """What is wrong and what to do, without the place."""
        self.line = line
        """From 1."""
        self.column = column
        """From 1, in characters."""


class ExpressionSyntaxError(ExpressionError):
    """The text is not an expression of the language."""

    code = "expression.syntax"


class ExpressionNameError(ExpressionError):
    """A name, function or field that there is not."""

    code = "expression.name"


class ExpressionTypeError(ExpressionError):
    """An operator or function that does not take what it is given."""

    code = "expression.type"


class ExpressionPatternError(ExpressionError):
    """A regular expression that cannot be used."""

    code = "expression.pattern"


class ExpressionLimitError(ExpressionError):
    """Over a stated limit of length, depth or size."""

    code = "expression.limit"


def excerpt(text: str, at: int) -> str:
    """Give the line that holds `at`, or the part of it around `at`, and below it a caret under the place."""
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line, place = text[begin : len(text) if end < 0 else end], at - begin
    cut = max(0, place - _SHOWN // 2) if len(line) > _SHOWN else 0
    shown = "".join(letter if letter.isprintable() else " " for letter in line[cut : cut + _SHOWN])
    return f"  {shown}\n  {' ' * (place - cut)}^"

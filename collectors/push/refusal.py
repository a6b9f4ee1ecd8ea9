"""Why something that was pushed is not taken: one word for programs, one sentence and a place for people."""

from typing import Final

SYNTAX: Final = "syntax"
"""It is no line protocol, or no JSON."""
VALUE: Final = "value"
"""A value is none, or out of range."""
NAME: Final = "name"
"""A name cannot be used: its form, or whose it is."""
TYPE: Final = "type"
"""The field had values of another type before."""
LENGTH: Final = "length"
"""The line is too long."""
CARDINALITY: Final = "cardinality"
"""Too many names, series or devices."""
RATE: Final = "rate"
"""More rows than allowed: counted as filtered, where all others were no rows."""
REASONS: Final = (SYNTAX, VALUE, NAME, TYPE, LENGTH, CARDINALITY, RATE)


class RefusedError(Exception):
    """A line that is not taken. It harms no other line."""

    def __init__(self, reason: str, text: str, column: int = 1) -> None:
        """`reason` is one of `REASONS`; `column` counts characters of the line from 1."""
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.column = column

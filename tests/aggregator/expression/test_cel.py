"""On the common subset, where nothing is absent, the answer is that of Google's implementation of CEL.

Known differences, kept out of the comparison: durations and timestamps here end at 64 bits of nanoseconds; a key that a
map does not hold is absent here and an error there.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from cel_expr_python import cel
from hypothesis import given
from hypothesis import strategies as st

from aggregator.expression import Fault, compile_value
from aggregator.expression.errors import ExpressionSyntaxError
from aggregator.expression.parser import parse
from aggregator.expression.pattern import search_of
from aggregator.expression.pattern_syntax import PatternError
from aggregator.expression.printer import quoted
from tests.aggregator.expression.grammar import reals, spans, strings, truths, wholes
from tests.aggregator.expression.world import FIELDS, WORLD, rows

ENVIRONMENT = cel.NewEnv(
    variables={
        "x": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "at_t": cel.Type.TIMESTAMP,  # its binding takes no times within maps
        "at_u": cel.Type.DURATION,
    }
)
ERRORS = {
    "overflow": Fault.OVERFLOW,
    "divide by zero": Fault.DIVISION_BY_ZERO,
    "modulus by zero": Fault.DIVISION_BY_ZERO,
}
common = st.one_of(truths(2, dyn=False), truths(3, dyn=False), wholes(3, dyn=False), reals(3, dyn=False), strings(2))
microseconds = st.integers(-(10**12), 10**12).map(lambda one: one * 1000)


def ask_cel(text: str, row: dict[str, Any]) -> Any:
    """Give CEL's answer; "error" for any error."""
    text = re.sub(r"\bx\.([tu])\b", r"at_\1", text)
    program = ENVIRONMENT.compile(text, disable_check=True)  # numbers of two types are compared only without the check
    data: dict[str, Any] = {"x": {name: value for name, value in row.items() if name not in {"t", "u"}}}
    if row:
        data["at_t"] = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["t"] // 1000)
        data["at_u"] = timedelta(microseconds=row["u"] // 1000)
    answer = program.eval(data=data)
    return "error" if answer.type() == cel.Type.ERROR else answer.plain_value()


def told(value: Any) -> str:
    """Give an answer so that types count, and not-a-number is itself."""
    if isinstance(value, Fault):
        return "error"
    if isinstance(value, timedelta):
        value = (value.days * 86_400 + value.seconds) * 10**9 + value.microseconds * 1000
    return f"{type(value).__name__} {'nan' if isinstance(value, float) and math.isnan(value) else repr(value)}"


def exact(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row whose times are whole microseconds, as Python has them; a serial that is blank is absent here."""
    part = {**row["part"], "serial": row["part"]["serial"] or "s"}
    return {**row, "t": row["t"] // 1000 * 1000, "u": row["u"] // 1000 * 1000, "part": part}


@given(common, rows(absent=False))
def test_the_answer_is_that_of_cel(text: str, row: dict[str, Any]) -> None:
    row = exact(row)
    ours = compile_value(text, WORLD).on_objects("x")(row)
    answer = ask_cel(text, row)
    assert told(ours) == ("error" if answer == "error" else told(answer))


@given(spans(2), rows(absent=False))
def test_durations_are_those_of_cel(text: str, row: dict[str, Any]) -> None:
    row = exact(row)
    ours = compile_value(f"{text} < x.u ? 1 : {text} == x.u ? 2 : 3", WORLD).on_objects("x")(row)
    assert told(ours) == told(ask_cel(f"{text} < x.u ? 1 : {text} == x.u ? 2 : 3", row))


@given(common, rows(absent=False))
def test_the_canonical_text_means_the_same_to_cel(text: str, row: dict[str, Any]) -> None:
    row = exact(row)
    printed = str(compile_value(text, WORLD))
    assert told(ask_cel(text, row)) == told(ask_cel(printed, row))


WORDS = """x.i x.j 1 2 + - * / % < <= == != && || ! true false x.b ? : ( ) in [1,2] - 'a' x.s"""
UNBRACKETED = st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=12).map(" ".join)


@given(UNBRACKETED)
def test_what_is_an_expression_here_is_one_to_cel_and_the_reverse(text: str) -> None:
    try:
        parse(text)
        ours = True
    except ExpressionSyntaxError:
        ours = False
    try:
        ENVIRONMENT.compile(text, disable_check=True)
        answer = True
    except RuntimeError:
        answer = False
    assert answer is ours


WORDS_OF_PATTERNS = r"""a b B 0 _ . ^ $ | ( ) (?: * + ? {2} {0,2} {2,} [ab] [^a] [a-c] \d \w \s \D \b \B \n \. \x61 \z
[[:alpha:]] (?i) (?s) (?m) [\d_] { } ] - (?P<n> \pL (?= \1 *? \\"""
PIECES = st.sampled_from(WORDS_OF_PATTERNS.split())
SUBJECTS = st.text("abcB01_ .\n-\N{SNOWMAN}", max_size=8)


@given(st.lists(PIECES, max_size=7).map("".join), SUBJECTS)
def test_a_pattern_finds_what_re2_finds(pattern: str, subject: str) -> None:
    """What is taken here is taken there, with one answer. Some is refused here that RE2 takes."""
    try:
        search, _ = search_of(pattern)
    except PatternError:
        return
    text = f"{quoted(subject)}.matches({quoted(pattern)})"
    assert ask_cel(text, {}) == search(subject), (pattern, subject)


def test_the_comparison_covers_every_kind_of_name() -> None:
    assert {"bool", "int", "double", "string", "timestamp", "duration"} <= {
        str(field.type) for field in FIELDS.values()
    }

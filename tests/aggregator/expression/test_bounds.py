"""Whatever the text is, it is refused or compiled in bounded time; whatever is compiled answers in bounded time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.expression import Fault, compile_expression, compile_value
from aggregator.expression.errors import ExpressionError, ExpressionLimitError
from aggregator.expression.syntax import MAX_DEPTH, MAX_LIST, MAX_NODES, MAX_TEXT
from tests.aggregator.expression.world import WORLD

DEEP = MAX_DEPTH - 1
NESTED = {
    "brackets": ("(", "x.b", ")"),
    "not": ("!", "x.b", ""),
    "conditionals": ("x.b ? x.c : ", "x.b", ""),
    "in brackets and joined": ("(x.c && ", "x.b", ")"),
    "sums of dyn": ("(x.any.k + ", "x.i", ")"),
    "sums of doubles": ("(x.d + ", "x.e", ")"),
    "comparisons": ("(x.b == ", "x.c", ")"),
    "negatives": ("-(", "x.i", ")"),
    "functions": ("int(double(", "x.i", "))"),
    "lists": ("x.i in [x.j, ", "1", "]"),
    "keys": ("x.m[", "x.s", "]"),
}


def nested(form: str, depth: int) -> str:
    opening, middle, closing = NESTED[form]
    return opening * depth + middle + closing * depth


@pytest.mark.parametrize("form", [form for form in NESTED if form != "lists"])
def test_what_is_as_deep_as_allowed_runs_on_both_back_ends(form: str) -> None:
    depth = next(deep for deep in range(MAX_DEPTH, 0, -1) if compiles(nested(form, deep)))
    assert depth >= DEEP // 3
    expression = compile_value(nested(form, depth), WORLD)
    assert expression.tree == compile_value(str(expression), WORLD).tree
    row = {"b": True, "c": True, "i": 1, "j": 1, "d": 1.0, "e": 1.0, "s": "k", "m": {"k": "k"}, "any": {"k": 1}}
    outcome = expression.on_objects("x")(row)
    assert outcome is not None
    assert [outcome] == expression.on_columns()(1, {f"x.{name}": [value] for name, value in row.items()}).outcomes


def compiles(text: str) -> bool:
    try:
        compile_value(text, WORLD)
    except ExpressionLimitError:
        return False
    return True


@pytest.mark.parametrize("form", NESTED)
def test_deeper_is_refused_with_the_limit(form: str) -> None:
    with pytest.raises(ExpressionLimitError):
        compile_value(nested(form, 200), WORLD)


@pytest.mark.parametrize(
    "text", ["x.i" + " + 1" * 100, "x.any" + ".k" * 100, "1" + " < 1" * 100, "x.s" + " + x.s" * 500]
)
def test_long_chains_are_refused_with_the_limit(text: str) -> None:
    with pytest.raises(ExpressionLimitError):
        compile_value(text, WORLD)


def test_many_terms_joined_are_not_deep() -> None:
    expression = compile_expression(" || ".join(f"x.i == {at}" for at in range(MAX_NODES // 6)), WORLD)
    assert expression.on_objects("x")({"i": 100}) is True


@pytest.mark.parametrize(
    "text",
    ["x" * (MAX_TEXT + 1), "x.i in [" + "1," * (MAX_LIST + 1) + "]", " || ".join(["x.b"] * MAX_NODES), "(" * 5000],
)
def test_what_is_too_long_is_refused_with_the_limit(text: str) -> None:
    with pytest.raises(ExpressionLimitError):
        compile_expression(text, WORLD)


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [("^(a+)+$", "a" * 30_000 + "!"), ("(a|a)*b", "a" * 30_000), (".*.*.*=", "x" * 30_000), ("(x+x+)+y", "x" * 30_000)],
)
def test_patterns_that_hang_others_do_not_hang(pattern: str, subject: str) -> None:
    predicate = compile_expression(f"x.s.matches({pattern!r})", WORLD).on_objects("x")
    start = time.thread_time()
    assert predicate({"s": subject}) is False
    assert time.thread_time() - start < 1.0


def test_the_worst_pattern_on_the_longest_text_ends() -> None:
    """Every letter leads to a state not seen before: nothing that is remembered helps."""
    predicate = compile_expression("x.s.matches('(a|b)*a(a|b){40}c')", WORLD).on_objects("x")
    subject = "".join("ab"[(at * at * 7919 >> 3) & 1] for at in range(12_000))
    start = time.thread_time()
    assert predicate({"s": subject}) is False
    assert time.thread_time() - start < 20.0


def test_a_text_too_long_for_its_pattern_is_a_fault() -> None:
    predicate = compile_expression("x.s.matches('(a|b)*[cd]')", WORLD).on_objects("x")
    assert Fault.TOO_LONG is predicate({"s": "a" * 4_000_001})


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*"xbi.()[]!<>=&|?:+-*/%\"'\\ \n", "x.i", "in", "has"])).map("".join)
)
def test_any_text_is_an_expression_or_an_error_with_its_place(text: str) -> None:
    error = refusal(text)
    if error is not None:
        assert 1 <= error.column <= len(text) + 1
        assert str(error).endswith("^")
        assert len(str(error)) < 2_000


def refusal(text: str) -> ExpressionError | None:
    try:
        compile_expression(text, WORLD)
    except ExpressionError as error:
        return error
    return None

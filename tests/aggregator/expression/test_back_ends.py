"""Objects and columns get the same answer, and it is the one that the language means."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.expression import Environment, Fault, compile_expression, compile_value
from aggregator.expression.types import DOUBLE, INT, Field, Held, Record
from tests.aggregator.expression.grammar import moments, reals, spans, strings, truths, wholes
from tests.aggregator.expression.meaning import meaning
from tests.aggregator.expression.world import WORLD, columns, rows

any_value = st.one_of(truths(2), truths(3), wholes(3), reals(3), strings(2), spans(2), moments(2))


def told(outcomes: list[Any]) -> list[str]:
    """Give outcomes so that types count, and not-a-number is itself."""
    return [
        f"{type(one).__name__} {'nan' if isinstance(one, float) and math.isnan(one) else one!r}" for one in outcomes
    ]


@given(any_value, st.lists(rows(absent=True), min_size=1, max_size=4))
def test_objects_and_columns_agree_with_the_meaning(text: str, many: list[dict[str, Any]]) -> None:
    expression = compile_value(text, WORLD)
    evaluate = expression.on_objects("x")
    expected = told([meaning(expression.tree, row) for row in many])
    assert expected == told([evaluate(row) for row in many])
    assert expected == told(list(expression.on_columns()(len(many), columns(many)).outcomes))


@given(any_value)
def test_printing_and_compiling_again_gives_the_same_tree(text: str) -> None:
    expression = compile_value(text, WORLD)
    again = compile_value(str(expression), WORLD)
    assert expression.tree == again.tree
    assert str(expression) == str(again)


@given(truths(3), rows(absent=True))
def test_a_comparison_and_its_negation_are_never_both_true(text: str, row: dict[str, Any]) -> None:
    truth = compile_expression(text, WORLD).on_objects("x")(row)
    negation = compile_expression(f"!({text})", WORLD).on_objects("x")(row)
    assert (truth is None) is (negation is None)
    assert not (truth and negation)


def test_a_mask_counts_every_row_once_and_names_survivors() -> None:
    expression = compile_expression("x.i + 1 > 5", WORLD)
    mask = expression.on_columns()(4, {"x.i": [9, 1, None, 2**63 - 1]})
    assert [0] == mask.survivors
    assert (1, 1, 1, 1) == (mask.counts.matched, mask.counts.unmatched, mask.counts.absent, mask.counts.faults)
    assert {Fault.OVERFLOW: 1} == mask.faults


def test_a_column_that_is_not_there_is_absent_in_every_row() -> None:
    assert [None, None] == compile_expression("x.i > 5", WORLD).on_columns()(2, {}).outcomes


def test_an_expression_without_names_answers_every_row() -> None:
    assert [True, True] == compile_expression("1 < 2", WORLD).on_columns()(2, {}).outcomes


def test_columns_of_different_lengths_are_refused() -> None:
    evaluate = compile_expression("x.i > x.j", WORLD).on_columns()
    with pytest.raises(ValueError, match="2 rows"):
        evaluate(2, {"x.i": [1, 2], "x.j": [1]})


def test_a_value_that_its_source_misdeclared_is_a_fault_of_its_row_alone() -> None:
    expression = compile_expression("x.i > 5", WORLD)
    assert [True, Fault.WRONG_TYPE, False] == expression.on_columns()(3, {"x.i": [9, "nine", 1]}).outcomes
    assert Fault.WRONG_TYPE is expression.on_objects("x")({"i": "nine"})


def test_a_root_that_is_none_is_absent() -> None:
    assert None is compile_expression("x.i > 5", WORLD).on_objects("x")(None)
    assert False is compile_expression("has(x.i)", WORLD).on_objects("x")(None)


def test_objects_are_given_in_the_order_that_was_asked_for() -> None:
    world = Environment({name: Record(name, {"v": Field(INT)}, Held.ITEMS) for name in ("a", "b", "c")})
    expression = compile_expression("b.v > a.v", world)
    assert ("a", "b") == expression.roots
    assert ("a.v", "b.v") == expression.names
    assert expression.on_objects("c", "b", "a")({}, {"v": 2}, {"v": 1}) is True
    assert expression.on_objects()({"v": 1}, {"v": 2}) is True
    with pytest.raises(ValueError, match="reads b as well"):
        expression.on_objects("a")


def test_fields_of_objects_are_read_as_attributes_or_as_declared() -> None:
    class Thing:
        first = 2.0
        hidden = (3.0,)

    fields = {"first": Field(DOUBLE), "second": Field(DOUBLE, read=lambda held: held.hidden[0])}
    world = Environment({"thing": Record("thing", fields)})
    assert compile_expression("thing.first + thing.second == 5.0", world).on_objects()(Thing()) is True

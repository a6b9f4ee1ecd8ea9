"""What each construct means, case by case: tests/cases/expression."""

import tomllib
from typing import Any

import pytest

from aggregator.expression import Expression, ExpressionError, Fault, compile_value
from tests.aggregator.expression.meaning import meaning
from tests.aggregator.expression.world import WORLD, columns
from tests.needs import REPOSITORY

FOLDER = REPOSITORY / "tests" / "cases" / "expression"
CASES = [
    pytest.param(case, id=f"{path.parent.name}: {case['expression']}")
    for path in sorted(FOLDER.glob("*/cases.toml"))
    for case in tomllib.loads(path.read_text(encoding="utf-8"))["case"]
]


def told(value: Any) -> tuple[str, Any]:
    """Give an outcome so that types count."""
    return type(value).__name__, value


def wanted(expected: Any) -> Any:
    """Give the outcome that a case expects."""
    if not isinstance(expected, dict):
        return expected
    return None if "absent" in expected else Fault(expected["fault"])


def refuse(case: dict[str, Any]) -> None:
    expected = case["expected"]
    with pytest.raises(ExpressionError) as caught:
        compile_value(case["expression"], WORLD)
    error = caught.value
    assert (expected["error"], expected.get("line", 1), expected["column"]) == (error.code, error.line, error.column)
    assert expected.get("says", "") in str(error)
    assert str(error).splitlines()[-1].endswith("^")


def answer(expression: Expression, expected: Any, row: dict[str, Any]) -> None:
    assert told(expected) == told(meaning(expression.tree, row))
    assert told(expected) == told(expression.on_objects("x")(row))
    assert told(expected) == told(expression.on_columns()(1, columns([row])).outcomes[0])


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any]) -> None:
    expected = case["expected"]
    if isinstance(expected, dict) and "error" in expected:
        refuse(case)
        return
    expression = compile_value(case["expression"], WORLD)
    answer(expression, wanted(expected), case.get("bindings", {}))
    again = compile_value(str(expression), WORLD)
    assert expression.tree == again.tree

"""docs/expressions.md says what the compiler takes: no more, no less."""

import re

import pytest

from aggregator.catalogue import installed_catalogue
from aggregator.expression import Environment, Fault, compile_expression
from aggregator.expression.errors import ExpressionError
from aggregator.expression.functions import NAMES
from aggregator.expression.lexer import OPERATORS
from aggregator.expression.names import inventory_environment, rows_environment
from aggregator.expression.pattern import MAX_WORK
from aggregator.expression.pattern_syntax import MAX_PATTERN
from aggregator.expression.syntax import MAX_DEPTH, MAX_LIST, MAX_NODES, MAX_TEXT
from tests.needs import REPOSITORY

PATH = REPOSITORY / "docs" / "expressions.md"
PAGE = PATH.read_text(encoding="utf-8")
INVENTORY = inventory_environment()


def section(title: str) -> str:
    """Give the part of the page below a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """Give the cells of the tables below a heading."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ") and not line.startswith("|---")]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]


def everywhere() -> Environment:
    """Give the names of rows and of the inventory at once."""
    of_rows = rows_environment(installed_catalogue())
    return Environment({**of_rows.roots, **INVENTORY.roots})


def names_table() -> str:
    """Give the table of the inventory's names."""
    return "".join(f"| `{name}` | {field.type} | {field.meaning} |\n" for name, field in INVENTORY.names())


EXAMPLES = [
    *(line for block in re.findall(r"```cel\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()),
    *(code for cells in rows("Functions") for code in re.findall(r"`([^`]*\([^`]*)`", cells[2])),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_compiles(example: str) -> None:
    compile_expression(example, everywhere())


def test_the_functions_are_those_of_the_page() -> None:
    assert set(NAMES) == {cells[0].strip(" `") for cells in rows("Functions")} - {"function"}


def test_every_function_has_an_example_that_uses_it() -> None:
    listed = {cells[0].strip(" `"): cells[2] for cells in rows("Functions")}
    assert [] == [name for name in NAMES if f"{name}(" not in listed[name]]


def test_the_operators_are_those_of_the_page() -> None:
    listed = {code.replace("\\|", "|") for cells in rows("Operators") for code in re.findall(r"`([^`]+)`", cells[0])}
    assert {*OPERATORS, "in"} - {",", ")", "]"} == listed


def test_the_names_of_the_inventory_are_those_of_the_page() -> None:
    assert names_table() == PAGE.partition("<!-- names -->\n")[2].partition("<!-- end of names -->")[0]


def test_the_limits_are_those_of_the_page() -> None:
    limits = section("Limits")
    for number in (MAX_TEXT, MAX_NODES, MAX_DEPTH, MAX_LIST, MAX_WORK):
        assert re.search(rf"\b{number:,}\b", limits)
    assert f"at most {MAX_PATTERN:,} characters" in section("Functions")


def test_the_faults_and_codes_are_those_of_the_page() -> None:
    assert [] == [fault.value for fault in Fault if f"`{fault.value}`" not in section("What is absent")]
    codes = {error.code for error in ExpressionError.__subclasses__()}
    assert codes == set(re.findall(r"`(expression\.[a-z]+)`", section("When it is wrong")))


@pytest.mark.parametrize(
    "text",
    ["null", "5u", 'b"a"', '{"a": 1}', "[1][0] == 1", "[1] == [1]", "[1].map(x, x)", "[1].filter(x, x > 0)", "type(1)",
     "dyn(1)", "string(1)", 'timestamp("2026-01-31T12:00:00Z").getHours()', "now()"],
)  # fmt: skip
def test_what_the_page_leaves_out_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text, INVENTORY)

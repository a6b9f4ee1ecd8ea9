"""Every script of this folder shows what it is named after."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.needs import REPOSITORY

FOLDER = Path(__file__).parent
MEASURING = {"in_time"}
LONG = {
    "evidence": 170,
    "redfish": 90,
    "ledger": 80,
    "push": 80,
    "logs": 80,
    "scenarios": 70,
    "the_agent": 60,
    "claims": 50,
}
"""Seconds that a script takes where that is more than a minute; the others take about half of one."""
SECONDS = 600
"""What one script may take on a slow machine that others use too."""


def scripts() -> list[str]:
    """Give the modules of this folder that define `script`, without importing them."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _defines_script(ast.parse(path.read_text())))


def _defines_script(module: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "script" for node in module.body)


def marked() -> list[Any]:
    """Give the same names for `parametrize`; who measures how late others are does it alone."""
    marks = {name: [pytest.mark.slow(LONG.get(name, 30))] for name in scripts()}
    for name in MEASURING:
        marks[name].append(pytest.mark.alone)
    return [pytest.param(name, marks=marks[name]) for name in marks]


def test_there_is_a_script_for_each_checkpoint_so_far() -> None:
    first = {"it_runs", "the_house", "the_words", "the_agent", "in_time", "the_sources"}
    assert first | {"log_ingest_control", "store_and_query", "balance_and_operation", "facts"} <= set(scripts())
    assert {"ledger", "claims", "adoption", "expressions", "placement", "feeds", "scenarios", "redfish"} <= set(
        scripts()
    )
    assert {"nvml", "logs", "nvme", "sriov", "push"} <= set(scripts())


@pytest.mark.parametrize("name", marked())
def test_it_shows_what_it_is_named_after(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.acceptance.{name}"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert 0 == done.returncode, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    assert done.stdout.count("ok  ") >= 5

"""Every script of this folder shows what it is named after."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.needs import REPOSITORY

FOLDER = Path(__file__).parent
MEASURING = {"the_agent"}
SECONDS = 300
"""What one script may take on a slow machine that others use too."""


def scripts() -> list[str]:
    """Give the modules of this folder that define `script`, without importing them."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _defines_script(ast.parse(path.read_text())))


def _defines_script(module: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "script" for node in module.body)


def measured() -> list[Any]:
    """Give the same names for `parametrize`; who measures how late others are does it alone."""
    return [pytest.param(name, marks=pytest.mark.alone) if name in MEASURING else name for name in scripts()]


def test_there_is_a_script_for_each_checkpoint_so_far() -> None:
    first = {"it_runs", "the_house", "the_words", "the_agent", "the_sources"}
    assert first | {"log_ingest_control", "store_and_query", "balance_and_operation", "facts"} <= set(scripts())
    assert {"ledger", "claims", "adoption", "expressions", "placement", "feeds", "scenarios", "redfish"} <= set(
        scripts()
    )
    assert {"nvml", "logs", "nvme", "sriov", "push"} <= set(scripts())


@pytest.mark.slow
@pytest.mark.parametrize("name", measured())
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

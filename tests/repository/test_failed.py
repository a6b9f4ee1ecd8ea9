"""What `.ci/run` asks once more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import REPOSITORY
from tests.repository.failed import LAST_FAILED


@pytest.mark.parametrize(
    ("names", "code"), [([], 1), (["a.py::test_b[x y]"], 0), (["a", "b"], 0), (["a", "b", "c"], 1), (None, 1)]
)
def test_few_failures_are_named_and_many_are_not_chance(tmp_path: Path, names: list[str] | None, code: int) -> None:
    if names is not None:
        (tmp_path / LAST_FAILED).parent.mkdir(parents=True)
        (tmp_path / LAST_FAILED).write_text(json.dumps(dict.fromkeys(names, True)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.repository.failed", "2"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (code, "".join(f"{name}\n" for name in names or []) if code == 0 else "") == (done.returncode, done.stdout)

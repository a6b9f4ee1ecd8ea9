"""Commands that are forked are processes as any other."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.commands import commands
from tests.acceptance.stage import Muster

CASES = (
    ("version",),
    ("validate", "-o", "json"),
    ("config", "show"),
    ("devices",),
    ("devices", "--wat"),
    ("token", "--help"),
    ("nothing",),
)


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_it_says_and_ends_as_a_command_that_a_user_starts(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    muster = Muster(tmp_path, "[aggregator]\nlisten = 7\n", {"MUSTER_LISTEN": "127.0.0.1:1", "COLUMNS": "70"})
    theirs = subprocess.run(
        [sys.executable, "-P", "-m", "aggregator.cli", *arguments],
        env=muster.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    ours = muster.run(*arguments)
    assert (theirs.returncode, theirs.stdout, theirs.stderr) == (ours.returncode, ours.stdout, ours.stderr)


def test_each_has_the_environment_and_the_folder_that_it_is_given(tmp_path: Path) -> None:
    one, two = (Muster(tmp_path / name, f"[agent]\nnode_id = '{name}'\n") for name in ("one", "two"))
    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(lambda muster: muster.run("config", "show").stdout, [one, two] * 4))
    assert ["'one'" in text or '"one"' in text for text in told] == [True, False] * 4


def test_one_that_takes_too_long_is_ended_and_told(tmp_path: Path) -> None:
    muster = Muster(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        commands().run(["up"], muster.env, tmp_path, 1)

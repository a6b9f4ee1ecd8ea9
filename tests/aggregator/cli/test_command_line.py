"""What holds for every command."""

import importlib
import subprocess
import sys

import pytest

from aggregator.cli import COMMANDS, main

_HEAVY = ("pydantic", "rich", "duckdb", "sqlalchemy", "fastapi", "uvicorn", "asyncio", "psutil")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_arguments_run_and_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(COMMANDS[name].module)
    assert callable(module.run)
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("usage: muster")


@pytest.mark.parametrize("words", [["--help"], ["query", "--help"], ["nodes", "--help"], ["top", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\nfrom aggregator.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(' '.join(name for name in {_HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_no_command_prints_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


def test_version_goes_with_what_it_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("muster", "wire", "python", "msgspec"))

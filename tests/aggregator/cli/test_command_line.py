"""What holds for every command."""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Iterator

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


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Give the parser of every command and of every word below one."""
    for name, command in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"muster {name}")
        importlib.import_module(command.module).arguments(parser)
        yield name, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{name} {word}", inner) for word, inner in action.choices.items())


@pytest.mark.parametrize(("name", "parser"), [pytest.param(*one, id=one[0]) for one in _parsers()])
def test_every_help_fits_80_columns_and_has_an_example(
    name: str, parser: argparse.ArgumentParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = parser.format_help().splitlines()
    assert [] == [line for line in lines if len(line) > 80]
    examples = [line for line in lines if line.startswith("  ") and f"muster {name}" in line]
    assert examples, "no example to copy"
    unexplained = [action for action in parser._actions if not action.help and action.dest != "deed"]
    assert [] == unexplained


def test_the_first_help_fits_80_columns_and_tells_the_exit_statuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert {"0", "1", "2", "78", "130"} <= {line.split()[0] for line in lines if line.split()}


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


@pytest.mark.parametrize(
    ("redirection", "status", "says"),
    [
        (">/dev/full", 1, "muster: the output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        ("| head -c1 >/dev/null", 0, ""),
    ],
)
def test_an_output_that_takes_nothing_is_no_traceback(redirection: str, status: int, says: str) -> None:
    program = f"set -o pipefail; {sys.executable} -m aggregator.cli completion bash {redirection}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert (status, says) == (done.returncode, done.stderr)


def test_a_word_that_is_none_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["quer"])
    assert 2 == left.value.code
    assert "Did you mean 'query'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["devics"], "there is no 'devics'. Did you mean 'devices'?"),
        (["export", "yaml"], "there is no 'yaml'. There is: nova, triton, csv, json."),
        (["devices", "--kind", "gup"], "there is no 'gup'. Did you mean 'gpu'?"),
    ],
)
def test_a_word_that_there_is_not_is_answered_in_a_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    first = capsys.readouterr().err.splitlines()[0]
    assert 2 == end.value.code
    assert first.endswith(told)
    assert len(first) <= 80


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("devices", "--lifecyle", "dirty"),
            "muster devices: --lifecyle: nothing takes this. Did you mean '--lifecycle'?",
        ),
        (("devices", "gpu-a", "gpu-b"), "muster devices: gpu-b: nothing takes this."),
        (("--foo",), "muster: --foo: nothing takes this."),
    ],
)
def test_words_that_nothing_takes_are_refused_by_their_command_with_near_ones(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    err = capsys.readouterr().err.splitlines()
    assert (2, told) == (left.value.code, err[0])

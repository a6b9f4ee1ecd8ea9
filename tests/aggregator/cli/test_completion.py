import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.cli import COMMANDS
from aggregator.cli.completing import KINDS, values
from aggregator.cli.completion import SHELLS, offers, script
from tests.aggregator.cli.stub import Refusal, Stub
from tests.needs import REPOSITORY, unmet


def _complete(folder: Path, *words: str) -> list[str]:
    """Complete the last of the words, in a bash that knows nothing else."""
    path, command = folder / "muster.bash", folder / "muster"
    path.write_text(script("bash", list(offers())))
    command.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -P -m aggregator.cli "$@"\n')
    command.chmod(0o755)
    line = " ".join(f"'{word}'" for word in (str(command), *words))
    told = "printf '%s\\n' \"${COMPREPLY[@]}\""
    program = f"source {path}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _muster; {told}"
    return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_every_command_and_word_is_offered() -> None:
    paths = {offer.path for offer in offers()}
    assert {(name,) for name in COMMANDS} <= paths
    assert {("token", "create"), ("verbosity", "set"), ("nodes", "replace"), ("quarantine", "show")} <= paths


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_words_options_and_values(tmp_path: Path) -> None:
    assert _complete(tmp_path, "verb") == ["verbosity"]
    assert _complete(tmp_path, "token", "en") == ["enrol", "enrolments"]
    assert _complete(tmp_path, "nodes", "decommission", "--y") == ["--yes"]
    assert _complete(tmp_path, "verbosity", "set", "--class", "l") == ["log"]
    assert _complete(tmp_path, "-o", "json") == []


@pytest.fixture
def inventory(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub.answers["GET /v1/variants"] = [{"name": name} for name in ("H100", "H200", "V100")]
    stub.answers["GET /v1/packages"] = [{"name": "gpu_large"}]
    monkeypatch.setenv("MUSTER_SERVER", stub.address)
    return stub


@pytest.mark.parametrize(
    ("kind", "word", "expected"),
    [
        ("need", "", ["H100", "H200", "V100"]),
        ("need", "H", ["H100", "H200"]),
        ("need", "H100:", ["H100:1", "H100:2", "H100:4", "H100:8"]),
        ("need", "H100:2:d", ["H100:2:driver"]),
        ("need", "H100:2:driver:", []),
        ("variant", "V", ["V100"]),
        ("package", "", ["gpu_large"]),
        ("node", "rack", ["rack1-gpu3"]),
    ],
)
def test_values_are_asked_of_the_aggregator(inventory: Stub, kind: str, word: str, expected: list[str]) -> None:
    assert inventory is not None
    assert expected == values(kind, word)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_who_completes_hears_of_what_went_wrong(
    inventory: Stub, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for path in ("variants", "packages", "nodes"):
        inventory.answers[f"GET /v1/{path}"] = Refusal(403, "not yours")
    assert [] == values(kind, "")
    monkeypatch.setenv("MUSTER_SERVER", "unix:///nowhere")
    assert [] == values(kind, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_needs_though_it_takes_words_apart_at_colons(inventory: Stub, tmp_path: Path) -> None:
    assert inventory is not None
    assert ["H100", "H200"] == _complete(tmp_path, "place", "--need", "H")
    assert ["1", "2", "4", "8"] == _complete(tmp_path, "place", "--need", "H100", ":")
    assert ["passthrough"] == _complete(tmp_path, "place", "--need", "H100", ":", "2", ":", "p")
    assert ["rack1-gpu3"] == _complete(tmp_path, "whatif", "--drain", "r")
    assert ["--variant"] == _complete(tmp_path, "devices", "--var")


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_taken_by_their_shell(shell: str, tmp_path: Path) -> None:
    text = script(shell, list(offers()))
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell) is None:
        unmet(f"there is no {shell}")
    path = tmp_path / "script"
    path.write_text(text)
    subprocess.run([shell, "-n", str(path)], check=True)

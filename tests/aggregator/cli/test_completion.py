import shutil
import subprocess
from pathlib import Path

import pytest

from aggregator.cli import COMMANDS
from aggregator.cli.completion import SHELLS, offers, script
from tests.needs import unmet


def _complete(folder: Path, *words: str) -> list[str]:
    """Complete the last of the words, in a bash that knows nothing else."""
    path = folder / "muster.bash"
    path.write_text(script("bash", list(offers())))
    line = " ".join(f"'{word}'" for word in ("muster", *words))
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


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_taken_by_their_shell(shell: str, tmp_path: Path) -> None:
    text = script(shell, list(offers()))
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell) is None:
        unmet(f"there is no {shell}")
    path = tmp_path / "script"
    path.write_text(text)
    subprocess.run([shell, "-n", str(path)], check=True)

"""Checkpoint 2, the house: one distribution that holds what it should, and an agent that needs no more than it says.

Requirements: R001-9, R003-1 (base install is what an agent needs; extras for the rest).
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.acceptance.stage import FailedError, check, main, say
from tests.needs import REPOSITORY
from tests.repository.distribution import PACKAGES, TOP_LEVEL, faults_of_sdist, faults_of_wheel, tracked

BASE = ("msgspec", "zstandard", "psutil", "pynvml")
"""What the base install may bring, by the names that are imported."""
HEAVY = ("pydantic", "fastapi", "sqlalchemy", "duckdb", "asyncio", "uvicorn", "rich")
"""What no agent has room for."""


def run(*command: str | Path, cwd: Path, expected: int = 0, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, without anything of ours in its environment; fail when it ends otherwise."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MUSTER_", "PYTHON"))}
    done = subprocess.run(
        command, cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=200, check=False
    )  # fmt: skip
    if done.returncode != expected:
        raise FailedError(
            f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done


def script(folder: Path) -> None:
    """Build, look inside, install with base dependencies alone, and use it from elsewhere."""
    for name in sorted(TOP_LEVEL):
        check((REPOSITORY / name).stat().st_size > 100, f"{name} is there")
    check("Apache License" in (REPOSITORY / "LICENSE").read_text(), "the licence is Apache-2.0")
    wheel = built(folder)
    tools = Path(sysconfig.get_path("scripts"))
    run(tools / "lint-imports", "--no-cache", cwd=REPOSITORY)
    say("imports run one way: every contract of import-linter holds")
    scripts = installed(folder, wheel)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    agent(scripts, elsewhere, folder)
    without_extra(scripts, elsewhere)


def built(folder: Path) -> Path:
    """Build wheel and sdist and look inside."""
    run(sys.executable, "-m", "hatchling", "build", "-d", folder / "dist", cwd=REPOSITORY)
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    files = tracked()
    faults = faults_of_wheel(wheel, files) + faults_of_sdist(sdist, files)
    check(not faults, "wheel and sdist hold exactly what they should" + "".join(f"\n    {one}" for one in faults))
    return wheel


def installed(folder: Path, wheel: Path) -> Path:
    """Install the wheel into an environment of its own, with what it depends on and nothing else."""
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=folder)
    python = venv / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--prefer-binary", wheel, cwd=folder)
    listed = {one["name"].lower() for one in json.loads(run(*pip, "list", "--format=json", cwd=folder).stdout)}
    expected = {"rackmuster", "msgspec", "zstandard", "psutil", "nvidia-ml-py"}
    check(listed - {"pip", "setuptools"} == expected, f"the base install is {', '.join(sorted(expected))}")
    files = run(python, "-c", f"import {', '.join(PACKAGES)}; print(schemas.__file__)", cwd=folder).stdout
    check(files.startswith(str(venv)), "it is the installed one that is imported")
    return venv / "bin"


def agent(scripts: Path, elsewhere: Path, folder: Path) -> None:
    """The agent, on what an agent has."""
    tested = run(
        scripts / "muster-agent", "--test", "--only", "host", cwd=elsewhere, MUSTER_DATA_DIR=str(folder / "data")
    )
    tables = {json.loads(line)["measurement"] for line in tested.stdout.splitlines() if '"measurement"' in line}
    check(
        {"cpu", "memory", "file_system"} <= tables, f"`muster-agent --test` prints rows of {len(tables)} measurements"
    )
    listed = run(scripts / "muster-agent", "collectors", cwd=elsewhere).stdout
    check(all(name in listed for name in ("host", "syslog", "simulated")), "its collectors are found by entry point")
    code = f"import sys, collectors.agent\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    loaded = run(scripts / "python", "-c", code, cwd=elsewhere).stdout.strip()
    check(loaded == "[]", f"collectors.agent imports none of {', '.join(HEAVY)}")


def without_extra(scripts: Path, elsewhere: Path) -> None:
    """The command line without what it needs says what to install."""
    check(
        "muster" in run(scripts / "muster", "--version", cwd=elsewhere).stdout,
        "`muster --version` works without any extra",
    )
    for word in ("up", "aggregator"):
        told = run(scripts / "muster", word, cwd=elsewhere, expected=1).stderr
        check("rackmuster[aggregator]" in told and "Traceback" not in told, f"`muster {word}` says: {told.strip()}")
    for word in ("query", "balance", "nodes"):
        told = run(scripts / "muster", word, cwd=elsewhere, expected=1, HOME=str(elsewhere)).stderr
        check(told.startswith("muster: ") and "Traceback" not in told, f"`muster {word}` says: {told.strip()}")


if __name__ == "__main__":
    sys.exit(main(script))

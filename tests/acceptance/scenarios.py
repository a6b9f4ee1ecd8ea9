"""Checkpoint 8 of the inventory: every scenario of `muster demo`, as a user plays it.

Requirements: R003-1, R003-3, and those that each scenario names.
"""

import sys
from pathlib import Path

import psutil

from aggregator.demo import SCENARIOS
from tests.acceptance.stage import Muster, check, main


def script(folder: Path) -> None:
    """Play each, and see that it leaves nothing behind."""
    for name in SCENARIOS:
        temporary = folder / f"t{name}"
        temporary.mkdir()
        muster = Muster(folder / name, env={"TMPDIR": str(temporary)})
        done = muster.run("demo", name)
        sys.stdout.write(done.stdout)
        check(done.returncode == 0, f"{name}: {SCENARIOS[name].title}: exit status 0 {done.stderr}".strip())
        check("\nNO  " not in done.stdout and done.stdout.count("\nok  ") >= 8, f"{name}: each expectation held")
        check("no claim is left, and no device with anybody" in done.stdout, f"{name}: nothing is left taken")
        check(not list(temporary.iterdir()), f"{name}: its folder is removed")
        left = [one for one in psutil.process_iter(["environ"]) if _belongs(one, temporary)]
        check(not left, f"{name}: nothing that it started still runs")
    without_room(folder)


def _belongs(process: psutil.Process, folder: Path) -> bool:
    environ = process.info["environ"] or {}
    return str(environ.get("MUSTER_DATA_DIR", "")).startswith(str(folder))


def without_room(folder: Path) -> None:
    """What is missing is said before anything starts."""
    long = folder / ("n" * 100)
    long.mkdir()
    done = Muster(folder / "lacking", env={"TMPDIR": str(long)}).run("demo", next(iter(SCENARIOS)))
    check(
        done.returncode == 78 and "socket path" in done.stderr, "a need that is not met is named, and it ends with 78"
    )
    check(not list(long.iterdir()), "with nothing started or left")


if __name__ == "__main__":
    sys.exit(main(script))

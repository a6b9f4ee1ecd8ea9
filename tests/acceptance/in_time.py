"""Checkpoint 4, the agent's time: whatever a collector does, the others go on in time.

Requirements: R001-8.
"""

import contextlib
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.stage import FailedError, Muster, check, main, stage, until
from tests.acceptance.the_agent import CROWD, NAMES, install

SLIP_SECONDS = 0.1


def script(folder: Path) -> None:
    """Let a third party's collectors do their worst."""
    with stage(folder, CROWD, {"PYTHONPATH": install(folder)}) as muster:
        muster.start("aggregator")
        muster.ready()
        muster.start("agent")
        endured(muster)


def reports(muster: Muster) -> dict[str, dict[str, Any]]:
    """Give what the agent last said of each collector, by name."""
    return {one["name"]: one for one in muster.ask("collectors")["nodes"]}


def endured(muster: Muster) -> None:
    """One hangs in C, one raises, one floods, one yields garbage: the others keep their time."""

    def all_failed() -> dict[str, dict[str, Any]] | None:
        found = reports(muster)
        failed = [found.get(f"acme_{name}", {"errors": 0})["errors"] >= 2 for name in NAMES[1:]]
        ran = found.get("host", {"runs": 0})["runs"] >= 20
        return found if all(failed) and ran else None

    found = until("the agent's report of it all", all_failed, 120)

    def on_time() -> dict[str, dict[str, Any]] | None:
        again = reports(muster)
        return again if all(again[name]["slip_p99"] < SLIP_SECONDS for name in ("host", "acme_honest")) else None

    # the figure is of the last 128 ticks: what others did to this machine leaves it again
    with contextlib.suppress(FailedError):
        found = until("everybody on time", on_time, 60)
    for name in ("host", "acme_honest"):
        slip = found[name]["slip_p99"]
        check(
            slip < SLIP_SECONDS, f"{name}: p99 of its slip is {slip * 1000:.1f} ms, below {SLIP_SECONDS * 1000:.0f} ms"
        )
        check(found[name]["errors"] == 0 and found[name]["state"] == "running", f"{name} runs without an error")
    check(
        found["acme_blocked"]["crashes"] >= 2,
        "the helper of the one that hangs in C is abandoned, each time, and counted",
    )
    check("a bug" in found["acme_raising"]["last_error"], "the one that raises is told with its error")
    times = sorted(
        row["read_ns"] for row in muster.rows("acme", "read_ns", "--limit", "10000") if row["read_ns"] is not None
    )
    check(len(times) > 20, f"{len(times)} rows of the honest one are stored beside all that")
    helpers = [one for one in muster.family("agent") if one.name().startswith("muster:")]
    check(len(helpers) < 12, f"helpers do not pile up: {len(helpers)} processes")


if __name__ == "__main__":
    sys.exit(main(script))

"""Checkpoint 1, it runs: one command, from collector to query; SIGKILL anything, and the balance closes.

Requirements: R001-8, R001-9, R001-15, R003-1.
"""

import signal
import sys
import time
from pathlib import Path

from tests.acceptance.stage import PATIENCE, check, main, say, stage, until

CONFIG = """
[collectors.host]
interval_seconds = 0.5
"""


def script(folder: Path) -> None:
    """Start, ask, kill, and count."""
    with stage(folder, CONFIG) as muster:
        began = time.monotonic()
        muster.start("up")
        muster.ready()
        until("a first row", lambda: muster.rows("cpu", "usage_ratio", "--last"))
        say(f"`muster up` to the first row from `muster query`: {time.monotonic() - began:.1f} s")

        [cpu] = muster.rows("cpu", "usage_ratio", "--last")
        check(0.0 <= cpu["usage_ratio"] <= 1.0, "the CPU's usage is a ratio")
        [memory] = muster.rows("memory", "total_bytes", "--last")
        check(memory["total_bytes"] > 100 << 20, "the memory of this machine is there")
        check(until("kernel log", lambda: muster.rows("log", "message", "--limit", "5")), "the kernel's log is there")

        for module in ("aggregator.server", "collectors.main"):
            process = muster.child(module)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            again = until(f"{module} to be started again", lambda module=module: muster.child(module))  # type: ignore[misc]
            check(again.pid != process.pid, f"{module} was killed, and is started again")
            muster.ready()
            before = len(muster.rows("cpu", "usage_ratio", "--limit", "1000"))
            until("new rows", lambda: len(muster.rows("cpu", "usage_ratio", "--limit", "1000")) > before)  # noqa: B023
            balance = muster.balance(wait=PATIENCE)
            check(balance["closed"], "the balance closes: nothing is unaccounted")

        names = {one.name(): one for one in muster.family()}
        helper = next(one for name, one in names.items() if name.startswith("muster:"))
        helper.send_signal(signal.SIGKILL)
        before = len(muster.rows("cpu", "usage_ratio", "--limit", "1000"))
        until("rows after a helper was killed", lambda: len(muster.rows("cpu", "--limit", "1000")) > before)
        check(muster.balance(wait=PATIENCE)["closed"], "a helper was killed: rows go on and the balance closes")


if __name__ == "__main__":
    sys.exit(main(script))

"""An agent's collectors in a process of their own, begun as the agent begins: the zygote first, then everything else.

`python -m tests.collectors.runtime.agent` with a JSON list of setups on standard input; writes, as JSON, what became
of them: status, the times at which each was called by its own clock, processes with their memory, CPU time.
"""

import sys

from collectors.zygote import start_zygote

if __name__ == "__main__":
    sys.path[:0] = sys.argv[2:]
    ZYGOTE = start_zygote()

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from collectors.scheduler import Scheduler
from collectors.status import CollectorSetup, SchedulerOptions
from tests.collectors.runtime.rig import Intake


def memory(pid: int) -> dict[str, int]:
    """Give the memory of a process, kB."""
    wanted = ("Pss", "Private_Dirty", "Rss")
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {word: int(line.split()[1]) for line in lines for word in wanted if line.startswith(word + ":")}


class _Times(Intake):
    """Keeps the times at which collectors were called, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.began: dict[str, list[int]] = {}

    def take(self, collector: str, delivery: Any) -> None:
        for parcel in delivery.parcels:
            times = parcel.block.ints.get("began_ns") or parcel.block.ints.get("read_ns") or []
            self.began.setdefault(collector, []).extend(times[:1])


def main(seconds: float) -> None:
    """Run, look, tell."""
    setups = [CollectorSetup(**fields) for fields in json.load(sys.stdin)]
    intake = _Times()
    options = SchedulerOptions(
        node_id="node-1", root=Path(sys.argv[2]), first_within=0.5, backoff_first=0.2, backoff_most=0.5
    )
    scheduler = Scheduler(setups, intake, ZYGOTE, options)
    before = time.process_time()
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    time.sleep(seconds)
    status = scheduler.status()
    used = time.process_time() - before
    processes = {"agent": memory(os.getpid()), "zygote": memory(ZYGOTE.pid)}
    processes |= {each.group: memory(each.helper_pid) for each in status if each.helper_pid is not None}
    scheduler.stop()
    thread.join()
    told = {
        "status": {
            each.name: {
                "state": each.state.value,
                "runs": each.runs,
                "errors": each.errors,
                "skipped": each.skipped,
                "slip_p99_seconds": each.slip_p99_seconds,
                "timeouts": each.timeouts,
                "crashes": each.crashes,
            }
            for each in status
        },
        "began_ns": intake.began,
        "processes": processes,
        "cpu_seconds": used,
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(float(sys.argv[1]))

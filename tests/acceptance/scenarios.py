"""Checkpoint 8 of the inventory: every scenario of `muster demo`, as a user plays it.

Requirements: R003-1, R003-3, and those that each scenario names.
"""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil

from aggregator.demo import SCENARIOS
from aggregator.demo.narration import WIDTH
from tests.acceptance.stage import Muster, check, main, until

SHOWN: Final = {
    "000": (
        "each has its parent: 2 + 256 in all",
        "without its header the service refuses",
        "each VNIC is matched with its function, by MAC and VLAN",
        "both have 937,684,566 sectors of 4,096 bytes",
        "four events say the same: missing, wrong-count, wrong-mac, wrong-vlan",
        "the inventory says that this is drift",
    ),
    "001": (
        "each DPU names its node, and that node its host",
        "two events say so: one capability went, another came",
        "consumed and remaining add up to what there is, for each resource",
        "dpu_crash: OSBootStarted, then OSRunning; the cause is crash",
        "state and reason are known",
    ),
    "002": (
        "six GPUs in four IOMMU groups: 19, 32, 75 and 87",
        "device_spec lists a3:00.0, c3:00.0, 27:00.0 and 44:00.0: one of each group",
        "four tenants have a GPU each, one of every group",
        "it has 15 instances; the next is refused",
    ),
    "003": (
        "only one worker may use the GPU: refused, for the GPU alone",
        "no: worker-1 has that NIC, with all in it",
        "no: worker-2 has functions of it",
        "it gets both, cleaned of what worker-1 left there",
    ),
    "004": (
        "64 are granted, 16 are refused",
        "with evidence: its reset was seen, its memory was checked",
        "its node undid what it had begun, and said so",
    ),
}
"""Of each scenario, what its requirements demand above all."""
AS_THEY_ARE: Final = ("    device_spec = ", "    alias = ", "    ok    data folder: ")
"""How lines begin that are shown as they are, however long."""


def script(folder: Path) -> None:
    """Play each, and see that it leaves nothing behind."""
    check(SCENARIOS.keys() == SHOWN.keys(), f"there are the scenarios {', '.join(SCENARIOS)}")
    for name in SCENARIOS:
        temporary = folder / f"t{name}"
        temporary.mkdir()
        muster = Muster(folder / name, env={"TMPDIR": str(temporary)})
        done = muster.run("demo", name)
        sys.stdout.write(done.stdout)
        check(done.returncode == 0, f"{name}: {SCENARIOS[name].title}: exit status 0 {done.stderr}".strip())
        check(done.stderr == "", f"{name}: no noise beside the story")
        told = " ".join(done.stdout.split())
        missing = [claim for claim in SHOWN[name] if f"ok {claim}" not in told]
        check("\nNO  " not in done.stdout and not missing, f"{name}: each expectation held {missing or ''}".strip())
        long = [line for line in done.stdout.splitlines() if len(line) > WIDTH and not line.startswith(AS_THEY_ARE)]
        check(not long, f"{name}: it fits {WIDTH} columns {long or ''}".strip())
        check("no claim is left, and no device with anybody" in done.stdout, f"{name}: nothing is left taken")
        nothing_left(name, temporary)
    without_room(folder)
    interrupted(folder)


def nothing_left(name: str, temporary: Path) -> None:
    """See that neither a file nor a process is left."""
    check(not list(temporary.iterdir()), f"{name}: its folder is removed")
    left = [one for one in psutil.process_iter(["environ"]) if _belongs(one, temporary)]
    check(not left, f"{name}: nothing that it started still runs")


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


def interrupted(folder: Path) -> None:
    """Ctrl-C while claims hold something: it ends in order."""
    temporary = folder / "tint"
    temporary.mkdir()
    muster = Muster(folder / "int", env={"TMPDIR": str(temporary)})
    demo = muster.start("demo", "002")
    until("four tenants to have GPUs", lambda: "denim's alone" in muster.log_path.read_text())
    # who runs this in the background may have had it ignore Ctrl-C, and what it starts with it
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    demo.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
    try:
        status = demo.wait(60.0)
    except subprocess.TimeoutExpired:
        demo.kill()
        raise
    check(status == 130, "Ctrl-C in the middle ends it, with 130")
    check("All that was started has ended" in muster.log_path.read_text(), "and it says so")
    nothing_left("interrupted", temporary)


if __name__ == "__main__":
    sys.exit(main(script))

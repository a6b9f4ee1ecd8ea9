"""What the agent costs (DESIGN part 9), beside Telegraf in the same run. Run: `python -m tests.bench.bench_agent`.

- at about 160 values/s: `host` at 1 s and `syslog` with a TCP listener, against Telegraf's `cpu mem disk diskio net
  system processes kernel swap` at 1 s and `inputs.syslog`, each publishing to a sink that takes everything;
- at about 2,500 values/s: the same and the `simulated` collector, whose node has the most values.

Both run at the same time, so that both meet the same machine; ours from the base install, as on a node. Memory is the
PSS of the whole process tree, and beside it what it would be with no other program to share libraries with; CPU is what
the kernel charged to it; the first seconds of each are left out.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.acceptance.stage import Muster, stage
from tests.bench.measuring import Line, Sink, alone, cpu_seconds, members, node_python, pss, show, sink
from tests.ports import free_port
from tests.services.binaries import TELEGRAF, NotAvailableError, provide
from tests.services.telegraf import HOST_INPUTS, telegraf

WARM_UP_SECONDS = 12.0
AGENT = """
[agent]
only = [{only}]

[publish]
aggregators = ["{address}"]

[collectors.host]
interval_seconds = 1.0

[collectors.syslog]
interval_seconds = 1.0
tcp = "127.0.0.1:{port}"
"""
PEER = """
[[inputs.syslog]]
  server = "tcp://127.0.0.1:{port}"
[[outputs.influxdb_v2]]
  urls = ["{address}"]
  token = "none"
  organization = "bench"
  bucket = "bench"
  content_encoding = "identity"
"""


class Cost:
    """One agent under measurement."""

    def __init__(self, pid: int, where: Sink) -> None:
        self.pid = pid
        self._sink = where

    def begin(self) -> None:
        """Measure from now on."""
        self._at = time.monotonic()
        self._cpu = cpu_seconds(self.pid)
        self._values = self._sink.counts()["values"]
        self.first_pss = pss(self.pid)
        self.before = {one.name: one.cpu for one in members(self.pid)}

    def end(self) -> None:
        """Measure until now."""
        seconds = time.monotonic() - self._at
        self.percent = 100 * (cpu_seconds(self.pid) - self._cpu) / seconds
        self.rate = (self._sink.counts()["values"] - self._values) / seconds
        self.pss = pss(self.pid)
        self.alone = alone(self.pid)


def show_members(cost: Cost) -> None:
    """Print each process of an agent, with its CPU since `begin`."""
    for member in members(cost.pid):
        print(
            f"    {member.name:<16} PSS {member.pss / 1e6:5.1f} MB, private {member.private / 1e6:5.1f} MB,"
            f" {member.threads} threads, CPU {member.cpu - cost.before.get(member.name, 0):.3f} s"
        )


def measure(
    python: str,
    folder: Path,
    seconds: float,
    collectors: str,
    more: str = "",
    *,
    peer: bool = False,
    breakdown: bool = False,
) -> tuple[Cost, Cost | None]:
    """Run an agent with these collectors, and Telegraf beside it if it is to be had."""
    only = ", ".join(f'"{name}"' for name in collectors.split())
    agent = AGENT + more
    with ExitStack() as stack:
        ours, theirs = stack.enter_context(sink()), stack.enter_context(sink())
        muster: Muster = stack.enter_context(
            stage(
                folder / "ours",
                agent.format(address=ours.address, port=free_port(), only=only),
                {"MUSTER_LOG_LEVEL": "WARNING"},
            )
        )
        muster.python = python
        for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
            muster.env.pop(name, None)  # what is installed there, with the bytecode that pip made
        costs = [Cost(muster.start("agent").pid, ours)]
        if peer:
            config = HOST_INPUTS + PEER.format(address=theirs.address, port=free_port())
            binary = provide(TELEGRAF, may_install=False)
            run = stack.enter_context(telegraf(binary, folder / "theirs", config, flush="10s", health=False))
            costs.append(Cost(run.pid, theirs))
        time.sleep(WARM_UP_SECONDS)
        for cost in costs:
            cost.begin()
        time.sleep(seconds)
        for cost in costs:
            cost.end()
        if breakdown:
            show_members(costs[0])
    return costs[0], costs[1] if peer else None


def lines(seconds: float = 60.0, *, breakdown: bool = False) -> list[Line]:
    """Measure; about twice `seconds`."""
    found = []
    try:
        provide(TELEGRAF, may_install=False)
        peer = True
    except NotAvailableError as error:
        print(f"no peer: {error}", file=sys.stderr)
        peer = False
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name, node_python() as python:
        ours, theirs = measure(python, Path(name) / "host", seconds, "host syslog", peer=peer, breakdown=breakdown)
        beside = "Telegraf" if theirs else ""
        note = f"{ours.rate:.0f} values/s" + (f", Telegraf {theirs.rate:.0f}" if theirs else "")
        found += [
            Line("agent memory, host + syslog", ours.pss, "MB PSS", 36, theirs.pss if theirs else None, beside),
            Line("the same, alone on the machine", ours.alone, "MB", None, theirs.alone if theirs else None, beside),
            Line("agent memory, growth", ours.pss - ours.first_pss, "MB", 1.0, note=f"over {seconds:.0f} s"),
            Line(
                "agent cost, host + syslog",
                ours.percent,
                "% of a core",
                0.5,
                theirs.percent if theirs else None,
                beside,
                note=note,
            ),
        ]
        every, _ = measure(
            python, Path(name) / "every", seconds / 3, "host pci sriov nvme nvml syslog", breakdown=breakdown
        )
        found += [
            Line("agent memory, every node-local collector", every.pss, "MB PSS", 40),
            Line("the same, alone on the machine", every.alone, "MB"),
        ]
        busy, _ = measure(python, Path(name) / "busy", seconds, "host syslog simulated", LOAD, breakdown=breakdown)
        found += [
            Line("agent cost, 2,500 values/s", busy.percent, "% of a core", 1.0, note=f"{busy.rate:.0f} values/s"),
            Line("agent memory, 2,500 values/s", busy.pss, "MB PSS", note="with `simulated`"),
        ]
    return found


LOAD = """
[collectors.simulated]
interval_seconds = 0.45
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--breakdown", action="store_true", help="show each process")
    options = parser.parse_args()
    show(lines(options.seconds, breakdown=options.breakdown))


if __name__ == "__main__":
    main()

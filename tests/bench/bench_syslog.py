"""Syslog through agent and aggregator (DESIGN part 9): none lost at 10,000 messages a second, and what one costs.

Run: `python -m tests.bench.bench_syslog`. A sender in a process of its own; Telegraf after it gets the same messages
at the same rate and writes them to a sink that takes everything, which is less than what Muster does with them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.acceptance.stage import Muster, stage, until
from tests.bench.measuring import ROOT, Line, cpu_seconds, show, sink
from tests.ports import free_port
from tests.services.binaries import TELEGRAF, NotAvailableError, provide
from tests.services.telegraf import telegraf

RATE = 10_000
CONFIG = """
[agent]
level = "debug"

[collectors.syslog]
kmsg = false
storm_copies = 0
tcp = "127.0.0.1:{port}"

[collectors.host]
enabled = false
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


def send(port: int, seconds: float) -> tuple[int, float]:
    """Send at the rate; give how many, and how long it took."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.syslog_load", str(port), str(RATE), str(seconds)],
        cwd=ROOT, capture_output=True, text=True, timeout=60 + 5 * seconds, check=True,
    )  # fmt: skip
    sent, spent = done.stdout.split()
    return int(sent), float(spent)


def stored(muster: Muster) -> int:
    """Give how many messages the store has."""
    found = muster.run("query", "log", "message:count", "--where", "source=tcp", "--since", "10m", "-o", "json")
    if found.returncode:
        return 0
    result = json.loads(found.stdout)
    names = [column["name"] for column in result["columns"]]
    counts = result["data"][next(place for place, name in enumerate(names) if "message" in name)]
    return sum(counts)


def listening(port: int) -> bool:
    """Tell whether somebody listens there."""
    return f"0100007F:{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def ours(folder: Path, seconds: float) -> tuple[int, int, float, float]:
    """Give messages sent and stored, microseconds of CPU a message, and the seconds that sending took."""
    port = free_port()
    with stage(folder, CONFIG.format(port=port)) as muster:
        pid = muster.start("up").pid
        muster.ready(40)
        until("the listener", lambda: listening(port), 20)
        time.sleep(2)
        before = cpu_seconds(pid)
        sent, spent = send(port, seconds)
        muster.balance(wait=30)
        cpu = cpu_seconds(pid) - before
        until("every message", lambda: stored(muster) >= sent, 20)
        return sent, stored(muster), cpu / sent * 1e6, spent


def theirs(folder: Path, seconds: float) -> float | None:
    """Give Telegraf's microseconds of CPU a message; None where it is not to be had."""
    try:
        binary = provide(TELEGRAF, may_install=False)
    except NotAvailableError:
        return None
    port = free_port()
    with sink() as where:
        config = PEER.format(port=port, address=where.address)
        with telegraf(binary, folder, config, health=False) as run:
            until("Telegraf", lambda: listening(port), 20)
            time.sleep(2)
            before = cpu_seconds(run.pid)
            sent, _ = send(port, seconds)
            until("what Telegraf writes", lambda: where.counts()["log_rows"] >= sent, 20)
            return (cpu_seconds(run.pid) - before) / sent * 1e6


def lines(seconds: float = 10.0) -> list[Line]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name:
        sent, kept, cost, spent = ours(Path(name) / "ours", seconds)
        peer = theirs(Path(name) / "theirs", seconds)
    return [
        Line("syslog over TCP at 10,000/s: messages lost", sent - kept, "", 0,
             note=f"{sent} sent in {spent:.1f} s, {kept} stored"),
        Line("syslog: CPU a message, agent and aggregator", cost, "us", None, peer, "Telegraf" if peer else "",
             note="bar of a later issue: 12.5 us"),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    show(lines(parser.parse_args().seconds))


if __name__ == "__main__":
    main()

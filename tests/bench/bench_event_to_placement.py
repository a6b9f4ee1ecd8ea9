"""From a device's event to an answer of placement that knows of it: `python -m tests.bench.bench_event_to_placement`.

A real agent watches a simulated node. The bench changes a GPU's memory at a random moment; the agent hears of it as an
event, describes the node again, spools and sends what is new; ingest, log, inventory consumer and ledger take it; and
the first dry run of a request for a GPU of exactly that much memory that finds one ends the time. So nothing is left
out, the question included. While the ledger does not have it yet, only that device is looked at: a refusal goes through
the whole fleet, and asked again and again it would be what is measured. At rest, and with a fleet of simulated nodes
behind the same aggregator whose telemetry flows, once the inventory knows them all.

An agent spends a twentieth of its time at most on descriptions that events ask for: of changes of one node that follow
within a quarter of a second, or longer where the machine is busy, the later one waits. That is in the figures as well;
`--pause 2` shows them without.

Bar: DESIGN part 9, device event to placement view, p99 <= 1 s.
"""

import argparse
import contextlib
import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tests.acceptance.stage import Muster, stage, until
from tests.bench import switched
from tests.bench.bench_fleet import DOCUMENTS_PER_NODE
from tests.bench.measuring import Line, cpu_seconds, show
from tests.hammer.client import Client

BAR_SECONDS = 1.0
NODE = "switched"
BYTES = 1 << 40
"""No other GPU has so much memory: what is asked for is the changed one, in its latest state."""
SEED = 4711
"""Other serial numbers than the fleet's: one part in two places would be a conflict."""
POLL_SECONDS = 0.004
PATIENCE = 60.0


class Measured(msgspec.Struct, frozen=True):
    """What one run found."""

    seconds: list[float]
    aggregator_cores: float
    agent_cores: float

    def quantile(self, share: float) -> float:
        """Give the least time that this share of the changes did not exceed, seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_event_to_placement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=1000, help="simulated nodes behind; 0: only at rest")
    parser.add_argument("--pause", type=float, default=0.5, help="mean seconds between two changes")
    options = parser.parse_args()
    show(lines(options.changes, options.nodes, options.pause))
    return 0


def lines(changes: int = 200, nodes: int = 1000, pause: float = 0.5) -> list[Line]:
    """Give the lines of the table."""
    found = told("at rest", run(changes, 0, pause))
    if nodes:
        found += told(f"{nodes} nodes behind", run(changes, nodes, pause))
    return found


def told(when: str, measured: Measured) -> list[Line]:
    """Give the lines of one run."""
    note = f"{len(measured.seconds)} changes; most {max(measured.seconds):.3f} s; load {os.getloadavg()[0]:.1f}"
    used = f"cores: aggregator {measured.aggregator_cores:.2f}, agent {measured.agent_cores:.3f}"
    return [
        Line(f"device event to placement view, {when}, p50", measured.quantile(0.5), "s", note=used),
        Line(f"device event to placement view, {when}, p99", measured.quantile(0.99), "s", BAR_SECONDS, note=note),
    ]


def run(changes: int, nodes: int, pause: float) -> Measured:
    """Measure so many changes beside so many simulated nodes."""
    with (
        TemporaryDirectory(prefix="muster-bench-") as name,
        stage(Path(name), '[inventory]\nfirst_sight = "free"\n', env={"MUSTER_LOG_LEVEL": "WARNING"}) as muster,
    ):
        muster.start("aggregator")
        muster.ready()
        device = start_agent(muster)
        with contextlib.closing(Client(str(muster.data_dir / "muster.sock"))) as client:
            gpu = first_change(client, device)  # the node is known, and its first description is over
            if nodes:
                arguments = ("--nodes", str(nodes), "--profile", "load")
                muster.start("fleet", *arguments, program="collectors.fleet_main")
                wait_for(client, nodes * DOCUMENTS_PER_NODE)
            pids = [muster.processes[one].pid for one in ("aggregator", "agent")]
            began, before = time.monotonic(), [cpu_seconds(pid) for pid in pids]
            seconds = list(changed(client, device, gpu, changes, pause))
            after, took = [cpu_seconds(pid) for pid in pids], time.monotonic() - began
        return Measured(seconds, *((one - two) / took for one, two in zip(after, before, strict=True)))


def start_agent(muster: Muster) -> Path:
    """Start an agent that watches the node; give the socket by which its GPU is changed."""
    folder = muster.folder / "agent"
    device = folder / "device.sock"
    env = switched.install(folder)
    (folder / "muster.toml").write_text(
        f'[agent]\nnode_id = "{NODE}"\nonly = ["switched"]\n[collectors.switched]\nseed = {SEED}\nsocket = "{device}"\n'
        f'[publish]\naggregators = ["unix://{muster.data_dir / "muster.sock"}"]\n'
    )
    env |= {"MUSTER_DATA_DIR": str(folder / "data"), "MUSTER_CONFIG": str(folder / "muster.toml")}
    muster.start("agent", env=env)
    until("the agent to watch its device", device.exists)
    return device


def wait_for(client: Client, documents: int) -> None:
    """Wait until the inventory has read so many documents: how fast it can is another bench's question."""
    seen, stands = -1, time.monotonic()
    while seen < documents:
        now: int = client.ask("GET", "/v1/status")[1]["inventory"]["documents"]
        if now != seen:
            seen, stands = now, time.monotonic()
        elif time.monotonic() - stands > PATIENCE:
            raise SystemExit(f"{seen} of {documents} documents came, and no more for {PATIENCE:.0f} s")
        time.sleep(1.0)


def changed(client: Client, device: Path, gpu: str, changes: int, pause: float) -> Iterator[float]:
    """Yield the seconds from each change to the answer that knows of it, at random moments of everybody's rhythm."""
    chance = random.Random(1)
    for number in range(1, changes + 1):
        time.sleep(chance.uniform(0.2, 1.8) * pause)
        yield change(client, device, gpu, BYTES + number % 2)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{number} of {changes}")


def first_change(client: Client, device: Path) -> str:
    """Give the GPU so much memory; give its id, once placement has it."""
    switch(device, BYTES)
    return until("placement to know the GPU", lambda: placed(client, BYTES))


def change(client: Client, device: Path, gpu: str, memory_bytes: int) -> float:
    """Give the GPU so much memory; give the seconds until placement has one of exactly that size."""
    began = time.monotonic()
    switch(device, memory_bytes)
    while True:
        told = client.ask("GET", f"/v1/devices/{gpu}")[1]["device"]["capabilities"].get("memory_bytes")
        if told == memory_bytes and placed(client, memory_bytes) == gpu:
            return time.monotonic() - began
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"after {PATIENCE:.0f} s placement still does not know: the ledger has {told}")
        time.sleep(POLL_SECONDS)


def switch(device: Path, memory_bytes: int) -> None:
    """Change the GPU."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(str(memory_bytes).encode(), str(device))


def placed(client: Client, memory_bytes: int) -> str:
    """Give the GPU of exactly so much memory that placement would give; "" when it knows of none."""
    where = f"device.kind == 'gpu' && device.capabilities.memory_bytes == {memory_bytes}"
    body = {"tenant": "bench", "consumer": "job", "needs": [{"where": where}], "dry_run": True}
    status, answer = client.ask("POST", "/v1/place", body)
    if status not in (200, 400):  # 400: no such capability is known yet
        raise SystemExit(f"a dry run was answered {status}: {answer}")
    found: str = answer["instances"][0]["devices"][0]["device"] if status == 200 and answer["placed"] else ""
    return found


if __name__ == "__main__":
    raise SystemExit(main())

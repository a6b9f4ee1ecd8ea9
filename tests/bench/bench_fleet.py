"""A simulated fleet against a real aggregator: does it keep up, at what cost, and is every row there in the end?

    python -m tests.bench.bench_fleet [--nodes 1000] [--seconds 300] [--over unix|http] [--profile load]

Starts an aggregator and one process of simulated nodes (20 rows of 10 fields a second each, a batch of 80 rows every
4 s, over HTTP, each node a publisher of its own), and prints every few seconds rows a second, lag, and CPU of both; the
cost of physics and encoders is told apart from spool and sending. Fails when the lag does not stay below the bar (2 s:
age of the newest row that the store consumer reads; sampled once all nodes are known and their documents are in), or
when the balance does not close.

CPU is what counts: with other work on the same cores rows a second and lag say little.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from aggregator.cli.client import Client, ServerError

ROOT = Path(__file__).parents[2]
FIELDS = 10
ROWS_PER_STEP = 20
LAG_BAR_SECONDS = 2.0
DOCUMENTS_PER_NODE = 118
_TICKS = os.sysconf("SC_CLK_TCK")


class Sample(msgspec.Struct):
    """One line of the table: what happened since the line before."""

    at: float
    rows_per_second: float
    """Telemetry, events and documents stored."""
    lag_seconds: float
    """Age of the newest row that the store consumer read, at reading."""
    behind_rows: int
    """In the fleet's spool by its own count, but not stored yet."""
    aggregator_cores: float
    fleet_cores: float
    aggregator_rss_mb: float
    fleet_rss_mb: float
    loop_ms: float
    """CPU time of one and the same loop in this process: how much a CPU second was worth just then."""


class Result(msgspec.Struct):
    """What is compared from run to run."""

    nodes: int
    seconds: float
    rows: int
    rows_per_second: float
    values_per_second: float
    worst_lag_seconds: float
    """After the first documents were in."""
    last_lag_seconds: float
    aggregator_cores: float
    aggregator_us_per_row: float
    aggregator_peak_rss_mb: float
    fleet_cores: float
    fleet_cpu: dict[str, float]
    """Cores by phase: physics and encoding are the load's own price."""
    fleet_rss_mb: float
    late_steps: int
    loop_ms: float
    """Mean over the samples; twice as much says that other work had half of each core."""
    balance: str
    unaccounted: int


class Child:
    """A process of ours, measured from outside."""

    def __init__(self, module: str, *arguments: str, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments], env=env, cwd=ROOT, stdout=output, stderr=output
            )

    def cpu(self) -> float:
        """Seconds of user and system time."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self, word: str = "VmRSS") -> float:
        """Resident memory, now or at its peak (`VmHWM`)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{word}:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def reports(self) -> list[dict[str, Any]]:
        """The JSON lines that it printed."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def end(self, seconds: float = 30.0) -> None:
        """Ask it to end, and make it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def loop_ms() -> float:
    """Give the CPU time of a fixed piece of work, in milliseconds."""
    started = time.process_time()
    numbers = [float(number) for number in range(40_000)]
    sum(number * 0.5 for number in numbers)
    sorted(numbers, key=lambda number: -number)
    return round((time.process_time() - started) * 1e3, 1)


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between lines of the table")
    parser.add_argument("--over", choices=("unix", "http"), default="unix")
    parser.add_argument("--profile", choices=("load", "full"), default="load")
    parser.add_argument("--no-documents", action="store_true", help="rows alone, without the nodes' documents")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache", help="on the disk that counts")
    parser.add_argument("--keep", action="store_true", help="leave the data and the logs there")
    options = parser.parse_args(argv)
    options.folder.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fleet-", dir=options.folder))
    try:
        return _bench(options, folder)
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


def _bench(options: argparse.Namespace, folder: Path) -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = os.environ | {
        "MUSTER_DATA_DIR": str(folder),
        "MUSTER_LISTEN": f"127.0.0.1:{port}",
        "MUSTER_LOG_LEVEL": "WARNING",
        "PYTHONPATH": str(ROOT),
    }
    aggregator = Child("aggregator.server", env=env, log=folder / "aggregator.log")
    fleet: Child | None = None
    try:
        client = Client(f"unix://{folder / 'muster.sock'}")
        _until_ready(client, aggregator)
        arguments = ["--nodes", str(options.nodes), "--profile", options.profile, "--duration", str(options.seconds)]
        if options.over == "http":
            scopes = {"name": "bench", "scopes": ["ingest:*"]}
            env = env | {"MUSTER_TOKEN": client.post("/v1/tokens", scopes)["secret"]}
            arguments += ["--aggregator", f"http://127.0.0.1:{port}"]
        if options.no_documents:
            arguments.append("--no-documents")
        fleet = Child("collectors.fleet_main", *arguments, "--linger", "20", env=env, log=folder / "fleet.log")
        samples = _watch(options, client, aggregator, fleet)
        return _conclude(options, client, aggregator, fleet, samples)
    finally:
        if fleet is not None:
            fleet.end()
        aggregator.end()


def _until_ready(client: Client, aggregator: Child) -> None:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline and aggregator.process.poll() is None:
        try:
            client.get("/readyz")
        except ServerError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the aggregator did not come up:\n{aggregator.log.read_text()}")


def _watch(options: argparse.Namespace, client: Client, aggregator: Child, fleet: Child) -> list[Sample]:
    """Print a line every few seconds until the fleet has ended."""
    names = msgspec.structs.fields(Sample)
    print("  ".join(f"{field.name:>17}" for field in names))
    samples: list[Sample] = []
    started = before_at = time.monotonic()
    before = (0, aggregator.cpu(), fleet.cpu())
    while fleet.process.poll() is None:
        time.sleep(max(0.1, before_at + options.every - time.monotonic()))
        if fleet.process.poll() is not None:
            break
        fleet.process.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
        store = client.get("/v1/status")["store"]
        reports = fleet.reports()
        now = time.monotonic()
        try:
            after = (store["rows_done"], aggregator.cpu(), fleet.cpu())
            rss = (aggregator.rss_mb(), fleet.rss_mb())
        except (FileNotFoundError, ProcessLookupError):
            break  # it ended just now
        wall = now - before_at
        sample = Sample(
            round(now - started, 1),
            round((after[0] - before[0]) / wall),
            round(store["lateness_seconds"], 3),
            reports[-1]["rows"] - after[0] if reports else 0,
            round((after[1] - before[1]) / wall, 3),
            round((after[2] - before[2]) / wall, 3),
            round(rss[0]),
            round(rss[1]),
            loop_ms(),
        )
        samples.append(sample)
        before, before_at = after, now
        print("  ".join(f"{getattr(sample, field.name):>17}" for field in names), flush=True)
    return samples


def _conclude(
    options: argparse.Namespace, client: Client, aggregator: Child, fleet: Child, samples: list[Sample]
) -> int:
    if fleet.process.returncode != 0:
        raise SystemExit(f"the fleet failed:\n{fleet.log.read_text()[-4000:]}")
    balance = _settled(client)
    report = fleet.reports()[-1]
    documents = 0 if options.no_documents else report["nodes"] * DOCUMENTS_PER_NODE
    described = 15.0 + documents / 1000.0  # seconds; see collectors.fleet_describing.DOCUMENTS_PER_SECOND
    steady = [one for one in samples if one.at >= described] or samples[-3:]
    seconds, rows = options.seconds, report["rows"]
    cpu = aggregator.cpu()
    telemetry = rows - documents
    result = Result(
        nodes=report["nodes"],
        seconds=seconds,
        rows=rows,
        rows_per_second=round(rows / seconds),
        values_per_second=round(telemetry * FIELDS / seconds) if options.profile == "load" else 0,
        worst_lag_seconds=max((one.lag_seconds for one in steady), default=0.0),
        last_lag_seconds=steady[-1].lag_seconds if steady else 0.0,
        aggregator_cores=round(sum(one.aggregator_cores for one in steady) / max(1, len(steady)), 3),
        aggregator_us_per_row=round(cpu / max(1, rows) * 1e6, 2),
        aggregator_peak_rss_mb=round(aggregator.rss_mb("VmHWM")),
        fleet_cores=round(sum(one.fleet_cores for one in steady) / max(1, len(steady)), 3),
        fleet_cpu={phase: round(spent / report["seconds"], 3) for phase, spent in report["cpu"].items()},
        fleet_rss_mb=round(report["max_rss_bytes"] / 1e6),
        late_steps=report["late_steps"],
        loop_ms=round(sum(one.loop_ms for one in samples) / max(1, len(samples)), 1),
        balance="exact" if balance["settled"] else "open",
        unaccounted=sum(line["unaccounted"] for line in balance["lines"]),
    )
    print()
    for field in msgspec.structs.fields(Result):
        print(f"{field.name:>24}  {getattr(result, field.name)}")
    print(msgspec.json.encode(result).decode())
    stored = sum(line["done"] for line in balance["lines"] if line["publisher"] and line["consumer"] == "store")
    missed = []
    if result.worst_lag_seconds > LAG_BAR_SECONDS:
        missed.append(f"lag {result.worst_lag_seconds} s > {LAG_BAR_SECONDS} s")
    if result.balance != "exact" or result.unaccounted or stored < rows:
        missed.append(f"balance {result.balance}, {result.unaccounted} unaccounted, {stored} of {rows} rows stored")
    print("missed: " + "; ".join(missed) if missed else "all bars met")
    return 1 if missed else 0


def _settled(client: Client, seconds: float = 60.0) -> dict[str, Any]:
    """Wait for the balance to settle; give the last one either way."""
    deadline = time.monotonic() + seconds
    while True:
        balance: dict[str, Any] = client.get("/v1/balance")
        if balance["settled"] or time.monotonic() >= deadline:
            return balance
        time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main())

"""The price of durability (DESIGN part 9): rows a second through the whole ingest path, durable and not.

Run: `python -m tests.bench.bench_durability`. A real aggregator process takes 100 connections of a load generator in a
process of its own, over HTTP on its local socket; once as it is (`synchronous=FULL`: an answer means that the log is on
disk), once with a log that does not wait for the disk. The two take turns, each on a fresh folder; medians count.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.acceptance.stage import stage
from tests.bench.measuring import ROOT, Line, cpu_seconds, fsync_ms, show

CONNECTIONS = 100
REQUESTS = 400
"""Of each connection, at most: what bounds a run beside its time."""


def measure(folder: Path, module: str, seconds: float) -> tuple[float, float]:
    """Give rows a second, and microseconds of the aggregator's CPU a row."""
    with stage(folder) as muster:
        pid = muster.start("aggregator", program=module, env={"PYTHONPATH": str(ROOT)}).pid
        muster.ready()
        before = cpu_seconds(pid)
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.load", str(muster.data_dir / "muster.sock"), str(CONNECTIONS),
             str(seconds), str(REQUESTS)],
            cwd=ROOT, capture_output=True, text=True, timeout=60 + 3 * seconds, check=True,
        )  # fmt: skip
        spent = cpu_seconds(pid) - before
    found = json.loads(done.stdout)
    if found["refused"]:
        raise AssertionError(f"{found['refused']} batches were not accepted")
    return found["rows"] / found["seconds"], spent / found["rows"] * 1e6


def lines(seconds: float = 6.0, times: int = 3) -> list[Line]:
    """Measure."""
    found: dict[str, list[tuple[float, float]]] = {"aggregator.server": [], "tests.bench.not_durable": []}
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name:
        for number in range(times):
            for module, runs in found.items():
                runs.append(measure(Path(name) / f"{module}-{number}", module, seconds))
        fsync = fsync_ms(Path(name))
    (durable, cpu), (not_durable, cpu_without) = (
        (statistics.median(rate for rate, _ in runs), statistics.median(spent for _, spent in runs))
        for runs in found.values()
    )
    return [
        Line("durability: not durable / durable, 100 connections", not_durable / durable, "x", 1.5,
             note=f"{durable:,.0f} rows/s durable, {not_durable:,.0f} not; fsync {fsync:.2f} ms"),
        Line("durability: CPU of the aggregator a row, durable", cpu, "us", None, cpu_without, "not durable"),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    show(lines(options.seconds, options.times))


if __name__ == "__main__":
    main()

"""`python -m tests.bench.bench_claims`: durable claims over HTTP, spread over a fleet and on one hot node.

Several client processes, each with a few kept connections over raw sockets; every answered claim is on disk. What an
fsync takes on this disk is printed beside it.
"""

import argparse
import multiprocessing
import os
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.acceptance.stage import stage
from tests.bench.measuring import Line, fsync_ms, show
from tests.hammer.client import Client
from tests.hammer.world import HOT, seed

PROCESSES, THREADS = 2, 16


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_claims", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    show(lines(options.nodes, options.seconds))
    return 0


def lines(nodes: int = 1000, seconds: float = 5.0) -> list[Line]:
    """Give the lines of the table."""
    with TemporaryDirectory(prefix="muster-bench-") as name:
        folder = Path(name)
        ids = seed(folder / "data", nodes=nodes, vcpus=1 << 30)
        flush = fsync_ms(folder)
        with stage(folder) as muster:
            muster.start("aggregator")
            muster.ready()
            path = str(muster.data_dir / "muster.sock")
            process = psutil.Process(muster.processes["aggregator"].pid)
            spread, spread_cost = measure(path, process, [{"devices": [{"device": one}]} for one in ids], seconds)
            hot, hot_cost = measure(path, process, [{"amounts": {HOT: {"vcpus": 1}}}], seconds)
    note = f"an fsync takes {flush:.2f} ms here; load {os.getloadavg()[0]:.1f}"
    return [
        Line("durable claims over HTTP, spread", spread, "claims/s", 1000.0, least=True, note=note),
        Line("the same, of one core of the aggregator", 1 / spread_cost, "claims/s"),
        Line("durable claims over HTTP, one hot node", hot, "claims/s", 300.0, least=True, note=note),
        Line("the same, of one core of the aggregator", 1 / hot_cost, "claims/s"),
    ]


def measure(path: str, process: psutil.Process, wanted: list[dict[str, Any]], seconds: float) -> tuple[float, float]:
    """Ask for what is wanted, each once (or the only one again and again).

    Gives claims a second, and what one costs of the aggregator's processor time, in seconds.
    """
    before = process.cpu_times()
    queue: Queue[tuple[int, float]] = multiprocessing.Queue()
    share = [wanted if len(wanted) == 1 else wanted[number::PROCESSES] for number in range(PROCESSES)]
    clients = [multiprocessing.Process(target=_client, args=(path, mine, seconds, queue)) for mine in share]
    for client in clients:
        client.start()
    found = [queue.get() for _ in clients]
    for client in clients:
        client.join()
    after, count = process.cpu_times(), sum(count for count, _ in found)
    spent = after.user + after.system - before.user - before.system
    return count / max(took for _, took in found), spent / count


def _client(path: str, wanted: list[dict[str, Any]], seconds: float, queue: "Queue[tuple[int, float]]") -> None:
    counts = [0] * THREADS
    began = time.monotonic()
    threads = [
        threading.Thread(
            target=_ask, args=(path, wanted if len(wanted) == 1 else wanted[at::THREADS], seconds, counts, at)
        )
        for at in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put((sum(counts), time.monotonic() - began))


def _ask(path: str, wanted: list[dict[str, Any]], seconds: float, counts: list[int], at: int) -> None:
    client, end, place = Client(path), time.monotonic() + seconds, 0
    while time.monotonic() < end and (len(wanted) == 1 or place < len(wanted)):
        body = {"tenant": "bench", "consumer": f"job-{at}", **wanted[place % len(wanted)]}
        status, answer = client.ask("POST", "/v1/claims", body)
        if status != 201:
            raise SystemExit(f"{status}: {answer}")
        counts[at] += 1
        place += 1
    client.close()


if __name__ == "__main__":
    raise SystemExit(main())

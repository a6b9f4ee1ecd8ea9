"""`python -m tests.hammer`: so many attempts at claims over HTTP, from processes with many connections each.

Shapes: 64 writers after one device, again and again; 200 asks for 64 of an amount; and a mix. In the mix clients ask
for one to four devices, release, repeat keys, write on conditions, let leases of a second run out, and provision.
Beside them machines live: they publish facts, answer what claims ask of them, have cards swapped, fall silent, are
fenced, boot, and go on under another id (`machine`). For some nodes nobody speaks: what is provisioned there stays so.

In the end an independent reader goes through the ledger's entries, one after the other: after none of them may a device
be two claims'. Exit status 1 when one was, or when a machine was told to use a card for two. It stops by itself.
"""

import argparse
import contextlib
import math
import multiprocessing
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Empty

from tests.acceptance.stage import stage
from tests.bench.measuring import cpu_seconds, fsync_ms
from tests.hammer.client import Client
from tests.hammer.clients import THREADS, Devices, Worker
from tests.hammer.machine import Machine
from tests.hammer.reader import Reader
from tests.hammer.watcher import Watcher
from tests.hammer.world import HOT, seed

VCPUS, QUOTA = 64, 20
PROCESSES, MACHINES = 2, 4
TELL_SECONDS = 5.0
"""How often it is told how far it is."""
CONFIG = """
[aggregator]
takeover_seconds = 2.0
[claiming]
provision_seconds = 2.0
clean_seconds = 2.0
[inventory]
first_sight = "free"
"""


class HammerError(AssertionError):
    """Something was given twice, or an answer was not what it must be."""


def main() -> int:
    """Hammer, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.hammer", description=__doc__)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop the mix after so long")
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFFFFFF)
    parser.add_argument("--watch", action="store_true", help="follow the watch stream meanwhile; it costs some speed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends too
    with tempfile.TemporaryDirectory(prefix="muster-hammer-") as folder:
        try:
            told = hammer(Path(folder), options.attempts, options.seconds, options.seed, watch=options.watch)
        except HammerError as error:
            sys.stderr.write(f"FAILED (--seed {options.seed}): {error}\n")
            return 1
    sys.stdout.write(told + "\n")
    return 0


def hammer(folder: Path, attempts: int, seconds: float, number: int, *, watch: bool = False) -> str:
    """Run every shape; give a line about it. Raises HammerError."""
    ids = seed(folder / "data", nodes=12, vcpus=VCPUS, quota=QUOTA)
    began = time.monotonic()
    with stage(folder, CONFIG) as muster:
        muster.start("aggregator")
        muster.ready()
        path = str(muster.data_dir / "muster.sock")
        watcher = Watcher(path) if watch else None
        made = sum(one_device(path, ids[0], round_) for round_ in range(12))
        made += sum(amounts(path) for _ in range(3))
        spent = cpu_seconds(muster.processes["aggregator"].pid)
        found = mix(path, ids[1:], max(0, attempts - made), seconds, number)
        spent = (cpu_seconds(muster.processes["aggregator"].pid) - spent) / found["tried"]
        if watcher is not None:
            watcher.catch_up(_sequence(path))
        muster.stop("aggregator")
    flush = fsync_ms(folder)
    ledger = folder / "data" / "aggregator" / "ledger.db"
    reader = Reader({HOT: VCPUS}, {"small": QUOTA}).read(ledger)
    if watcher is not None:
        reader.problems += watcher.compared(ledger)
    if reader.problems:
        raise HammerError(f"{len(reader.problems)} violations: " + "; ".join(reader.problems[:5]))
    if reader.grants < found["granted"]:
        raise HammerError(f"{found['granted']} claims were answered, and the ledger has {reader.grants}")
    total, took = made + found.pop("tried"), time.monotonic() - began
    rate = f"{total} attempts in {took:.1f} s ({total / took:.0f}/s)"
    shares = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
    price = f"an attempt takes {spent * 1e3:.2f} ms of a core, an fsync {flush:.2f} ms"
    return f"{rate}, 0 violations, {reader.grants} grants in the ledger; {shares}; {price}"


def _sequence(path: str) -> int:
    client = Client(path)
    found: int = client.ask("GET", "/v1/devices?limit=1")[1]["sequence"]
    client.close()
    return found


def one_device(path: str, device: str, round_: int, writers: int = 64) -> int:
    """Have 64 writers ask for one device at once: exactly one gets it. Give how many tried."""
    answers = _at_once(path, writers, lambda at: {"tenant": f"t{at}", "consumer": f"r{round_}",
                                                  "devices": [{"device": device}]})  # fmt: skip
    winners = [claim for status, claim in answers if status == 201]
    if len(winners) != 1:
        raise HammerError(f"{len(winners)} of {writers} writers got one device")
    _release(path, winners)
    return writers


def amounts(path: str, asks: int = 200) -> int:
    """Have 200 asks for 64 of an amount: exactly 64 are granted. Give how many tried."""
    answers = _at_once(path, asks, lambda at: {"tenant": f"t{at}", "consumer": "one", "amounts": {HOT: {"vcpus": 1}}})
    winners = [claim for status, claim in answers if status == 201]
    if len(winners) != VCPUS:
        raise HammerError(f"{len(winners)} of {asks} asks were granted, of {VCPUS} there are")
    _release(path, winners)
    return asks


def _at_once(path: str, count: int, body: Callable[[int], object]) -> list[tuple[int, str]]:
    answers: list[tuple[int, str]] = []
    barrier = threading.Barrier(count)

    def ask(at: int) -> None:
        client = Client(path)
        barrier.wait()
        status, answer = client.ask("POST", "/v1/claims", body(at))
        answers.append((status, answer.get("id", "")))
        client.close()

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _release(path: str, claims: list[str]) -> None:
    client = Client(path)
    for claim in claims:
        status, answer = client.ask("DELETE", f"/v1/claims/{claim}")
        if status != 200:
            raise HammerError(f"a release was answered {status}: {answer}")
    client.close()


def mix(path: str, ids: list[str], attempts: int, seconds: float, number: int) -> Counter[str]:
    """Do everything at once, beside machines that live; give what came of it. Raises HammerError."""
    queue: Queue[Counter[str]] = multiprocessing.Queue()
    tried = multiprocessing.Array("Q", PROCESSES)
    over = multiprocessing.Event()
    end = time.monotonic() + seconds
    share = -(-attempts // (PROCESSES * THREADS))  # of each connection; rather a few more than less
    machines = multiprocessing.Process(target=_machines, args=(path, number, over, queue))
    clients = [
        multiprocessing.Process(target=_clients, args=(path, ids, share, end, number + at, queue, tried, at))
        for at in range(PROCESSES)
    ]
    for process in (machines, *clients):
        process.start()
    try:
        found = sum(
            _gathered([machines, *clients], PROCESSES, queue, tried, share * PROCESSES * THREADS), Counter[str]()
        )
        over.set()
        found += sum(_gathered([machines], 1, queue, tried, 0), Counter[str]())
    finally:
        for process in (machines, *clients):
            process.terminate()
            process.join()
    if found["wrong"]:
        raise HammerError(f"{found['wrong']} answers were not what they must be; see above")
    return found


def _gathered(
    processes: list[multiprocessing.Process],
    count: int,
    queue: "Queue[Counter[str]]",
    tried: "SynchronizedArray[int]",
    wanted: int,
) -> list[Counter[str]]:
    """Wait for what so many processes count, and tell how far they are. Raises HammerError when one dies."""
    began = told = time.monotonic()
    found: list[Counter[str]] = []
    while len(found) < count:
        with contextlib.suppress(Empty):
            found.append(queue.get(timeout=1.0))
        if any(process.exitcode for process in processes):
            raise HammerError("a process died; see above")
        if time.monotonic() - told >= TELL_SECONDS and wanted:
            told = time.monotonic()
            done = sum(tried[:])
            rate = done / (told - began)
            left = (wanted - done) / rate if rate else math.inf
            sys.stderr.write(f"{done} of {wanted} attempts, {rate:.0f}/s, about {left / 60:.0f} min left\n")
    return found


def _clients(
    path: str,
    ids: list[str],
    share: int,
    end: float,
    number: int,
    queue: "Queue[Counter[str]]",
    tried: "SynchronizedArray[int]",
    at: int,
) -> None:
    devices = Devices(path, ids)
    devices.look()
    workers = [Worker(path, devices, number * 100 + thread) for thread in range(THREADS)]
    threads = [threading.Thread(target=worker.work, args=(share, end), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(1.0)
            devices.look()
            tried[at] = sum(worker.counts["tried"] for worker in workers)
    devices.close()
    queue.put(sum((worker.counts for worker in workers), Counter[str]()))


def _machines(path: str, number: int, over: "Event", queue: "Queue[Counter[str]]") -> None:
    machines = [Machine(path, f"machine{at}", number * 100 + 50 + at) for at in range(MACHINES)]
    threads = [threading.Thread(target=machine.live, args=(over.is_set,), daemon=True) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter[str]()
    for machine in machines:
        machine.close()
        counts += machine.counts
        counts["wrong"] += len(machine.problems)
        sys.stderr.writelines(f"{problem}\n" for problem in machine.problems[:10])
    queue.put(counts)


if __name__ == "__main__":
    raise SystemExit(main())

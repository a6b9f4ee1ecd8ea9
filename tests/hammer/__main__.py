"""`python -m tests.hammer`: so many attempts at claims over HTTP, from processes with many connections each.

Shapes: 64 writers after one device, again and again; 200 asks for 64 of an amount; and a mix of grants of one to four
devices, releases, repeated keys, conditional writes, leases of a second that run out, and provisions that no node
answers. In the end an independent reader goes through the ledger's entries. Exit status 1 when one was given twice.
"""

import argparse
import contextlib
import math
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from queue import Empty

from tests.acceptance.stage import stage
from tests.hammer.client import Client
from tests.hammer.reader import Reader
from tests.hammer.world import HOT, seed

VCPUS, QUOTA = 64, 20
THREADS = 16
"""Connections of each client process."""
TELL_SECONDS = 5.0
"""How often it is told how far it is."""
CONFIG = "[claiming]\nprovision_seconds = 2.0\nclean_seconds = 2.0\nauto_clean = false\n"


class HammerError(AssertionError):
    """Something was given twice, or an answer was not what it must be."""


def main() -> int:
    """Hammer, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.hammer", description=__doc__)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop the mix after so long")
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFFFFFF)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-hammer-") as folder:
        try:
            told = hammer(Path(folder), options.attempts, options.seconds, options.seed)
        except HammerError as error:
            sys.stderr.write(f"FAILED (--seed {options.seed}): {error}\n")
            return 1
    sys.stdout.write(told + "\n")
    return 0


def hammer(folder: Path, attempts: int, seconds: float, number: int) -> str:
    """Run every shape; give a line about it. Raises HammerError."""
    ids = seed(folder / "data", nodes=12, vcpus=VCPUS, quota=QUOTA)
    began = time.monotonic()
    with stage(folder, CONFIG) as muster:
        muster.start("aggregator")
        muster.ready()
        path = str(muster.data_dir / "muster.sock")
        made = sum(one_device(path, ids[0], round_) for round_ in range(12))
        made += sum(amounts(path) for _ in range(3))
        found = mix(path, ids[1:], max(0, attempts - made), seconds, number)
        muster.stop("aggregator")
    reader = Reader({HOT: VCPUS}, {"small": QUOTA}).read(folder / "data" / "aggregator" / "ledger.db")
    if reader.problems:
        raise HammerError(f"{len(reader.problems)} violations: " + "; ".join(reader.problems[:5]))
    if reader.grants < found["granted"]:
        raise HammerError(f"{found['granted']} claims were answered, and the ledger has {reader.grants}")
    total, took = made + found.pop("tried"), time.monotonic() - began
    shares = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
    rate = f"{total} attempts in {took:.1f} s ({total / took:.0f}/s)"
    return f"{rate}, 0 violations, {reader.grants} grants in the ledger; {shares}"


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


def mix(path: str, ids: list[str], attempts: int, seconds: float, number: int, processes: int = 2) -> Counter[str]:
    """Do everything at once; give what came of it."""
    queue: Queue[Counter[str]] = multiprocessing.Queue()
    tried = multiprocessing.Array("Q", processes)
    end = time.monotonic() + seconds
    share = -(-attempts // (processes * THREADS))  # of each connection; rather a few more than less
    clients = [
        multiprocessing.Process(target=_process, args=(path, ids, share, end, number + at, queue, tried, at))
        for at in range(processes)
    ]
    for client in clients:
        client.start()
    try:
        found = sum(_gathered(clients, queue, tried, share * processes * THREADS), Counter[str]())
    finally:
        for client in clients:
            client.terminate()
            client.join()
    if found["wrong"]:
        raise HammerError(f"{found['wrong']} answers were not what they must be; see above")
    return found


def _gathered(
    clients: list[multiprocessing.Process], queue: "Queue[Counter[str]]", tried: "SynchronizedArray[int]", wanted: int
) -> list[Counter[str]]:
    """Wait for the clients, and tell how far they are. Raises HammerError when one dies."""
    began = told = time.monotonic()
    found: list[Counter[str]] = []
    while len(found) < len(clients):
        with contextlib.suppress(Empty):
            found.append(queue.get(timeout=1.0))
        if any(client.exitcode for client in clients):
            raise HammerError("a client died; see above")
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            done = sum(tried[:])
            rate = done / (told - began)
            left = (wanted - done) / rate if rate else math.inf
            sys.stderr.write(f"{done} of {wanted} attempts, {rate:.0f}/s, about {left / 60:.0f} min left\n")
    return found


def _process(
    path: str,
    ids: list[str],
    share: int,
    end: float,
    number: int,
    queue: "Queue[Counter[str]]",
    tried: "SynchronizedArray[int]",
    at: int,
) -> None:
    counts = [Counter[str]() for _ in range(THREADS)]
    threads = [
        threading.Thread(target=_work, args=(path, ids, share, end, number * 100 + thread, counts[thread]), daemon=True)
        for thread in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(1.0)
            tried[at] = sum(one["tried"] for one in counts)
    queue.put(sum(counts, Counter[str]()))


def _work(path: str, ids: list[str], share: int, end: float, number: int, counts: Counter[str]) -> None:
    chance, client, mine = random.Random(number), Client(path), list[tuple[str, int]]()
    try:
        for turn in range(share):
            if time.monotonic() >= end:
                break
            counts["tried"] += 1
            if mine and chance.random() < 0.45:
                _let_go(client, chance, mine, counts)
            else:
                _grab(client, chance, ids, mine, counts, f"{number}-{turn}")
    except Exception as error:  # noqa: BLE001 - whatever it is, this is not what a client may see
        counts["wrong"] += 1
        sys.stderr.write(f"{error}\n")
    client.close()


def _grab(
    client: Client, chance: random.Random, ids: list[str], mine: list[tuple[str, int]], counts: Counter[str], name: str
) -> None:
    """Ask for a few devices or an amount; sometimes twice under one key, which must give one claim."""
    tenant = chance.choice(["small", "large", "other"])
    body: dict[str, object] = {"tenant": tenant, "consumer": name, "lease_seconds": chance.choice([1.0, 60.0])}
    if chance.random() < 0.2:
        body["amounts"] = {HOT: {"vcpus": chance.randint(1, 8)}}
    else:
        body["devices"] = [{"device": one} for one in chance.sample(ids, chance.choice([1, 1, 1, 4]))]
    again = chance.random() < 0.1
    answers = [client.ask("POST", "/v1/claims", body, f"Idempotency-Key: {name}\r\n") for _ in range(1 + again)]
    counts["repeated"] += again
    (status, claim) = answers[0]
    if status == 201:
        counts["granted"] += 1
        mine.append((claim["id"], claim["version"]))
        if again and (answers[1][0] != 201 or answers[1][1]["id"] != claim["id"]):
            counts["wrong"] += 1
            sys.stderr.write(f"one key gave {answers}\n")
    elif status == 409 and claim["code"] == "claim.refused":
        counts["refused"] += 1
        if again and answers[1][0] == 201:
            mine.append((answers[1][1]["id"], answers[1][1]["version"]))
            counts["granted"] += 1
    else:
        counts["wrong"] += 1
        sys.stderr.write(f"{status}: {claim}\n")


def _let_go(client: Client, chance: random.Random, mine: list[tuple[str, int]], counts: Counter[str]) -> None:
    """Release, renew or provision; with an old version it must be refused."""
    claim, version = mine.pop(chance.randrange(len(mine)))
    what = chance.random()
    if what < 0.1:
        status, answer = client.ask("DELETE", f"/v1/claims/{claim}", None, 'If-Match: "1"\r\n')
        mine.append((claim, version))
        counts["stale"] += 1
        wrong = status != 409
    elif what < 0.2:
        status, answer = client.ask("POST", f"/v1/claims/{claim}/renew", {"lease_seconds": 30.0})
        mine.append((claim, version))
        counts["renewed"] += status == 200
        counts["late"] += status == 409
        wrong = status not in (200, 409)
    elif what < 0.22 and not counts["provisioned"]:  # no node answers: what was told stays where it is
        status, answer = client.ask("POST", f"/v1/claims/{claim}/provision")
        counts["provisioned"] += status == 202
        counts["late"] += status == 409
        wrong = status not in (202, 409)
    else:
        status, answer = client.ask("DELETE", f"/v1/claims/{claim}")
        counts["released"] += 1
        wrong = status != 200
    if wrong:
        counts["wrong"] += 1
        sys.stderr.write(f"{status}: {answer}\n")


if __name__ == "__main__":
    raise SystemExit(main())

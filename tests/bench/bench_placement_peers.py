"""What OpenStack Placement, the peer of claims and placement, does on this machine: in one run with what is ours.

    python -m tests.bench.bench_placement_peers [--hosts 1000] [--seconds 5] [--trials 12]

Placement 12 and 16 from PyPI with PostgreSQL, which waits for the disk; two processes of four threads, nobody is asked
who they are. Other benches start one by `peer`, and ask `candidates`, `writes` and `races` for figures beside theirs.
The fleet is put into its tables as its API would, which takes minutes for this many; one host is read back by the API.

Placement 12 has nothing but `limit` against hosts of many devices: from some number of GPUs on it gives no answer in
reasonable time. The first count to which there was none is the last that is asked.
"""

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path

import msgspec

from collectors.transport import Transport
from tests.bench.measuring import Line, cpu_seconds, fsync_ms, show
from tests.bench.seeded import seeded
from tests.services.binaries import PLACEMENT_12, PLACEMENT_16, POSTGRES, provide
from tests.services.placement import WIDE_TREES, Client, Placement, placement
from tests.services.postgresql import Postgres, postgresql

VERSIONS = {"Placement 12": PLACEMENT_12, "Placement 16": PLACEMENT_16}
COUNTS = (1, 2, 4, 8)
GPUS = 8
"""Of a host."""
VCPUS = 64
"""Of a host."""
LIMIT = 1000
"""Candidates at most: what Nova asks for by default."""
CLIENTS = 16
WRITERS = 64


@contextmanager
def database() -> Iterator[Postgres]:
    """Run what the peers keep their state in."""
    with postgresql(provide(POSTGRES, may_install=True)) as server:
        yield server


@contextmanager
def peer(version: str, server: Postgres) -> Iterator[Placement]:
    """Run one of `VERSIONS`, empty, tuned for wide trees where it knows how."""
    python = provide(VERSIONS[version], may_install=True)
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        with placement(python, server, Path(folder), WIDE_TREES) as found:
            yield found


# --- a fleet ----------------------------------------------------------------------------------------------------------


def load(peer: Placement, hosts: int, gpus: int = GPUS) -> list[str]:
    """Give it hosts, each with GPUs that are providers of their own below it; give the ids of the hosts."""
    with Client(peer.address) as client:
        client.must("GET", "/resource_classes")  # it writes the names of its classes when it is first asked for any
        peer.execute(_fleet(hosts, gpus))
        found = peer.execute("SELECT uuid FROM resource_providers WHERE parent_provider_id IS NULL ORDER BY id").split()
        tree = client.must("GET", f"/resource_providers?in_tree={found[-1]}")["resource_providers"]
        assert gpus + 1 == len(tree)
        inventory = client.must("GET", f"/resource_providers/{found[-1]}/inventories")["inventories"]
        assert VCPUS == inventory["VCPU"]["total"]
    return found


def _fleet(hosts: int, gpus: int) -> str:
    return f"""
        BEGIN;
        INSERT INTO resource_providers (uuid, name, generation, created_at)
            SELECT gen_random_uuid(), 'host-' || host, 1, now() FROM generate_series(1, {hosts}) AS host;
        UPDATE resource_providers SET root_provider_id = id;
        INSERT INTO resource_providers (uuid, name, generation, root_provider_id, parent_provider_id, created_at)
            SELECT gen_random_uuid(), host.name || '-gpu-' || gpu, 1, host.id, host.id, now()
            FROM resource_providers AS host, generate_series(1, {gpus}) AS gpu;
        INSERT INTO inventories (resource_provider_id, resource_class_id, total, reserved, min_unit, max_unit,
                                 step_size, allocation_ratio, created_at)
            SELECT provider.id, class.id, had.total, 0, 1, had.total, 1, 1.0, now()
            FROM (VALUES ('VCPU', {VCPUS}, true), ('MEMORY_MB', 1048576, true), ('PGPU', 1, false))
                AS had (name, total, is_host)
            JOIN resource_classes AS class ON class.name = had.name
            JOIN resource_providers AS provider ON (provider.parent_provider_id IS NULL) = had.is_host;
        COMMIT;
        ANALYZE;
    """


# --- candidates -------------------------------------------------------------------------------------------------------


def candidates_path(gpus: int) -> str:
    """Give the question for so many GPUs of one host, beside vCPU and memory: a group for each, as Nova asks."""
    groups = "".join(f"&resources{number}=PGPU:1" for number in range(1, gpus + 1))
    return f"/allocation_candidates?resources=VCPU:8,MEMORY_MB:65536{groups}&group_policy=none&limit={LIMIT}"


class Answered(msgspec.Struct, frozen=True):
    """What an answer took, medians."""

    ms: float
    cpu_ms: float
    """Of Placement and its database: what tells on a machine that has other work."""


def candidates(
    peer: Placement, counts: Sequence[int] = COUNTS, *, times: int = 3, seconds: float = 20.0
) -> dict[int, Answered | None]:
    """Say what an answer took, by how many GPUs were asked for of one host.

    None: no answer within `seconds`. That count is the last; the greater ones are left out.
    """
    found: dict[int, Answered | None] = {}
    with Client(peer.address, seconds) as client:
        for count in counts:
            took, cpu = [], []
            try:
                for _ in range(times):
                    before, began = _cpu(peer), time.perf_counter()
                    answer = client.must("GET", candidates_path(count))
                    took.append((time.perf_counter() - began) * 1e3)
                    cpu.append((_cpu(peer) - before) * 1e3)
                    assert answer["allocation_requests"]
            except TimeoutError:
                found[count] = None
                break
            found[count] = Answered(statistics.median(took), statistics.median(cpu))
    return found


def _cpu(peer: Placement) -> float:
    return cpu_seconds(peer.pid) + cpu_seconds(peer.server.pid)


# --- writes -----------------------------------------------------------------------------------------------------------


class Writes(msgspec.Struct, frozen=True):
    """What writers did in their time."""

    per_second: float
    """Writes that were granted."""
    p50_ms: float
    cpu_ms: float
    """Of Placement and its database, for each that was granted."""
    refused: int
    """Writes that were not, although there was room: it gave up after tries of its own."""


def writes(peer: Placement, hosts: Sequence[str], *, clients: int = CLIENTS, seconds: float = 5.0) -> Writes:
    """Let clients give one vCPU to new consumers, each time of a host drawn at random; one host: the hot provider."""
    took: list[float] = []
    refused: list[int] = []
    before, began = _cpu(peer), time.perf_counter()

    def write(number: int) -> None:
        draw = random.Random(number)
        with Client(peer.address) as client:
            while (now := time.perf_counter()) < began + seconds:
                status = client.allocate(draw.choice(hosts), {"VCPU": 1})
                if status == 204:
                    took.append(time.perf_counter() - now)
                else:
                    refused.append(status)

    _together(write, clients)
    spent = time.perf_counter() - began
    cpu_ms = (_cpu(peer) - before) / len(took) * 1e3
    return Writes(len(took) / spent, statistics.median(took) * 1e3, cpu_ms, len(refused))


def _together(work: Callable[[int], None], workers: int) -> None:
    """Run `work` in so many threads; raise what the first of them raised that failed."""
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  # raised below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


# --- the same thing twice ---------------------------------------------------------------------------------------------


class Races(msgspec.Struct, frozen=True):
    """What came of many writers that wanted one thing at once."""

    trials: int
    violated: int
    """Trials in which more than one of them was granted it."""
    worst: int
    """The most that were granted it in one trial."""


def race(claim: Callable[[int], bool], writers: int = WRITERS) -> int:
    """Let writers, each a thread, begin `claim` at the same moment; give how many were granted it."""
    ready = threading.Barrier(writers)
    granted: list[int] = []

    def want(number: int) -> None:
        ready.wait()
        if claim(number):
            granted.append(number)

    _together(want, writers)
    return len(granted)


def tally(granted: Sequence[int]) -> Races:
    """Count, from how many were granted it in each trial. Raises AssertionError when in one of them nobody was."""
    assert min(granted) > 0, "nobody was granted it"
    return Races(len(granted), sum(number > 1 for number in granted), max(granted))


def races(peer: Placement, trials: int = 12) -> Races:
    """Let writers race for a provider that has one vCPU, each for a consumer of its own."""
    found = []
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(peer.address)) for _ in range(WRITERS)]
        for trial in range(trials):
            one = clients[0].add_provider(f"one-{trial}", {"VCPU": 1})
            granted = race(partial(_allocate, clients, one))
            found.append(max(granted, clients[0].used(one, "VCPU")))
    return tally(found)


def races_of_ours(trials: int = 12) -> Races:
    """Let the same writers race for one device of ours, over its local socket."""
    found = []
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        with seeded(Path(folder), trials, 1) as (muster, devices):
            clients = [Transport([f"unix://{muster.data_dir / 'muster.sock'}"]) for _ in range(WRITERS)]
            try:
                for device in devices:
                    found.append(race(partial(_claim, clients, device)))
            finally:
                for client in clients:
                    client.close()
    return tally(found)


def _allocate(clients: Sequence[Client], provider: str, number: int) -> bool:
    return clients[number].allocate(provider, {"VCPU": 1}) == 204


def _claim(clients: Sequence[Transport], device: str, number: int) -> bool:
    wanted = {"tenant": f"t{number}", "consumer": "race", "devices": [{"device": device}]}
    body, headers = msgspec.json.encode(wanted), {"Content-Type": "application/json"}
    answer = clients[number].request("POST", "/v1/claims", body, headers)
    if answer.status not in (201, 409):
        raise AssertionError(f"{answer.status} {answer.body!r}")
    return answer.status == 201


# --- all of it --------------------------------------------------------------------------------------------------------


class Figures(msgspec.Struct, frozen=True):
    """What one Placement did."""

    candidates: dict[int, Answered | None]
    """By GPUs of one host, as `candidates` gives them."""
    spread: Writes
    hot: Writes
    races: Races


@cache
def figures(hosts: int = 1000, seconds: float = 5.0, trials: int = 12) -> dict[str, Figures]:
    """Measure both peers, by version; once in a process, for all benches that print them beside ours (3 minutes)."""
    found = {}
    with database() as server:
        for version in VERSIONS:
            with peer(version, server) as running:
                raced = races(running, trials)
                with Client(running.address) as client:
                    hot = writes(running, [client.add_provider("hot", {"VCPU": 1_000_000})], seconds=seconds)
            with peer(version, server) as running:
                ids = load(running, hosts)
                spread = writes(running, ids, seconds=seconds)
                found[version] = Figures(candidates(running), spread, hot, raced)
    return found


def lines() -> list[Line]:
    """Print what the peers do; say how often one thing is given twice: by ours, whose bar is never, and by them."""
    theirs = figures()
    show_peers(theirs)
    return [_twice(races_of_ours(), theirs)]


def _twice(ours: Races, theirs: dict[str, Figures]) -> Line:
    told = ", ".join(
        f"{version}: {one.races.violated} of {one.races.trials}, at worst {one.races.worst} times"
        for version, one in theirs.items()
    )
    name, last = list(theirs.items())[-1]
    what = f"claims: trials of {ours.trials} in which {WRITERS} writers got one thing twice"
    return Line(what, ours.violated, "", 0, last.races.violated, name, note=told)


def show_peers(found: dict[str, Figures]) -> None:
    """Print what the peers did, side by side."""
    rows = {"": list(found)}
    for count in COUNTS:
        rows[f"candidates, {count} GPUs of one host, ms (of CPU)"] = [_answer(one, count) for one in found.values()]
    for name in ("spread", "hot"):
        done: list[Writes] = [getattr(one, name) for one in found.values()]
        rows[f"allocations/s, {name}, {CLIENTS} clients"] = [f"{one.per_second:.4g}" for one in done]
        rows[f"allocations, {name}, p50 ms"] = [f"{one.p50_ms:.4g}" for one in done]
        rows[f"allocations, {name}, CPU ms of each"] = [f"{one.cpu_ms:.4g}" for one in done]
        rows[f"allocations, {name}, refused though there was room"] = [str(one.refused) for one in done]
    rows["trials in which one thing was given twice"] = [
        f"{one.races.violated} of {one.races.trials}, worst {one.races.worst}" for one in found.values()
    ]
    for what, cells in rows.items():
        print(f"{what:52}" + "".join(f"{cell:>22}" for cell in cells))


def _answer(one: Figures, count: int) -> str:
    if count not in one.candidates:
        return "not asked"
    answered = one.candidates[count]
    return "none in time" if answered is None else f"{answered.ms:.4g} ({answered.cpu_ms:.4g})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--trials", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        print(f"{options.hosts} hosts of {GPUS} GPUs; fsync {fsync_ms(Path(folder)):.2f} ms")
    theirs = figures(options.hosts, options.seconds, options.trials)
    show_peers(theirs)
    show([_twice(races_of_ours(options.trials), theirs)])


if __name__ == "__main__":
    main()

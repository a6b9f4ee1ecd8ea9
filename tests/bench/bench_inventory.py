"""`python -m tests.bench.bench_inventory`: what a capability document costs the inventory, in time and in memory.

A log with the documents of a simulated fleet, each in a batch of its own as agents send them, and a heartbeat of each
node behind them; then the inventory consumer reads it into a ledger on disk, as in an aggregator, and reads all of it
again as after a restart of every agent. Each part runs in a process of its own; time is CPU time of the whole process,
so that other work on the same cores counts for less. What the process grows by whatever the fleet (SQLite's caches, the
entries that watchers may ask for) weighs on a small one: with 100 nodes it is a fifth of what a device takes.
"""

import argparse
import asyncio
import cProfile
import gc
import multiprocessing
import os
import pstats
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from sqlalchemy import insert

from aggregator.control_sqlite import SqliteControl
from aggregator.inventory import Inventory
from aggregator.ledger.ledger import Ledger
from aggregator.log import Entry, partition_of, topic_of
from aggregator.log_sqlite import SqliteLog
from aggregator.migrate import LEDGER
from aggregator.tables import EPOCH
from collectors.own_rows import document_block
from collectors.simulated.fleet import default_fleet
from collectors.simulated.node import SimulatedNode
from schemas.account import Account, EpochAccount, StreamAccount
from schemas.batch import Envelope
from schemas.codec import encode_batch, encode_body
from schemas.device import documents_hash, encode_document
from schemas.verbosity import Level, RowClass
from tests.bench.measuring import Line, show

RATE_BAR = 6000.0
"""Documents a second of one core: 1,000 nodes of 118 devices in 20 s."""
BYTES_BAR = 3000.0


class Figures(msgspec.Struct):
    """What one measurement gives."""

    documents: int = 0
    devices: int = 0
    seconds: float = 0.0
    """CPU seconds of the whole process."""
    rss_bytes: int = 0
    """What the process grew by."""
    traced_bytes: int = 0
    """Of that, what Python's objects take; 0 when it was not traced."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_inventory", description=__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="on the disk that counts")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, instead")
    options = parser.parse_args()
    if options.profile:
        with TemporaryDirectory(prefix="muster-bench-", dir=options.folder) as name:
            apart(_fill, Path(name), options.nodes, 1)
            asyncio.run(_profiled(Path(name)))
        return 0
    show(lines(options.nodes, options.folder))
    return 0


def lines(nodes: int = 200, folder: Path | None = None) -> list[Line]:
    """Give the lines of the table."""
    with TemporaryDirectory(prefix="muster-bench-", dir=folder) as name:
        log, timed, traced = (Path(name) / part for part in ("log", "timed", "traced"))
        apart(_fill, log, nodes, 1)
        new, held = apart(_measured, log, timed, False), apart(_measured, log, traced, True)
        apart(_fill, log, nodes, 2)
        again = apart(_measured, log, timed, False)
    note = f"{nodes} nodes; load {os.getloadavg()[0]:.1f}"
    return [
        Line(
            "documents of new devices, of one core",
            new.documents / new.seconds,
            "documents/s",
            RATE_BAR,
            least=True,
            note=note,
        ),
        Line("documents that say nothing new, of one core", again.documents / again.seconds, "documents/s", note=note),
        Line("the inventory's memory, RSS", new.rss_bytes / new.devices, "bytes/device", BYTES_BAR, note=note),
        Line("the same, Python's objects alone", held.traced_bytes / held.devices, "bytes/device", note=note),
    ]


def apart(work: Callable[..., Figures], *arguments: object) -> Figures:
    """Give what `work` gives in a process of its own, which nothing else has made large."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _fill(folder: Path, nodes: int, run: int) -> Figures:
    """Put a run of all agents into the log, and into the control database."""
    folder.mkdir(exist_ok=True)
    return asyncio.run(_filled(folder, nodes, run))


async def _filled(folder: Path, nodes: int, run: int) -> Figures:
    log, control = SqliteLog(folder / "log.db", synchronous="OFF"), SqliteControl(folder / "control.db")
    control.open()
    fleet, epoch = default_fleet(nodes).nodes, f"run-{run}"
    rows = [
        {"node": one.id, "epoch": epoch, "boot": one.boot_id, "predecessors": [], "started_ns": run} for one in fleet
    ]
    await control.write(lambda connection: connection.execute(insert(EPOCH), rows))
    for node in fleet:
        partition = partition_of(node.id, log.partitions)
        await log.append([Entry(topic, partition, record) for topic, record in _said(node, epoch)])
    await log.close()
    await control.close()
    return Figures()


def _said(node: SimulatedNode, epoch: str) -> Iterator[tuple[str, bytes]]:
    """Yield topic and record of all that a node's agent says of its devices, and of a heartbeat behind it."""
    texts = {one.device: encode_document(one) for one in node.documents()}
    for number, (device, text) in enumerate(texts.items()):
        envelope = Envelope(node.id, epoch, RowClass.CAPABILITY, Level.ESSENTIAL, number, 1, number)
        body = encode_body([document_block(node.id, device, text, 10**18 + number, "simulated")])
        yield topic_of(RowClass.CAPABILITY), encode_batch(envelope, body)
    count = len(texts)
    stream = StreamAccount(RowClass.CAPABILITY, Level.ESSENTIAL, count, 0, 0, count, [], [])
    account = Account(1, [EpochAccount(epoch, node.boot_id, [stream])])
    beat = Envelope(
        node.id,
        epoch,
        RowClass.EVENT,
        Level.ESSENTIAL,
        0,
        0,
        count,
        account=account,
        documents=documents_hash(list(texts.values())),
    )
    yield topic_of(RowClass.EVENT), encode_batch(beat, b"")


def _measured(source: Path, folder: Path, traced: bool) -> Figures:
    folder.mkdir(exist_ok=True)
    gc.set_threshold(50_000, 20, 50)  # as `aggregator.server`
    return asyncio.run(_measure(source, folder, traced=traced))


async def _measure(source: Path, folder: Path, *, traced: bool) -> Figures:
    """Read what is in the log and was not read before."""
    made, found = _Rig(source, folder), Figures()
    await made.open()
    gc.collect()
    before = _rss()
    if traced:
        tracemalloc.start()
    began = time.process_time()
    await made.read()
    found.seconds = time.process_time() - began
    gc.collect()
    found.rss_bytes, found.traced_bytes = _rss() - before, tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    found.documents = made.inventory.status.documents
    found.devices = len(made.ledger.peek().devices)
    await made.close()
    return found


async def _profiled(source: Path) -> None:
    made = _Rig(source, source)
    await made.open()
    profile = cProfile.Profile()
    profile.enable()
    await made.read()
    profile.disable()
    await made.close()
    pstats.Stats(profile).sort_stats("tottime").print_stats(45)


def _rss() -> int:
    """Give the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Rig:
    """The consumer, between a log that is there and a ledger that is new."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.log = SqliteLog(source / "log.db", tail_bytes=0)
        self.control = SqliteControl(source / "control.db")
        self.database = SqliteControl(folder / "ledger.db", schema=LEDGER)
        self.ledger = Ledger(self.database, "bench")
        self.inventory = Inventory(self.log, self.ledger, self.control)

    async def open(self) -> None:
        """Be ready to read."""
        self.control.open()
        self.database.open()
        await self.ledger.open()
        await self.inventory.open()

    async def read(self) -> None:
        """Read until nothing is left."""
        while await self.inventory.read_all():
            pass

    async def close(self) -> None:
        """Let go of the files."""
        await self.ledger.close()
        await self.log.close()
        await self.control.close()
        await self.database.close()


if __name__ == "__main__":
    raise SystemExit(main())

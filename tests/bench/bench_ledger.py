"""A year of a fleet in the ledger: how many bytes it takes, how long any past state takes, and how long a restart.

    python -m tests.bench.bench_ledger [--nodes 500] [--days 12] [--folder DIR]
    python -m tests.bench.bench_ledger --restart [--nodes 10000] [--changes 100000]

Changes are decided and applied one by one, by the ledger's own rules; snapshots and joined rows are made by its own
means, as far apart as thinning leaves them. DESIGN part 9 asks for `--nodes 4000 --days 365` (7.3 million changes), and
for a restart with 10,000 nodes, a snapshot and 100,000 changes. CPU seconds are told beside: cores may be shared.
"""

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, select

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger import claims, cleaning, journal, snapshots
from aggregator.ledger.apply import apply
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.copying import Copying
from aggregator.ledger.entries import Entry, Forgotten, NodeReached, NodeRun, NodeSeen, Tainted, Untainted, ViewChanged
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.journal import Written
from aggregator.ledger.keeping import JOIN_ENTRIES, THIN, interval
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Device, Taint
from aggregator.ledger.past import device_history
from aggregator.ledger.shelf import Shelf
from aggregator.ledger.state import State
from aggregator.ledger.tables import LEDGER_ENTRIES, LEDGER_SNAPSHOT
from aggregator.ledger.words import Effect, Lifecycle
from aggregator.migrate import LEDGER
from aggregator.views import device_history as past_stays
from aggregator.views import device_view
from schemas.device import DeviceKind, Document, Part, Slot, Value
from tests.bench.measuring import Line, show

KINDS: Final = (DeviceKind.GPU,) * 8 + (DeviceKind.NIC,) * 4 + (DeviceKind.NVME,) * 8
CHANGES_A_DAY: Final = 5
"""Of one node."""
DAY_NS: Final = 86_400 * 10**9
START_NS: Final = 1_700_000_000 * 10**9
MOMENTS: Final = 5
"""Of which each question is asked."""


class Fleet:
    """A fleet that changes at random, always as the ledger's own rules have it."""

    def __init__(self, nodes: int, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.state = State()
        self.time_ns = START_NS
        self.pending: list[Written] = []
        self.nodes = [self._uuid() for _ in range(nodes)]
        self.devices: list[Device] = []
        self.changes = self._changes()

    def begin(self) -> None:
        """Let every node describe its devices; all of them are attested."""
        for number, node in enumerate(self.nodes):
            self.write([NodeSeen(node, f"gpu-{number:04d}", {"vcpus": 96, "memory_bytes": 1 << 40})])
            self.write([NodeRun(node, node, self._uuid()[:16], self._uuid())])
            for place, kind in enumerate(KINDS):
                self.write(observe(self.state, Sighting(node, node, "pci", self._document(place, kind), "b1")))
        self.devices = list(self.state.devices.values())
        for device in self.devices:
            self.write(cleaning.attest(self.state, device.id, "op", "new")[0])

    def day(self) -> None:
        """Let a day pass."""
        changes = len(self.nodes) * CHANGES_A_DAY
        for _ in range(changes):
            self.time_ns += DAY_NS // changes
            self.write(next(self.changes))

    def write(self, entries: Sequence[Entry]) -> None:
        """Apply entries, and keep them to be written."""
        for entry in entries:
            sequence = self.state.sequence + 1
            apply(self.state, sequence, self.time_ns, entry)
            self.pending.append(Written(sequence, self.time_ns, entry))

    def _changes(self) -> Iterator[Sequence[Entry]]:
        """Give changes for ever, one entry each, each decided when it is asked for."""
        while True:
            device, kind = self.random.choice(self.devices), self.random.random()
            if kind < 0.75:
                view = next(iter(device.views.values()))
                own: dict[str, Value | None] = {
                    "power_state": self.random.choice(["D0", "D3hot"]),
                    "nvlinks_active": self.random.randrange(19),
                }
                yield [ViewChanged(device.id, view.source, own)]
            elif kind < 0.9:
                rule = self.random.choice(["gpu-lost", "nvme-worn", "link-down"])
                evidence = f"xid 79 at {self.random.randrange(10**6)} s"
                mark = Taint(rule, Effect.NO_SCHEDULE, evidence, f"rule:{rule}", self.time_ns)
                yield [Tainted(device.node, device.id, mark)]
                yield [Untainted(device.node, device.id, rule, "recovered")]
            elif kind < 0.95:
                yield [NodeReached(device.node, live=False, why="not heard for 31 s")]
                yield [NodeReached(device.node, live=True)]
            else:
                yield from self._claim(device)

    def _claim(self, device: Device) -> Iterator[Sequence[Entry]]:
        """Give what a claim goes through, from the grant until its device is clean again."""
        name = f"c-{self.random.getrandbits(40):010x}"
        ask = Ask("t", "job", [Pick(device.id)], lease_seconds=3600.0)
        yield claims.grant(self.state, ask, name)[0]
        yield claims.provision(self.state, name)[0]
        epoch = self.state.claims[name].epoch
        yield claims.confirm(self.state, name, epoch, [device.id])[0]
        yield claims.release(self.state, name)[0]
        yield claims.undone(self.state, name, epoch, [device.id])[0]
        yield cleaning.attest(self.state, device.id, "op", "wiped")[0]
        yield [Forgotten([name])]

    def _uuid(self) -> str:
        digits = f"{self.random.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _document(self, place: int, kind: DeviceKind) -> Document:
        address = f"0000:{place + 16:02x}:00.0"
        serial = str(self.random.randrange(10**12))
        uuid = f"GPU-{self._uuid()}" if kind is DeviceKind.GPU else ""
        return Document(
            f"pci:{address}",
            kind,
            [f"serial:{serial}", f"pci:{address}"],
            "",
            Slot(path=f"pci0000:{place:02x}/01.0/00.0", address=address),
            Part(vendor="NVIDIA", model=f"model {kind.value}", serial=serial, uuid=uuid),
            {
                "pci_vendor_id": "10de",
                "pci_device_id": "2330",
                "pci_class": "030200",
                "iommu_group": place + 10,
                "memory_bytes": 80 << 30,
                "link_width": 16,
                "numa_node": place % 2,
                "driver": "nvidia",
                "mig_profiles": ["1g.10gb", "2g.20gb"],
            },
        )


async def _append(database: SqliteControl, lead: journal.Lead, fleet: Fleet) -> None:
    """Write what waits."""
    pending, fleet.pending = fleet.pending, []
    for begin in range(0, len(pending), 1000):
        await database.write(partial(journal.append, lead=lead, written=pending[begin : begin + 1000]))


async def _write(database: SqliteControl, lead: journal.Lead, fleet: Fleet) -> None:
    """Write what waits, and keep the ledger as its background does."""
    await _append(database, lead, fleet)
    found = await database.read(snapshots.complete)
    if fleet.state.sequence - (found[-1] if found else 0) >= (THIN - 1) * interval(len(fleet.devices)):
        await _snapshot(database, fleet.state)
    while (joined := await database.read(partial(journal.join, entries=JOIN_ENTRIES))) is not None:
        await database.write(partial(journal.replace, lead=lead, joined=joined))


async def _snapshot(database: SqliteControl, state: State) -> float:
    """Take a snapshot as `Keeping` does; give the longest slice, in seconds of CPU."""
    copying = Copying(state)
    longest, copy = 0.0, None
    while copy is None:
        began = time.process_time()
        copy = copying.step()
        longest = max(longest, time.process_time() - began)
    if copy.sequence in await database.read(snapshots.complete):
        return longest
    base, against = await database.read(snapshots.base_parts)
    bodies = snapshots.pack(copy.parts(), against)
    (head,) = snapshots.pack([copy.head(base)], [])
    sequence, time_ns = copy.sequence, copy.time_ns

    def write(connection: Connection) -> None:
        for part, body in [*enumerate(bodies, 1), (0, head)]:
            snapshots.write_part(connection, sequence, part, time_ns, body)

    await database.write(write)
    return longest


async def fill(database: SqliteControl, nodes: int, days: int) -> tuple[float, str]:
    """Let the days pass; give the longest slice of a snapshot, in seconds, and the hash of the state."""
    fleet = Fleet(nodes)
    lead = await database.write(lambda connection: journal.take_lead(connection, "bench", force=True))
    assert lead is not None
    fleet.begin()
    await _write(database, lead, fleet)
    for _ in range(days):
        fleet.day()
        await _write(database, lead, fleet)
    longest = await _snapshot(database, fleet.state)
    fleet.day()
    await _write(database, lead, fleet)
    return longest, fleet.state.digest()


def lines(nodes: int, days: int, folder: Path | None = None) -> list[Line]:
    """Let the days pass, unless they have passed in this folder; give what was measured."""
    with tempfile.TemporaryDirectory() as place:
        folder = folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_measure(folder, nodes, days))


def restart_lines(nodes: int, changes: int) -> list[Line]:
    """Give how long a restart takes with a snapshot and so many changes after it."""
    with tempfile.TemporaryDirectory() as place:
        return asyncio.run(_measure_restart(Path(place), nodes, changes))


async def _measure_restart(folder: Path, nodes: int, changes: int) -> list[Line]:
    database = SqliteControl(folder / "ledger.db", schema=LEDGER)
    database.open()
    gc.disable()
    try:
        fleet = Fleet(nodes)
        lead = await database.write(lambda connection: journal.take_lead(connection, "bench", force=True))
        assert lead is not None
        fleet.begin()
        await _append(database, lead, fleet)
        gc.freeze()
        longest = await _snapshot(database, fleet.state)
        for _ in range(changes):
            fleet.write(next(fleet.changes))
        await _append(database, lead, fleet)
        digest = fleet.state.digest()
        del fleet
        return [
            Line(f"longest slice of a snapshot, {nodes} nodes", longest * 1000, "ms", bar=5.0, note="of CPU"),
            await _restart(database, digest, f"restart, {nodes} nodes, {changes} changes"),
        ]
    finally:
        gc.enable()
        await database.close()


async def _measure(folder: Path, nodes: int, days: int) -> list[Line]:
    path = folder / "ledger.db"
    before = path.exists()
    database = SqliteControl(path, schema=LEDGER)
    database.open()
    try:
        longest, digest = (0.0, "") if before else await fill(database, nodes, days)
        gc.collect()
        gc.freeze()  # as the aggregator does
        gc.set_threshold(50_000, 20, 50)
        found = await _sized(database, days)
        if not before:
            found.append(Line("longest slice of a snapshot", longest * 1000, "ms", bar=5.0, note="of CPU"))
        return [*found, *await _asked(database), await _restart(database, digest, "restart")]
    finally:
        await database.close()


async def _asked(database: SqliteControl) -> list[Line]:
    """Ask for past states, each at first and then again, and for a device's history."""
    chosen = random.Random(2)
    last = await database.read(journal.head)
    took: dict[str, list[tuple[float, float]]] = {}
    device = ""
    for _ in range(MOMENTS):
        moment = chosen.randrange(last // 20, last)
        for what, question in QUESTIONS.items():
            began, worked = time.perf_counter(), time.process_time()
            state = await database.read(partial(snapshots.load_past, until=moment))
            for name in (what, f"{what}, again"):
                question(state)
                took.setdefault(name, []).append((time.perf_counter() - began, time.process_time() - worked))
                began, worked = time.perf_counter(), time.process_time()
            assert state.sequence == moment
            device = chosen.choice(list(state.devices))
            del state
    found = [_line(f"past: {what}", times) for what, times in took.items()]
    began = time.perf_counter()
    history = await database.read(partial(device_history, device=device))
    found.append(Line("history of a device", time.perf_counter() - began, "s", note=f"{len(history)} entries"))
    return found


def _line(what: str, times: list[tuple[float, float]]) -> Line:
    walls, works = sorted(wall for wall, _ in times), sorted(work for _, work in times)
    note = f"median {walls[len(walls) // 2]:.3f} s; of CPU {works[len(works) // 2]:.3f}, worst {works[-1]:.3f} s"
    return Line(what, walls[-1], "s", bar=1.0, note=note)


def _device(state: Shelf) -> None:
    found = state.devices[list(state.devices)[len(state.devices) // 2]]
    device_view(state, found)
    past_stays(state, found)


def _node(state: Shelf) -> None:
    _views(state, list(state.nodes.values())[len(state.nodes) // 2].devices)


def _page(state: Shelf) -> None:
    _views(state, list(state.devices)[-1000:])


def _filter(state: Shelf) -> None:
    [device for device in state.devices.values() if device.lifecycle is not Lifecycle.FREE]


def _views(state: Shelf, devices: Iterable[str]) -> None:
    for device in devices:
        device_view(state, state.devices[device])


QUESTIONS: Final[dict[str, Callable[[Shelf], None]]] = {
    "a device": _device,
    "a node": _node,
    "a page of 1,000": _page,
    "what is not free": _filter,
    "the whole": Shelf.whole,
}


async def _sized(database: SqliteControl, days: int) -> list[Line]:
    entries, parts = await database.read(_sizes)
    size = await database.read(_pages)
    return [
        Line("entries", await database.read(journal.head), ""),
        Line("bytes of entries", entries / 1e6, "MB"),
        Line("bytes of snapshots", parts / 1e6, "MB", note=f"{len(await database.read(snapshots.complete))} of them"),
        Line("ledger on disk", size / 1e6, "MB", bar=max(5.0, 1000 * days / 365)),
    ]


def _pages(connection: Connection) -> int:
    """Give the bytes of the database, whatever of it is still in the write-ahead log."""
    count, each = (connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("page_count", "page_size"))
    return int(count or 0) * int(each or 0)


def _sizes(connection: Connection) -> tuple[int, int]:
    entries = func.sum(func.length(LEDGER_ENTRIES.c.body) + func.coalesce(func.length(LEDGER_ENTRIES.c.subjects), 0))
    parts = func.sum(func.length(LEDGER_SNAPSHOT.c.body))
    return int(connection.execute(select(entries)).scalar() or 0), int(connection.execute(select(parts)).scalar() or 0)


async def _restart(database: SqliteControl, digest: str, what: str) -> Line:
    gc.disable()  # as while the aggregator starts
    try:
        ledger = Ledger(database, "bench")
        began, worked = time.perf_counter(), time.process_time()
        await ledger.open()
        took, work = time.perf_counter() - began, time.process_time() - worked
        assert digest in ("", ledger.peek().digest())
        await ledger.close()
    finally:
        gc.enable()
    return Line(what, took, "s", bar=5.0, note=f"{work:.2f} s of CPU")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="where the ledger is made, and left")
    parser.add_argument("--restart", action="store_true", help="a restart alone")
    parser.add_argument("--changes", type=int, default=100_000, help="after the snapshot, with --restart")
    options = parser.parse_args()
    if options.restart:
        show(restart_lines(options.nodes or 10_000, options.changes))
    else:
        nodes = options.nodes or 500
        print(f"ledger: {nodes} nodes, {nodes * len(KINDS)} devices, {options.days} days")
        show(lines(nodes, options.days, options.folder))


if __name__ == "__main__":
    main()

"""A year of a fleet in the ledger: how many bytes it takes, how long any past state takes, and how long a restart.

    python -m tests.bench.bench_ledger [--nodes 500] [--days 12] [--folder DIR]

Changes are decided and applied one by one, by the ledger's own rules; snapshots and joined rows are made by its own
means. DESIGN part 9 asks for `--nodes 4000 --days 365` (7.3 million changes), and for a restart with 10,000 nodes.
"""

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
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
from aggregator.ledger.keeping import JOIN_ENTRIES, SNAPSHOT_ENTRIES
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Device, Taint
from aggregator.ledger.past import device_history
from aggregator.ledger.state import State
from aggregator.ledger.tables import LEDGER_ENTRIES, LEDGER_SNAPSHOT
from aggregator.ledger.words import Effect
from aggregator.migrate import LEDGER
from schemas.device import DeviceKind, Document, Part, Slot, Value
from tests.bench.measuring import Line, show

KINDS: Final = (DeviceKind.GPU,) * 8 + (DeviceKind.NIC,) * 4 + (DeviceKind.NVME,) * 8
CHANGES_A_DAY: Final = 5
"""Of one node."""
DAY_NS: Final = 86_400 * 10**9
START_NS: Final = 1_700_000_000 * 10**9


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


async def _write(database: SqliteControl, lead: journal.Lead, fleet: Fleet) -> None:
    """Write what waits, and keep the ledger as its background does."""
    pending, fleet.pending = fleet.pending, []
    for begin in range(0, len(pending), 1000):
        await database.write(partial(journal.append, lead=lead, written=pending[begin : begin + 1000]))
    found = await database.read(snapshots.complete)
    if fleet.state.sequence - (found[-1] if found else 0) >= max(SNAPSHOT_ENTRIES, len(fleet.devices) // 4):
        await _snapshot(database, fleet.state)
    while (joined := await database.read(partial(journal.join, entries=JOIN_ENTRIES))) is not None:
        await database.write(partial(journal.replace, lead=lead, joined=joined))


async def _snapshot(database: SqliteControl, state: State) -> float:
    """Take a snapshot as `Keeping` does; give the longest slice, in seconds."""
    copying = Copying(state)
    longest, copy = 0.0, None
    while copy is None:
        began = time.perf_counter()
        copy = copying.step()
        longest = max(longest, time.perf_counter() - began)
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


async def measure(folder: Path, nodes: int, days: int) -> list[Line]:
    """Let the days pass, unless they have passed in this folder; give what was measured."""
    path = folder / "ledger.db"
    before = path.exists()
    database = SqliteControl(path, schema=LEDGER)
    database.open()
    try:
        longest, digest = (0.0, "") if before else await fill(database, nodes, days)
        gc.collect()
        gc.freeze()  # as the aggregator does
        gc.set_threshold(50_000, 20, 50)
        lines = await _sized(database, path, days)
        if not before:
            lines.append(Line("longest slice of a snapshot", longest * 1000, "ms"))
        return [*lines, *await _asked(database), Line("restart", await _restart(database, digest), "s", bar=5.0)]
    finally:
        await database.close()


async def _asked(database: SqliteControl) -> list[Line]:
    """Ask for past states, and for a device's history."""
    chosen = random.Random(2)
    last = await database.read(journal.head)
    took, cpu = [], []
    device = ""
    for _ in range(10):
        moment = chosen.randrange(last // 2, last)
        began, worked = time.perf_counter(), time.process_time()
        state = await database.read(partial(snapshots.load_past, until=moment))
        took.append(time.perf_counter() - began)
        cpu.append(time.process_time() - worked)
        assert state.sequence == moment
        device = chosen.choice(list(state.devices))
        del state
    lines = [
        Line("a past state, median", sorted(took)[5], "s", note=f"{sorted(cpu)[5]:.2f} s of CPU"),
        Line("a past state, worst", max(took), "s", bar=1.0),
    ]
    began = time.perf_counter()
    history = await database.read(partial(device_history, device=device))
    lines.append(Line("history of a device", time.perf_counter() - began, "s", note=f"{len(history)} entries"))
    return lines


async def _sized(database: SqliteControl, path: Path, days: int) -> list[Line]:
    entries, parts = await database.read(_sizes)
    size = await asyncio.to_thread(lambda: path.stat().st_size)
    return [
        Line("entries", await database.read(journal.head), ""),
        Line("bytes of entries", entries / 1e6, "MB"),
        Line("bytes of snapshots", parts / 1e6, "MB", note=f"{len(await database.read(snapshots.complete))} of them"),
        Line("ledger on disk", size / 1e6, "MB", bar=max(5.0, 1000 * days / 365)),
    ]


def _sizes(connection: Connection) -> tuple[int, int]:
    entries = func.sum(func.length(LEDGER_ENTRIES.c.body) + func.coalesce(func.length(LEDGER_ENTRIES.c.subjects), 0))
    parts = func.sum(func.length(LEDGER_SNAPSHOT.c.body))
    return int(connection.execute(select(entries)).scalar() or 0), int(connection.execute(select(parts)).scalar() or 0)


async def _restart(database: SqliteControl, digest: str) -> float:
    gc.disable()  # as while the aggregator starts
    try:
        ledger = Ledger(database, "bench")
        began = time.perf_counter()
        await ledger.open()
        took = time.perf_counter() - began
        assert digest in ("", ledger.peek().digest())
        await ledger.close()
    finally:
        gc.enable()
    return took


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="where the ledger is made, and left")
    options = parser.parse_args()
    print(f"ledger: {options.nodes} nodes, {options.nodes * len(KINDS)} devices, {options.days} days")
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        show(asyncio.run(measure(folder, options.nodes, options.days)))


if __name__ == "__main__":
    main()

"""A ledger with nodes and free devices, written without any node: what hammer and bench ask for."""

import asyncio
import time
from pathlib import Path

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger import cleaning, restoring
from aggregator.ledger.entries import CheckpointShown, Entry, NodeSeen, QuotaSet
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Quota
from aggregator.ledger.state import State
from aggregator.ledger.words import Lifecycle
from aggregator.migrate import LEDGER
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import document

HOT = "hot"
"""The node whose amounts everybody wants."""


def seed(data_dir: Path, *, nodes: int, gpus: int = 8, vcpus: int = 64, quota: int = 0) -> list[str]:
    """Write a ledger with so many nodes; give the ids of their devices, all free. `quota`: devices of tenant `small`.

    The nodes have no publisher, so that nobody expects to hear of them.
    """
    folder = data_dir / "aggregator"
    folder.mkdir(parents=True, exist_ok=True)
    database = SqliteControl(folder / "ledger.db", schema=LEDGER)
    return asyncio.run(_seed(database, nodes, gpus, vcpus, quota))


async def _seed(database: SqliteControl, nodes: int, gpus: int, vcpus: int, quota: int) -> list[str]:
    database.open()
    ledger = Ledger(database, "seed")
    await ledger.open()
    generation = await ledger.decide(lambda state: restoring.begin_generation(state, time.time_ns(), "made by a test"))

    def write(*entries: Entry) -> None:
        ledger.apply_now(lambda _: (entries, None))

    for name in [HOT, *(f"n{number:05d}" for number in range(nodes))]:
        write(NodeSeen(name, name, {"vcpus": vcpus}), CheckpointShown(name, generation))
        for gpu in range(gpus if name != HOT else 0):
            seen = document(DeviceKind.GPU, f"0000:{gpu + 1:02x}:00.0", serial=f"{name}-{gpu}", group=gpu)
            sighting = Sighting(name, "", "pci", seen, "b1")
            ledger.apply_now(lambda state, sighting=sighting: (observe(state, sighting), None))  # type: ignore[misc]
        await ledger.settled()
    if quota:
        write(QuotaSet(Quota("small", {"devices": quota})))
    ids = await ledger.read(_dirty)
    for name in ids:
        ledger.apply_now(lambda state, name=name: cleaning.attest(state, name, "test", "never used"))  # type: ignore[misc]
    await ledger.settled()
    await ledger.close()
    await database.close()
    return ids


def _dirty(state: State) -> list[str]:
    return [device.id for device in state.devices.values() if device.lifecycle is Lifecycle.DIRTY]

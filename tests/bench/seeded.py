"""An aggregator whose ledger holds a fleet before it starts: for benches of claims, which need no agents."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger import cleaning
from aggregator.ledger.entries import Entry, NodeSeen
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.state import State
from aggregator.migrate import LEDGER
from schemas.device import DeviceKind, Document, Part, Slot
from tests.acceptance.stage import Muster, stage

TOTALS = {"vcpus": 64, "memory_bytes": 1 << 40, "disk_bytes": 1 << 42}


def gpu(node: int, place: int) -> Document:
    """Describe a GPU as the collector of PCI functions would, alone in its IOMMU group."""
    address, serial = f"0000:{place + 16:02x}:00.0", f"{node:06d}{place:02d}"
    return Document(
        f"pci:{address}",
        DeviceKind.GPU,
        [f"serial:{serial}", f"pci:{address}"],
        "",
        Slot(path=f"pci0000:{place:02x}/01.0/00.0", address=address),
        Part(vendor="NVIDIA", model="A100", serial=serial),
        {
            "pci_vendor_id": "10de",
            "pci_device_id": "20b2",
            "pci_class": "030200",
            "iommu_group": place + 10,
            "numa_node": place % 2,
        },
    )


def _described(state: State, number: int, gpus: int) -> tuple[list[Entry], None]:
    node = f"bench-{number:06d}"
    entries: list[Entry] = [NodeSeen(node, node, TOTALS)]
    for place in range(gpus):
        entries += observe(state, Sighting(node, node, "pci", gpu(number, place), "boot"))
    return entries, None


async def _seed(path: Path, nodes: int, gpus: int) -> list[str]:
    database = SqliteControl(path, schema=LEDGER)
    database.open()
    ledger = Ledger(database, "bench")
    try:
        await ledger.open()
        for number in range(nodes):
            ledger.apply_now(partial(_described, number=number, gpus=gpus))
        await ledger.settled()
        devices = list(ledger.peek().devices)
        for device in devices:
            ledger.apply_now(partial(cleaning.attest, device=device, who="bench", statement="never used"))
        await ledger.settled()
        return devices
    finally:
        await ledger.close()
        await database.close()


@contextmanager
def seeded(folder: Path, nodes: int, gpus: int) -> Iterator[tuple[Muster, list[str]]]:
    """Run an aggregator that knows so many nodes of so many free GPUs; give it and the ids of its devices.

    No agent speaks for the nodes, so none of them is ever called silent.
    """
    with stage(folder) as muster:
        aggregator = muster.data_dir / "aggregator"
        aggregator.mkdir(parents=True, mode=0o700)
        devices = asyncio.run(_seed(aggregator / "ledger.db", nodes, gpus))
        muster.start("aggregator")
        muster.ready()
        yield muster, devices

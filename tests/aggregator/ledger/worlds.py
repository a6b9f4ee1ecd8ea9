"""Small fleets for tests of the ledger, and a ledger without a disk."""

from collections.abc import Sequence
from typing import Any

import msgspec

from aggregator.ledger.apply import apply
from aggregator.ledger.entries import Entry, NodeRun, NodeSeen, decode_entry, encode_entry
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.journal import Written
from aggregator.ledger.model import Device
from aggregator.ledger.state import State
from schemas.device import DeviceKind, Document, Part, Slot, Value
from schemas.evidence import FunctionReadback, GpuReadback, NvmeReadback, PartitionReadback, Readback, VfReadback


class Book:
    """A ledger in memory: what is decided is applied and kept, as bytes would bring it back."""

    def __init__(self) -> None:
        self.state = State()
        self.written: list[Written] = []

    def write(self, entries: Sequence[Entry]) -> None:
        """Apply entries at the next sequences, one second apart."""
        for entry in entries:
            sequence = self.state.sequence + 1
            again = decode_entry(encode_entry(entry))
            assert entry == again
            apply(self.state, sequence, sequence * 10**9, again)
            self.written.append(Written(sequence, sequence * 10**9, again))

    def decide(self, decided: tuple[Sequence[Entry], Any]) -> Any:
        """Apply what a decision gave, and give its answer."""
        self.write(decided[0])
        return decided[1]

    def see(self, document: Document, node: str = "n1", boot: str = "b1", collector: str = "pci") -> Device | None:
        """Take a document as a fact; give the device it speaks of."""
        self.write(observe(self.state, Sighting(node, node, collector, document, boot)))
        name = self.state.found.by_source.get((node, f"{node}\n{collector}\n{document.device}"))
        return None if name is None else self.state.devices[name]


def document(
    kind: DeviceKind,
    address: str,
    *,
    serial: str = "",
    parent: str = "",
    model: str = "",
    group: int | None = None,
    **more: Value,
) -> Document:
    """Make the document of a PCI function, named by its address."""
    capabilities: dict[str, Value] = {"pci_vendor_id": "10de", "pci_device_id": "1db4", "pci_class": "030200", **more}
    if group is not None:
        capabilities["iommu_group"] = group
    keys = ([f"serial:{serial}"] if serial else []) + [f"pci:{address}"]
    return Document(
        f"pci:{address}",
        kind,
        keys,
        parent,
        Slot(path=f"path/{address}", address=address),
        Part(vendor="Acme", model=model or kind.value, serial=serial),
        capabilities,
    )


def begin(book: Book, node: str = "n1", **totals: int) -> None:
    """Make a node that speaks."""
    book.write([NodeSeen(node, f"host-{node}", totals or {"vcpus": 48, "memory_bytes": 1 << 39})])
    book.write([NodeRun(node, node, f"epoch-{node}", "b1")])


def readback(device: Device, **changes: Any) -> Readback:
    """Make the evidence that proves a device clean, now; `changes` spoil it."""
    common: dict[str, Any] = {
        "device": device.id,
        "part": device.part_key,
        "clean": device.cleaning,
        "read_ns": 1,
        "in_use": False,
    }
    made: Readback
    if device.planned:
        made = PartitionReadback(**common, gone=True, processes=0, memory_check="passed")
        return msgspec.structs.replace(made, **changes)
    match device.kind:
        case DeviceKind.GPU | DeviceKind.GPU_PARTITION:
            made = GpuReadback(**common, reset_seen=True, processes=0, memory_check="passed")
        case DeviceKind.NVME | DeviceKind.NVME_NAMESPACE:
            made = NvmeReadback(**common, sanitize_status="completed", data_written_since=False)
        case DeviceKind.VF:
            made = VfReadback(**common, vlan=None, mac="", reset_seen=True)
        case _:
            made = FunctionReadback(**common, reset_seen=True)
    return msgspec.structs.replace(made, **changes)

"""`rack`: a collector of another distribution that describes the cards of a file, so that a script can swap them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from collectors.contract import Context
from schemas.device import Document
from schemas.metrics import MetricSpec
from schemas.rows import Item
from tests.acceptance.stage import Muster
from tests.needs import REPOSITORY


class RackConfig(msgspec.Struct, frozen=True):
    """Where the cards are."""

    file: str = ""
    """JSON: a list of documents."""


class RackCollector:
    """Describes what the file says."""

    name: ClassVar[str] = "rack"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = ()
    Config: ClassVar[type[RackConfig]] = RackConfig

    def __init__(self, config: RackConfig, context: Context) -> None:
        self._file = Path(config.file)
        self._host = context.subject

    def start(self) -> None:
        """Need nothing."""

    def collect(self) -> Iterable[Item]:
        """Measure nothing."""
        return ()

    def describe(self) -> Iterable[Document]:
        """Give the node and its cards."""
        told = {"host_name": self._host, "cores": 16, "memory_bytes": 1 << 36}
        yield msgspec.convert({"device": "node", "kind": "node", "capabilities": told}, Document)
        yield from msgspec.json.decode(self._file.read_bytes(), type=list[Document])

    def stop(self) -> None:
        """Hold nothing."""


class Rack:
    """A node whose cards a script puts in and takes out; its agent is a real one."""

    def __init__(self, muster: Muster, name: str) -> None:
        self.muster = muster
        self.name = name
        self.folder = muster.folder / name
        self.folder.mkdir()
        self._cards: dict[str, dict[str, Any]] = {}
        metadata = self.folder / "rack-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rack\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[muster.collectors]\nrack = tests.acceptance.rack:RackCollector\n")
        (self.folder / "muster.toml").write_text(
            f'[agent]\nnode_id = "{name}"\nonly = ["rack"]\ndescribe_every_seconds = 0.5\n'
            f'[collectors.rack]\nfile = "{self.folder / "cards.json"}"\ninterval_seconds = 0.5\n'
            f'[publish]\naggregators = ["unix://{muster.data_dir / "muster.sock"}"]\n'
        )
        self._write()

    def start(self) -> None:
        """Start its agent."""
        env = {"MUSTER_DATA_DIR": str(self.folder / "data"), "MUSTER_CONFIG": str(self.folder / "muster.toml"),
               "PYTHONPATH": f"{self.folder}:{REPOSITORY}"}  # fmt: skip
        self.muster.start(f"agent-{self.name}", env=env)

    def put(self, slot: int, kind: str, serial: str = "", group: int | None = None, **more: Any) -> None:
        """Put a card into a slot, in place of what is there; `more`: further fields of its document."""
        address = f"0000:{slot:02x}:00.0"
        told = {"pci_vendor_id": "10de", "pci_device_id": "2330", "iommu_group": slot if group is None else group}
        self._cards[address] = {
            "device": f"pci:{address}",
            "kind": kind,
            "merge_keys": [*([f"serial:{serial}"] if serial else []), f"pci:{address}"],
            "part": {"vendor": "ACME", "model": f"ACME {kind}", "serial": serial},
            "slot": {"path": f"pci0000:00/{slot:02x}.0", "address": address, "location": f"SLOT {slot}"},
            "capabilities": told | more.pop("capabilities", {}),
            **more,
        }
        self._write()

    def take(self, slot: int) -> None:
        """Take a card out."""
        del self._cards[f"0000:{slot:02x}:00.0"]
        self._write()

    def _write(self) -> None:
        new = self.folder / "cards.new"
        new.write_text(json.dumps(list(self._cards.values())))
        new.rename(self.folder / "cards.json")

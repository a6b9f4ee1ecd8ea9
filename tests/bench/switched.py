"""`switched`: a simulated node whose first GPU changes when a bench says so, for an ordinary agent to watch."""

import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import msgspec

from collectors.contract import Context, Emit
from collectors.simulated.collector import SimulatedCollector, SimulatedConfig
from schemas.device import DeviceKind, Document
from schemas.rows import Event
from tests.needs import REPOSITORY

LOOK_SECONDS = 0.5
"""The longest before `stopping` is looked at."""


class SwitchedConfig(SimulatedConfig, frozen=True):
    """The node, and where to listen."""

    socket: str = ""
    """Path of a datagram socket: each text is how many bytes of memory the first GPU has from then on."""


class SwitchedCollector(SimulatedCollector):
    """Tells an event when its GPU changes, as a collector that the kernel wakes does; the host describes it again."""

    name: ClassVar[str] = "switched"
    Config: ClassVar[type[SwitchedConfig]] = SwitchedConfig

    def __init__(self, config: SwitchedConfig, context: Context) -> None:
        super().__init__(config, context)
        self._path = config.socket
        self._memory_bytes: int | None = None

    def describe(self) -> Iterable[Document]:
        """Give the node's documents, the first GPU's as it is now."""
        first = True
        for one in super().describe():
            if one.kind is DeviceKind.GPU and first:
                first = False
                if self._memory_bytes is not None:
                    changed = {**one.capabilities, "memory_bytes": self._memory_bytes}
                    yield msgspec.structs.replace(one, capabilities=changed)
                    continue
            yield one

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Wait for the bench's word."""
        Path(self._path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(self._path)
            listener.settimeout(LOOK_SECONDS)
            while not stopping.is_set():
                try:
                    self._memory_bytes = int(listener.recv(64))
                except TimeoutError:
                    continue
                emit([Event("device.changed", "its memory changed", device="gpu:0")])


def install(folder: Path) -> dict[str, str]:
    """Write a distribution that offers it; give the environment in which it is installed."""
    metadata = folder / "switched-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: switched\nVersion: 1.0\n")
    offered = "[muster.collectors]\nswitched = tests.bench.switched:SwitchedCollector\n"
    (metadata / "entry_points.txt").write_text(offered)
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}"}

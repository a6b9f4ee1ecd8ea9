"""A collector of a machine below a root, with drives that a test makes, and what it says."""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from collectors.contract import Context
from collectors.nvme import NvmeCollector, NvmeConfig
from collectors.pci import Ear
from schemas.errors import PartialCollectError
from schemas.rows import Event, Item, Reading
from schemas.verbosity import Level
from tests.collectors.nvme.made import FakeDrive, opener


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Give the time that it was moved to."""
        return self.now


class Machine:
    """A collector that is started, and its clock."""

    def __init__(
        self,
        root: Path,
        state: Path | None = None,
        listen: Callable[[], Ear] | None = None,
        config: NvmeConfig | None = None,
        **drives: FakeDrive,
    ) -> None:
        self.clock = Clock()
        self.wall_ns = 1_700_000_000_000_000_000
        context = Context(
            subject="node-a", log=logging.getLogger("nvme"), root=root, state_dir=state, level=lambda: Level.DEBUG
        )
        self.collector = NvmeCollector(
            config or NvmeConfig(), context, self.clock, lambda: self.wall_ns, opener(**drives), listen
        )

    def start(self) -> "Machine":
        """Start it."""
        self.collector.start()
        return self

    def rows(self, seconds: float = 300.0) -> dict[str, dict[str, Any]]:
        """Move the clock and collect: fields by `<measurement> <device>[ <attribute>]`."""
        self.clock.now += seconds
        return keyed(self.collector.collect())

    def events(self) -> list[Event]:
        """Give what the watch hands on, by now."""
        found: list[Event] = []
        stopping = threading.Event()

        def emit(items: Iterable[Item]) -> None:
            found.extend(item for item in items if isinstance(item, Event))
            stopping.set()

        timer = threading.Timer(0.7, stopping.set)
        timer.start()
        self.collector.watch(emit, stopping)
        timer.cancel()
        timer.join()
        return found

    def documents(self) -> dict[str, Any]:
        """Give the documents by device id; what was not permitted is let pass."""
        found = {}
        try:
            for one in self.collector.describe():
                found[one.device] = one
        except PartialCollectError:
            pass
        return found


def keyed(items: Iterable[Item]) -> dict[str, dict[str, Any]]:
    """Give rows by measurement, device and attribute."""
    return {
        " ".join((row.measurement, row.device, *row.attributes.values())): dict(row.fields)
        for row in items
        if isinstance(row, Reading)
    }

"""A collector of a machine below a root, and what it says."""

import logging
from collections.abc import Callable
from pathlib import Path

from collectors.contract import Context
from collectors.pci import Ear, PciCollector, PciConfig
from schemas.device import Document
from schemas.rows import Event, Item
from schemas.verbosity import Level


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Give the time that it was moved to."""
        return self.now


def collector_of(
    root: Path,
    *,
    level: Level = Level.DETAILED,
    config: PciConfig | None = None,
    clock: Callable[[], float] | None = None,
    listen: Callable[[], Ear] | None = None,
) -> PciCollector:
    """Give a started collector of the machine below `root`."""
    context = Context(subject="node-a", log=logging.getLogger("pci"), root=root, level=lambda: level)
    collector = PciCollector(config or PciConfig(), context, clock or Clock(), listen)
    collector.start()
    return collector


def described(root: Path) -> dict[str, Document]:
    """Give the documents of the machine below `root`, by PCI address."""
    return {document.slot.address: document for document in collector_of(root).describe()}


def events(items: list[Item]) -> list[tuple[str, str]]:
    """Give type and device of the events among items."""
    return [(item.type, item.device) for item in items if isinstance(item, Event)]

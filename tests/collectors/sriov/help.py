"""A collector of a machine below a root, and what it says."""

import logging
from pathlib import Path

from collectors.contract import Context
from collectors.sriov import SriovCollector
from collectors.sriov.collector import SriovConfig
from schemas.device import Document
from schemas.errors import PartialCollectError
from schemas.rows import FieldValue, Reading
from schemas.verbosity import Level
from tests.collectors.sriov.made import Answers


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Give the time that it was moved to."""
        return self.now


def collector_of(
    root: Path,
    answers: Answers,
    *,
    level: Level = Level.DEBUG,
    config: SriovConfig | None = None,
    clock: Clock | None = None,
) -> SriovCollector:
    """Give a started collector of the machine below `root`, whose kernel answers so."""
    context = Context(subject="node-a", log=logging.getLogger("sriov"), root=root, level=lambda: level)
    collector = SriovCollector(config or SriovConfig(), context, clock or Clock(), lambda: answers)
    collector.start()
    return collector


def rows(collector: SriovCollector) -> dict[tuple[str, str], dict[str, FieldValue]]:
    """Collect once: fields that are not absent, by measurement and device."""
    found: dict[tuple[str, str], dict[str, FieldValue]] = {}
    try:
        for item in collector.collect():
            assert isinstance(item, Reading)
            found[item.measurement, item.device] = {
                name: value for name, value in item.fields.items() if value is not None
            }
    except PartialCollectError:
        pass
    return found


def described(collector: SriovCollector) -> dict[str, Document]:
    """Give the documents by PCI address."""
    return {document.slot.address: document for document in collector.describe()}

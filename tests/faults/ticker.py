"""`ticker`: a collector of another distribution, for tests: numbered events, each committed with its position."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import msgspec

from collectors.contract import Context, Emit
from schemas.metrics import MetricSpec
from schemas.rows import Event, Item, Position
from tests.needs import REPOSITORY

TYPE = "ticker.tick"


class TickerConfig(msgspec.Struct, frozen=True):
    """How many."""

    interval: float = 0.2
    """Seconds between two events; 0 for none at all."""


class TickerCollector:
    """Emits numbered events."""

    name: ClassVar[str] = "ticker"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = ()
    Config: ClassVar[type[TickerConfig]] = TickerConfig

    def __init__(self, config: TickerConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._next = 0

    def start(self) -> None:
        self._next = int(self._context.positions.get("ticker", "0"))

    def collect(self) -> Iterable[Item]:
        return ()

    def stop(self) -> None:
        pass

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        while not stopping.wait(self._config.interval or 0.5):
            if self._config.interval:
                event = Event(TYPE, str(self._next), detail={"number": self._next})
                self._next += 1
                emit([event, Position("ticker", str(self._next))])


def install(folder: Path) -> dict[str, str]:
    """Write a distribution that offers it; give the environment in which it is installed."""
    metadata = folder / "ticker-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ticker\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[muster.collectors]\nticker = tests.faults.ticker:TickerCollector\n")
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}"}

"""A fleet in this process, against a stand-in for an aggregator."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.config import load_agent_config
from collectors.fleet import FleetRun
from collectors.simulated.fleet import Fleet, default_fleet
from tests.collectors.fleet.aggregator import FakeAggregator, serving


class Rig:
    """Starts fleets on one folder, one after the other."""

    def __init__(self, folder: Path, aggregator: FakeAggregator) -> None:
        self.folder = folder
        self.aggregator = aggregator
        self.run: FleetRun | None = None
        self._thread: threading.Thread | None = None

    def start(
        self, nodes: int = 3, *, interval: float = 0.2, fleet: Fleet | None = None, env: dict[str, str] | None = None
    ) -> FleetRun:
        """Start a fleet of nodes of the profile load."""
        config = load_agent_config(None, {}, {"MUSTER_DATA_DIR": str(self.folder), **(env or {})})
        (self.folder / "fleet").mkdir(exist_ok=True)
        made = fleet or default_fleet(nodes, profile="load")
        self.run = FleetRun(made, config, self.folder / "fleet", interval=interval)
        self._thread = threading.Thread(target=self.run.run)
        self._thread.start()
        return self.run

    def stop(self) -> None:
        """End it. Safe twice."""
        if self.run is not None and self._thread is not None:
            self.run.stop()
            self._thread.join(60.0)
            assert not self._thread.is_alive()
            self._thread = None


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Give a place to start fleets."""
    with serving(tmp_path / "muster.sock") as aggregator:
        made = Rig(tmp_path, aggregator)
        try:
            yield made
        finally:
            made.stop()

"""The collector `simulated`: one node of a simulated fleet inside an ordinary agent, for demonstrations."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import msgspec

from collectors.contract import Context, Objection
from collectors.simulated.fault_log import EVENTS
from collectors.simulated.fleet import Fleet, default_fleet
from collectors.simulated.node import SimulatedNode
from collectors.simulated.readings import METRICS
from schemas.device import Document
from schemas.errors import ConfigError, StartupError
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Item


class SimulatedConfig(msgspec.Struct, frozen=True):
    """Which node to simulate."""

    fleet: str = ""
    """Path of a fleet file; empty for one node of the type below."""
    node: str = "sim-0001"
    """Name of the node in the fleet."""
    type: str = "hgx-h100"
    """Type of the node when there is no fleet file."""
    seed: int = 1
    """Seed when there is no fleet file: other seeds make other serial numbers, UUIDs and workloads."""


class SimulatedCollector:
    """A node that does not exist. Its rows speak about the simulated node's id, never about this machine.

    The configured node must be one that the publisher's token may speak for. All documents say that they are simulated.
    """

    name: ClassVar[str] = "simulated"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = METRICS
    EVENTS: ClassVar[tuple[EventSpec, ...]] = EVENTS
    Config: ClassVar[type[SimulatedConfig]] = SimulatedConfig

    def __init__(self, config: SimulatedConfig, context: Context, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._config = config
        self._context = context
        self._wall_ns = wall_ns
        self.node: SimulatedNode | None = None
        """The node while the collector is started, else None."""

    def start(self) -> None:
        """Make the node. Raises StartupError, not to be tried again, on a fleet file that cannot be used."""
        try:
            self.node = self._fleet().node(self._config.node)
        except ConfigError as error:
            raise StartupError(str(error), retry=False) from error

    def check_options(self, *, attempt: bool) -> Iterator[Objection]:  # noqa: ARG002  # there is nothing to try
        """Give what is wrong with the fleet file or the type, and the node that is not in it."""
        option = "fleet" if self._config.fleet else "type"
        try:
            fleet = self._fleet()
            option = "node"
            fleet.node(self._config.node)
        except ConfigError as error:
            yield Objection(option, str(error))

    def _fleet(self) -> Fleet:
        config = self._config
        if config.fleet:
            return Fleet.from_file(Path(config.fleet))
        return default_fleet(seed=config.seed, node_type=config.type)

    def collect(self) -> Iterable[Item]:
        """Move the node on to now, and give what it says."""
        return self._started().step(self._wall_ns(), self._context.level())

    def describe(self) -> Iterable[Document]:
        """Give the documents of the node's devices."""
        return self._started().documents()

    def stop(self) -> None:
        """Forget the node."""
        self.node = None

    def _started(self) -> SimulatedNode:
        if self.node is None:
            raise StartupError("the collector was not started")
        return self.node

"""One BMC over time: what there is to be read of it, and each reading.

A reading never takes longer than `sweep_seconds`, but for the answer that is waited for then. What is not done by then,
of sensors, of the board and of the walk, is gone on with the next time. Sensors come before the board, which has its
share of the time, and both before the inventory, which is long and may wait.
"""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from collectors.redfish.board import Board
from collectors.redfish.booting import SETTLE, YOUNG_LOOKS, is_young
from collectors.redfish.client import Client
from collectors.redfish.config import RedfishConfig
from collectors.redfish.documents import KEPT, survey
from collectors.redfish.errors import UNREADABLE
from collectors.redfish.events import filtered, stream_of, subscriptions_of
from collectors.redfish.heard_reports import HeardReports
from collectors.redfish.naming import bmc_id
from collectors.redfish.parts import Found, Parts
from collectors.redfish.readings import Seen
from collectors.redfish.resource import Resource, kind
from collectors.redfish.sensors import Sensors
from collectors.redfish.series import MOST, Series
from collectors.redfish.tree import Walk
from collectors.redfish.trunk import Trunk
from schemas.device import Document
from schemas.rows import FieldValue, Reading

_MEASURED: Final = frozenset({"EnvironmentMetrics", "LeakDetector", "PowerSupplyMetrics", "ThermalMetrics"})
"""Schemas that readings are planned by, beside those of documents."""
_KEPT: Final = KEPT | _MEASURED
_SENSORS_SHARE: Final = 0.75
"""Of `sweep_seconds`: sensors, which may be many, leave the rest to the board."""
_opening = threading.Lock()
"""Held while documents are made: the resources of one machine at a time are decoded."""


class Reader:
    """The readings of one BMC. Not for several threads at once."""

    def __init__(self, client: Client, config: RedfishConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._label = client.bmc.label
        self._config = config
        self._clock = clock
        self._heard = HeardReports(self._label, config.every_seconds, clock)
        self._sensors = Sensors(client, self._heard)
        self._series = Series()
        self._board: Board | None = None
        self._walk: Walk | None = None
        self._trunk = Trunk()
        self._found_parts = Found(self._label)
        self._parts = Parts(client, ())
        self._parts_due = float("-inf")
        self._walk_due = float("-inf")
        self._unsettled = False
        """Whether the walk began while the BMC may not have had everything yet."""
        self._settled = float("-inf")
        """When it will have, by the clock."""
        self._managers: list[Resource] = []
        """What the walk has seen of how long the BMC has run."""
        self._young = 0
        """Walks in a row of which the BMC said that it had run for minutes only."""
        self._first = True
        """Whether no walk has come to its end yet."""
        self.logs: list[str] = []
        """Where its collections of logs are."""
        self.stream = ""
        """Where it streams events; "" where it does not."""
        self.subscriptions = ""
        """Where it takes subscriptions to events; "" where it does not."""
        self.found: list[Document] | None = None
        """The documents of a walk that has just ended; whoever takes them sets None."""
        self.near: dict[str, str] = {}
        """By path of a resource that has no device of its own, the device that it belongs to."""
        self.complete = True
        """Whether that walk could read everything that it came to."""

    def hear(self, report: Resource) -> list[Reading]:
        """Give the rows of a metric report that the BMC sent by itself. For any thread."""
        return self._heard.hear(report)

    def look_again(self) -> None:
        """Have the next reading look at what there is: something has changed."""
        self._walk_due = float("-inf")

    def restarted(self) -> None:
        """Begin anew with the next reading, and once more when all must be there: the BMC is booting, or has booted."""
        self._walk, self.found = None, None
        self._walk_due = float("-inf")
        self._settled = self._clock() + SETTLE

    def read(self) -> Iterator[Reading]:
        """Read once. Raises BmcError; what was yielded before stands."""
        began = self._clock()
        seen: dict[str, Seen] = {}

        def over(share: float = 1.0) -> bool:
            return self._clock() >= began + share * self._config.sweep_seconds

        enough = partial(over, _SENSORS_SHARE)
        if self._walk is None and began >= self._walk_due:
            self.client.start_over()
            self._sensors.start_over()
            self._trunk, self._board, self.stream, self.subscriptions = Trunk(), None, "", ""
            self._found_parts, self._managers = Found(self._label), []
            self._walk, self._unsettled = Walk(self.client, self._take), began < self._settled
        walk = self._walk
        if walk is not None and not walk.framed:
            walk.go_on(lambda: walk.framed or over())
        if self._board is not None:
            yield from self._limited(self._sensors.read(seen, enough))
        elif walk is not None and walk.framed:
            found, reports = walk.collections["Sensors"], walk.collections["MetricReports"]
            looked = self._sensors.survey(found, reports, seen, enough)
            yield from self._limited(self._heard.left(looked, self._heard.now()))
            self._heard.learn(seen)
            if self._sensors.planned:
                with _opening:
                    self._board = Board(self.client, self._trunk, self._sensors.names)
            self.logs = walk.collections["LogServices"]
        if self._board is not None:
            yield from self._limited(self._board.read(seen, over))
            yield from self._limited(self._read_parts(began, seen, over))
        yield self._account(len(seen), self._clock() - began)
        if walk is not None and self._board is not None and walk.go_on(over):
            self._finish(walk, began)

    def _read_parts(self, began: float, seen: dict[str, Seen], until: Callable[[], bool]) -> Iterator[Reading]:
        """Go on with the round over the parts' metrics, or begin one that is due."""
        if self._parts.idle and began >= self._parts_due:
            self._parts_due = began + self._config.parts_every_seconds
            self._parts.begin()
        yield from self._parts.read(seen, until)

    def _limited(self, rows: Iterator[Reading]) -> Iterator[Reading]:
        """Yield rows without those of more series than one BMC may have."""
        for row in rows:
            if self._series.admit(row):
                yield row
            else:
                self.client.faults.add("flood", f"more than {MOST} series")

    @property
    def machine(self) -> tuple[Resource, Resource]:
        """The machine's ComputerSystem as of this reading, and the BMC's Manager; {} for what is not known."""
        board = self._board
        if board is None or not board.system:
            return {}, {}
        return board.system, (self.client.get(board.manager) if board.manager else None) or {}

    def account(self, state: str) -> Reading:
        """Give the row of a reading that came to nothing."""
        return Reading("bmc_reader", {"state": state, **self._counts()}, bmc_id(self._label))

    def _take(self, resource: Resource) -> None:
        if kind(resource) == "EventService":
            stream = stream_of(resource)
            self.stream = stream if self._config.stream_reports else filtered(stream, resource)
            self.subscriptions = subscriptions_of(resource)
        if kind(resource) == "Manager":
            names = ("Status", "DateTime", "LastResetTime")
            self._managers.append({name: resource[name] for name in names if name in resource})
        self._found_parts.take(resource)
        if kind(resource) in _KEPT and not self._trunk.add(resource):
            self.client.faults.add(UNREADABLE, "more resources than there is room for")

    def _finish(self, walk: Walk, began: float) -> None:
        """Make documents of what was found, and let go of it."""
        self._walk = None
        self._walk_due = began + self._config.inventory_every_seconds
        young = is_young(self._managers)
        self._young = self._young + 1 if young else 0
        if 0 < self._young <= YOUNG_LOOKS or (self._first and young is None and self.client.missing):
            self._unsettled, self._settled = True, max(self._settled, began + SETTLE)
        self._first = False
        if self._unsettled:
            self._walk_due = min(self._walk_due, max(began, self._settled))
        self.complete = walk.gaps == 0 and not self._unsettled
        with _opening:
            self.found, self.near = survey(self._label, self._trunk, own=self.client.bmc.own)
        self._trunk = Trunk()
        self._parts, self._parts_due = Parts(self.client, self._found_parts.parts.values()), float("-inf")

    def _account(self, sensors: int, seconds: float) -> Reading:
        state = "partial" if self.client.denied else "ok"
        told: dict[str, FieldValue] = {"state": state, "reading_seconds": seconds, "sensors": sensors}
        return Reading("bmc_reader", {**told, **self._counts()}, bmc_id(self._label))

    def _counts(self) -> dict[str, FieldValue]:
        client = self.client
        return {
            "requests_total": client.requests,
            "faults_total": client.faults.total,
            "denied": len(client.denied),
        }

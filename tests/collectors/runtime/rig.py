"""A scheduler with an intake that remembers, on real helper processes."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from collectors.delivery import Delivery
from collectors.scheduler import Scheduler
from collectors.status import CollectorSetup, CollectorStatus, SchedulerOptions
from collectors.zygote import Zygote, exec_zygote
from schemas.rows import FieldValue, Parcel, Severity
from schemas.verbosity import Level

FLEET = "tests.collectors.runtime.fleet:"


class Intake:
    """Takes everything, unless told that it is behind."""

    def __init__(self) -> None:
        self.in_force = Level.DEBUG
        self.open = True
        self.taken: list[tuple[str, Delivery]] = []
        self.known: dict[str, dict[str, str]] = {}
        self.waiting: list[Callable[[], None]] = []
        """Who waits for the disk: a test calls them."""

    def level(self, collector: str) -> Level:
        return self.in_force

    def positions(self, collector: str) -> dict[str, str]:
        return dict(self.known.get(collector, {}))

    def ready(self) -> bool:
        return self.open

    def take(self, collector: str, delivery: Delivery) -> None:
        self.taken.append((collector, delivery))
        for position in delivery.positions:
            self.known.setdefault(collector, {})[position.source] = position.value

    def when_committed(self, call: Callable[[], None]) -> None:
        self.waiting.append(call)

    def parcels(self, collector: str) -> list[Parcel]:
        return [parcel for name, delivery in self.taken if name == collector for parcel in delivery.parcels]

    def values(self, collector: str, field: str) -> list[Any]:
        """Every value of a column that was taken, in order."""
        found: list[Any] = []
        for parcel in self.parcels(collector):
            block = parcel.block
            for columns in (block.floats, block.ints, block.bools, block.strings):
                found += [value for value in columns.get(field, []) if value is not None]
        return found

    def documents(self, collector: str) -> list[list[str]]:
        return [d.documents for name, d in self.taken if name == collector and d.documents is not None]


def setup(name: str, fleet_class: str, **fields: Any) -> CollectorSetup:
    return CollectorSetup(name=name, factory=FLEET + fleet_class, **{"interval": 0.2, "timeout": 1.0, **fields})


class Rig:
    """A running scheduler, and what its intake took."""

    def __init__(
        self, scheduler: Scheduler, intake: Intake, zygote: Zygote, told: list[tuple[str, dict[str, FieldValue]]]
    ) -> None:
        self.scheduler = scheduler
        self.intake = intake
        self.zygote = zygote
        self.told = told
        """The scheduler's own events, with their facts."""

    def status(self, name: str) -> CollectorStatus:
        return next(status for status in self.scheduler.status() if status.name == name)

    def until(self, true: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until something is true, and fail when it does not come to be."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"it did not come true: {self.scheduler.status()}"
            time.sleep(0.02)


FAST = SchedulerOptions(
    node_id="node-1", first_within=0.1, backoff_first=0.1, backoff_most=0.4, probe_every=0.3, max_rows=2000
)


@contextmanager
def running(*setups: CollectorSetup, options: SchedulerOptions = FAST, intake: Intake | None = None) -> Iterator[Rig]:
    """Run collectors in a thread until the block ends, and see that everything ends then."""
    intake = intake or Intake()
    zygote = exec_zygote()  # a fork would take pytest along
    told: list[tuple[str, dict[str, FieldValue]]] = []

    def tell(event_type: str, _message: str, detail: Mapping[str, FieldValue], _severity: Severity) -> None:
        told.append((event_type, dict(detail)))

    scheduler = Scheduler(setups, intake, zygote, options, tell_event=tell)
    thread = threading.Thread(target=scheduler.run, name="scheduler")
    thread.start()
    try:
        yield Rig(scheduler, intake, zygote, told)
    finally:
        scheduler.stop()
        thread.join(60.0)
    assert not thread.is_alive()

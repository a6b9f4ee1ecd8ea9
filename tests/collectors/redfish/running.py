"""The collector as the host runs it: its watch on a thread, what it tells kept to be looked at."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from collectors.contract import Context
from collectors.redfish import RedfishCollector
from collectors.redfish.config import Bmc as Address
from collectors.redfish.config import RedfishConfig
from schemas.rows import Described, Event, Item, LogRecord, Position, Reading
from tests.fakes.redfish import Bmc

PATIENCE = 30.0


def address(bmc: Bmc, name: str, **more: Any) -> Address:
    """Give a simulated BMC as it is configured."""
    return Address(**({"address": bmc.url, "name": name, "user": bmc.user, "password": bmc.password} | more))


class Running:
    """A collector that runs for the length of a block."""

    def __init__(
        self, *bmcs: Address, state_dir: Path | None = None, positions: dict[str, str] | None = None, **options: Any
    ) -> None:
        quick = {"every_seconds": 0.2, "answer_seconds": 5.0, "logs_every_seconds": 0.2}
        config = RedfishConfig(**{**quick, "bmcs": bmcs, **options})
        log = logging.getLogger("muster.collector.redfish")
        context = Context(subject="node-1", log=log, state_dir=state_dir, positions=positions or {})
        self.collector = RedfishCollector(config, context)
        self.items: list[Item] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self.collector.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        self.collector.stop()

    def until(self, true: Callable[[], Any], what: str = "it") -> Any:
        """Wait until something comes true, and give it."""
        deadline = time.monotonic() + PATIENCE
        while not (found := true()):
            assert time.monotonic() < deadline, f"{what} did not come true; told was {self.items[-20:]}"
            time.sleep(0.01)
        return found

    def rows(self, measurement: str, subject: str | None = None) -> list[Reading]:
        """Give the rows of a measurement so far."""
        return [
            one
            for one in list(self.items)
            if isinstance(one, Reading) and one.measurement == measurement and subject in (None, one.subject)
        ]

    def states(self, subject: str) -> list[object]:
        """Give how the readings of a BMC went, in order."""
        return [row.fields["state"] for row in self.rows("bmc_reader", subject)]

    def events(self, kind: str = "") -> list[Event]:
        """Give the events so far, of one type."""
        return [one for one in list(self.items) if isinstance(one, Event) and kind in ("", one.type)]

    def described(self, subject: str) -> list[Described]:
        """Give what was described of a subject so far."""
        return [one for one in list(self.items) if isinstance(one, Described) and one.subject == subject]

    def records(self) -> list[LogRecord]:
        """Give the log records so far."""
        return [one for one in list(self.items) if isinstance(one, LogRecord)]

    def positions(self) -> dict[str, str]:
        """Give the latest positions."""
        return {one.source: one.value for one in list(self.items) if isinstance(one, Position)}

    def _watch(self) -> None:
        self.collector.watch(self._emit, self._stopping)

    def _emit(self, items: Iterable[Item]) -> None:
        self.items.extend(items)

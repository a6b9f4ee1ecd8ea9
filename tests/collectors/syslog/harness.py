"""A syslog collector that runs as the host would run it, with everything that it emits kept."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from collectors.contract import Context
from collectors.syslog import SyslogCollector
from collectors.syslog_config import SyslogConfig
from schemas.codec import decode_body, encode_body
from schemas.rows import Event, Item, Parcel, Position
from schemas.verbosity import RowClass

PATIENCE = 60.0
"""Seconds after which a test gives up."""


def flat(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Give the rows of all parcels in order of time, as a receiver decodes them; what is absent is left out."""
    rows = []
    for parcel in (item for item in items if isinstance(item, Parcel)):
        assert parcel.row_class is RowClass.LOG
        (block,) = decode_body(encode_body([parcel.block]))
        stamp = block.start
        for at, (key, step) in enumerate(zip(block.rows, block.steps, strict=True)):
            stamp += step
            row: dict[str, Any] = {"time": stamp, "level": parcel.level.word}
            row.update(zip(["device", *block.attributes], block.keys[key], strict=True))
            row.update({name: column[at] for name, column in (block.strings | block.ints).items()})
            rows.append({name: value for name, value in row.items() if value is not None and value != ""})
    return sorted(rows, key=lambda row: row["time"])


class Running:
    """`with Running(config) as running:` starts the collector and its watch; leaving stops both, the watch first."""

    def __init__(
        self,
        config: SyslogConfig,
        root: Path = Path("/nonexistent"),
        positions: dict[str, str] | None = None,
        *,
        storms: bool = False,
    ) -> None:
        """Every record is kept, whatever the configuration says, but with `storms`."""
        if not storms:
            config = msgspec.structs.replace(config, storm_copies=0)
        context = Context(subject="node-1", log=logging.getLogger("test"), root=root, positions=positions or {})
        self.collector = SyslogCollector(config, context)
        self.units: list[list[Item]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        try:
            self.collector.watch(self.emit, self.stopping)
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            self.error = error

    def emit(self, items: Iterable[Item]) -> None:
        """Keep a unit; blocks while the gate is shut, as a host does that is behind."""
        self.gate.wait(PATIENCE)
        self.units.append(list(items))

    def __enter__(self) -> Self:
        self.collector.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        try:
            self.end_watch()
        finally:
            self.collector.stop()

    def end_watch(self) -> float:
        """Tell the watch to stop and wait for it; give the seconds that it took."""
        started = time.monotonic()
        self.stopping.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the watch did not end"
        if self.error is not None:
            raise self.error
        return time.monotonic() - started

    @property
    def items(self) -> list[Item]:
        """Everything emitted so far."""
        return [item for unit in list(self.units) for item in unit]

    def rows(self) -> list[dict[str, Any]]:
        """Every log row emitted so far."""
        return flat(self.items)

    def messages(self) -> list[str]:
        """The text of every row emitted so far."""
        return [row.get("message", "") for row in self.rows()]

    def events(self) -> list[Event]:
        """Every event emitted so far."""
        return [item for item in self.items if isinstance(item, Event)]

    def positions(self) -> dict[str, str]:
        """The last position of each source."""
        return {item.source: item.value for item in self.items if isinstance(item, Position)}

    def count(self) -> int:
        """How many log rows were emitted so far."""
        return sum(len(item.block.rows) for item in self.items if isinstance(item, Parcel))

    def counts(self, listener: str) -> dict[str, Any]:
        """What the collector tells of one listener now."""
        return next(dict(one.fields) for one in self.collector.collect() if one.attributes["listener"] == listener)

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        """Wait until `done`, or fail."""
        until = time.monotonic() + PATIENCE
        while not done():
            if self.error is not None:
                raise self.error
            assert time.monotonic() < until, f"waited in vain for {what}"
            time.sleep(0.005)

    def wait_for_rows(self, count: int) -> None:
        """Wait until so many rows were emitted, or fail."""
        self.wait_for(lambda: self.count() >= count, f"{count} rows; there are {self.count()}")

"""The collector on a fake machine, in this process; and what it says."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collectors.contract import Context
from collectors.nvml import NvmlCollector
from collectors.nvml.collector import NvmlConfig
from schemas.device import Document
from schemas.errors import NewProcessError, NoDataError, PartialCollectError
from schemas.rows import Event, FieldValue, Item, Reading
from schemas.verbosity import Level
from tests.fakes.nvml import FakeNvml

SECOND_NS = 1_000_000_000


class Machine:
    """A started collector, the clocks that it has, and what it said."""

    def __init__(self, fake: FakeNvml, pynvml: Any, root: Path, state_dir: Path | None, config: NvmlConfig) -> None:
        self.fake = fake
        self.now = 100.0
        self.level = Level.DEBUG
        self.partial = ""
        """What the last call said of what failed."""
        context = Context(
            subject="node-a", log=logging.getLogger("nvml"), root=root, state_dir=state_dir, level=lambda: self.level
        )
        self.collector = NvmlCollector(
            config,
            context,
            clock=lambda: self.now,
            wall_ns=lambda: int(self.now) * SECOND_NS,
            binding=lambda _path: pynvml,
        )

    def device(self, gpu: int) -> str:
        return f"gpu:{self.fake.gpus[gpu].uuid}"

    def items(self) -> list[Item]:
        """Collect; what was yielded before an error stands."""
        self.partial = ""
        found: list[Item] = []
        try:
            for item in self.collector.collect():
                found.append(item)
        except PartialCollectError as error:
            self.partial = str(error)
        return found

    def rows(self, measurement: str = "gpu") -> list[Reading]:
        return [item for item in self.items() if isinstance(item, Reading) and item.measurement == measurement]

    def row(self, gpu: int = 0) -> dict[str, FieldValue]:
        """Give the row of one GPU, without what is absent."""
        (row,) = [row for row in self.rows() if row.device == self.device(gpu)]
        return {name: value for name, value in row.fields.items() if value is not None}

    def later(self, seconds: float = 61.0) -> None:
        self.now += seconds

    def documents(self) -> dict[str, Document]:
        self.partial = ""
        found = {}
        try:
            for document in self.collector.describe():
                found[document.device] = document
        except PartialCollectError as error:
            self.partial = str(error)
        return found

    def document(self, gpu: int = 0) -> Document:
        return self.documents()[self.device(gpu)]

    def events(self) -> list[Event]:
        """Give what was noticed since the last time, as the watch would hand it on."""
        return self.collector._found.take()

    def told(self) -> list[tuple[str, str]]:
        return [(event.type, event.device) for event in self.events()]


@contextmanager
def machine(
    fake: FakeNvml, *, root: Path | None = None, state_dir: Path | None = None, config: NvmlConfig | None = None
) -> Iterator[Machine]:
    """Start the collector on the fake. Without `root` nothing is below it; the library is named in the options."""
    config = config or NvmlConfig(library=str(fake.library))
    with fake.binding() as pynvml:
        made = Machine(fake, pynvml, root or fake.folder / "nowhere", state_dir, config)
        made.collector.start()
        try:
            yield made
        finally:
            made.collector.stop()


class Watching:
    """The collector's watch in a thread, and what it emitted."""

    def __init__(self, collector: NvmlCollector) -> None:
        self.items: list[Item] = []
        self.error: BaseException | None = None
        self._stopping = threading.Event()
        self._collector = collector
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._collector.watch(self._take, self._stopping)
        except (NewProcessError, NoDataError) as error:
            self.error = error

    def _take(self, items: Iterable[Item]) -> None:
        self.items.extend(items)

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]

    def ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        self._stopping.set()
        assert self.ended(2.0), "the watch did not end"


@contextmanager
def watching(machine: Machine) -> Iterator[Watching]:
    """Let the watch run until the block ends."""
    watch = Watching(machine.collector)
    try:
        yield watch
    finally:
        watch.stop()

"""A push collector that runs as the host would run it, and programs that push to it."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from collectors._values import plain
from collectors.blocks import Packer
from collectors.contract import Context
from collectors.delivery import Delivery
from collectors.push.collector import PushCollector, PushConfig
from collectors.received import open_delivery
from schemas.rows import Event, Item, Tally

PATIENCE = 60.0


class Running:
    """`with Running(folder) as running:` starts the collector and its watch; leaving stops both, the watch first."""

    def __init__(self, folder: Path, root: Path = Path("/nonexistent"), **options: Any) -> None:
        self.path = folder / "push.sock"
        config = PushConfig(path=str(self.path), **options)
        (folder / "state").mkdir(exist_ok=True)
        context = Context(subject="node-1", log=logging.getLogger("test"), root=root, state_dir=folder / "state")
        self.collector = PushCollector(config, context)
        self.packer = Packer(PushCollector.METRICS, "node-1", undeclared=True)
        self.rows: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.tallies: list[Tally] = []
        self.durable: list[bool] = []
        """Of each delivery, whether somebody waited for the disk."""
        self.disk = threading.Event()
        """Cleared: the disk takes nothing."""
        self.disk.set()
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        try:
            self.collector.watch(self._emit, self._stopping)
        except BaseException as error:  # noqa: BLE001  # shown when the test leaves
            self._error = error

    def _emit(self, items: Iterable[Item], *, durable: bool = False) -> None:
        taken = list(items)
        for item in taken:
            self.packer.add(item)
        assert not self.packer.faults, self.packer.note  # what the collector hands on is never refused
        self._keep(self.packer.pack())
        self.packer.reset()
        self.events += [item for item in taken if isinstance(item, Event)]
        self.tallies += [item for item in taken if isinstance(item, Tally)]
        self.durable.append(durable)
        if durable:
            assert self.disk.wait(PATIENCE)

    def _keep(self, data: bytes) -> None:
        delivery, bad, note = open_delivery(data) if data else (Delivery([]), 0, "")
        assert (0, "") == (bad, note)
        assert delivery is not None
        for parcel in delivery.parcels:
            block = parcel.block
            columns = block.floats | block.ints | block.bools | block.strings
            for at, key in enumerate(block.rows):
                row: dict[str, Any] = {"measurement": block.measurement, "level": parcel.level.word}
                row |= dict(zip(["device", *block.attributes], block.keys[key], strict=True))
                row |= {name: column[at] for name, column in columns.items() if column[at] is not None}
                self.rows += [row] if block.measurement != "event" else []

    def __enter__(self) -> Self:
        self.collector.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disk.set()
        self._stopping.set()
        self._thread.join(PATIENCE)
        self.collector.stop()
        if self._error is not None and error is None:
            raise self._error

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.path))
        return sock

    def push(self, text: str | bytes) -> list[str]:
        """Push as `echo ... | socat` does; give the answers."""
        with self.connect() as sock:
            sock.sendall(text.encode() if isinstance(text, str) else text)
            sock.shutdown(socket.SHUT_WR)
            return lines_of(sock)

    def counts(self) -> dict[str, dict[str, Any]]:
        """Give the counts by reason, of the pusher itself under ""."""
        readings = list(self.collector.collect())
        return {reading.attributes.get("reason", ""): dict(reading.fields) for reading in readings}

    def until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, "it did not come true"
            time.sleep(0.01)


def lines_of(sock: socket.socket) -> list[str]:
    """Give all that comes until the other side closes."""
    data = b""
    while more := sock.recv(1 << 16):
        data += more
    return plain(data.decode()).splitlines()


def line_of(sock: socket.socket) -> str:
    """Give the next line of answers."""
    data = b""
    while not data.endswith(b"\n"):
        more = sock.recv(1)
        assert more, "closed"
        data += more
    return data.decode().rstrip("\n")

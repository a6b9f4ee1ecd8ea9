"""An intake on a real spool, with clocks that tests move."""

import time
from pathlib import Path
from typing import Any

from collectors.delivery import Delivery
from collectors.intake import Intake
from collectors.spool import NewBatch, Spool
from collectors.verbosity import LevelPolicy
from schemas.batch import Block
from schemas.codec import decode_body
from schemas.device import DeviceKind, Document, encode_document
from schemas.rows import Parcel, Position
from schemas.verbosity import Level, RowClass

SECOND = 1_000_000_000
TELEMETRY = (RowClass.TELEMETRY, Level.STANDARD)


class Clocks:
    """The monotonic clock, which only tests move, and a wall clock that somebody may set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set_by_ns = 0

    def monotonic(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return time.time_ns() + self.set_by_ns


class Rig:
    """An intake on a real spool."""

    def __init__(self, folder: Path) -> None:
        self.clocks = Clocks()
        self.policy = LevelPolicy(Level.STANDARD, {"loud": Level.DEBUG}, self.clocks.monotonic)
        self.spool = Spool.open(folder / "spool.db", "node-1", "boot", synchronous="OFF")
        self.commits = 0
        self.intake = Intake(
            self.spool,
            self.policy,
            "node-1",
            committed=self._committed,
            clock=self.clocks.monotonic,
            wall_ns=self.clocks.wall_ns,
        )

    def _committed(self) -> None:
        self.commits += 1

    def take(self, *parcels: Parcel, collector: str = "host", position: str = "", **more: Any) -> None:
        positions = [Position("tape", position)] if position else []
        self.intake.take(collector, Delivery(list(parcels), positions, **more))

    def blocks(self, row_class: RowClass = RowClass.TELEMETRY, level: Level | None = None) -> list[Block]:
        """What the spool holds of a class (and level), in order."""
        found = []
        for held in self.spool.pending():
            if held.row_class is row_class and level in (None, held.level):
                body = self.spool.body(held)
                assert body is not None
                blocks = decode_body(body)
                assert held.rows == sum(len(block.rows) for block in blocks)
                found += blocks
        return found

    def values(self, **of: Any) -> list[Any]:
        return [value for block in self.blocks(**of) for value in block.ints["value"]]

    def events(self) -> list[str]:
        return [str(kind) for block in self.blocks(RowClass.EVENT) for kind in block.strings["type"]]

    def until(self, true: Any, what: str = "it") -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, f"{what} did not come true"
            time.sleep(0.005)

    def settle(self) -> None:
        """Give the committing thread the time to do what is due."""
        self.intake.wake()
        before, still = self.commits, 0
        while still < 3:
            time.sleep(0.04)
            before, still = self.commits, still + 1 if before == self.commits else 0

    def pass_(self, seconds: float) -> None:
        """Let time pass, and the intake notice it."""
        self.clocks.now += seconds
        self.settle()

    def skip_first(self) -> None:
        """Let every stream of these tests have had its first batch, which goes at once."""
        for row_class in RowClass:
            for level in Level:
                self.spool.commit([NewBatch(row_class, level, 1, b"")])
        self.spool.forget([held.id for held in self.spool.pending()])


def block(*values: int | None, start: int | None = None, measurement: str = "cpu", device: str = "") -> Block:
    start = time.time_ns() if start is None else start
    count = len(values)
    return Block(measurement, "node-1", [], [[device]], [0] * count, start, [0] + [1] * (count - 1),
                 ints={"value": list(values)})  # fmt: skip


def rows(*values: int, level: Level = Level.STANDARD, row_class: RowClass = RowClass.TELEMETRY, **more: Any) -> Parcel:
    return Parcel(row_class, level, block(*values, **more))


def event(value: int) -> Parcel:
    return rows(value, row_class=RowClass.EVENT, level=Level.ESSENTIAL, measurement="event")


def document(device: str, **capabilities: int) -> str:
    return encode_document(Document(device, DeviceKind.GPU, [f"serial:{device}"], capabilities=dict(capabilities)))


def times_of(blocks: list[Block]) -> list[int]:
    times = []
    for one in blocks:
        at = one.start
        for step in one.steps:
            at += step
            times.append(at)
    return times

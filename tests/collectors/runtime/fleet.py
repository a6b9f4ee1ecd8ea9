"""Collectors that do what they should, and collectors that do what they must not: all that a helper has to survive."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from collectors.contract import Context, DurableEmit, Emit
from schemas.batch import Block
from schemas.device import DeviceKind, Document
from schemas.errors import NewProcessError, NoDataError, PartialCollectError, StartupError
from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.rows import Event, Item, Parcel, Position, Reading
from schemas.verbosity import Level, RowClass


def metric(name: str, kind: ValueType = ValueType.INT, **other: Any) -> MetricSpec:
    unit = Unit.NONE if kind in (ValueType.STR, ValueType.BOOL) else Unit.COUNT
    fields = {
        "kind": Kind.GAUGE,
        "level": Level.STANDARD,
        "category": Category.LOAD,
        "meaning": "A test.",
        "source": "the test",
        **other,
    }
    return MetricSpec(name=name, unit=unit, type=kind, **fields)


class Config(msgspec.Struct, frozen=True):
    """Options of the test's collectors."""

    word: str = ""
    """A word."""
    number: int = 0
    """A number."""


class Good:
    """Reports when it was called, on the clock that all processes share."""

    name: ClassVar[str] = "good"
    isolation: ClassVar[str] = "node"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = (metric("good.began_ns"), metric("good.calls", level=Level.DETAILED))
    Config: ClassVar[type[Any]] = Config

    def __init__(self, config: Any, context: Context) -> None:
        self.config = config
        self.context = context
        self.calls = 0

    def start(self) -> None: ...

    def collect(self) -> Iterable[Item]:
        self.calls += 1
        yield Reading("good", {"began_ns": time.monotonic_ns(), "calls": self.calls})

    def stop(self) -> None: ...


class Alone(Good):
    """The same in a helper of its own."""

    isolation: ClassVar[str] = ""


class Sleeper(Alone):
    """Blocks in C, as a driver does."""

    def collect(self) -> Iterable[Item]:
        time.sleep(1000)
        yield Reading("good", {})


class GilHolder(Alone):
    """Blocks in C and holds the interpreter's lock: no thread of its process runs."""

    def collect(self) -> Iterable[Item]:
        ctypes.PyDLL(None).sleep(1000)
        yield Reading("good", {})


class SharedGilHolder(GilHolder):
    """The same, in the group's helper."""

    isolation: ClassVar[str] = "node"


class Raiser(Alone):
    def collect(self) -> Iterable[Item]:
        yield Reading("good", {"began_ns": 1})
        raise ZeroDivisionError("a bug")


class Flooder(Alone):
    """Yields without end."""

    def collect(self) -> Iterable[Item]:
        while True:
            yield Reading("good", {"began_ns": 1})


class WatchFlooder(Alone):
    """Emits without end."""

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        while not stopping.is_set():
            emit([Reading("good", {"began_ns": 1})] * 1000)


class Garbage(Alone):
    """Yields what is no item, and items that hold nonsense."""

    def collect(self) -> Iterable[Any]:
        yield None
        yield object()
        yield Reading("good", {"began_ns": "text", "undeclared": 1})
        yield Reading("good", None)  # type: ignore[arg-type]
        yield Reading("unknown", {"x": 1})
        yield Reading("good", {"began_ns": 7}, attributes={"no": "such"})
        yield Reading("good", {"began_ns": 7})


class Liar(Alone):
    """Writes into the channel of its helper."""

    def collect(self) -> Iterable[Item]:
        os.write(3, b"\x00\x00\x00\x05hello" * 10)
        time.sleep(1000)
        yield Reading("good", {})


class Exiter(Alone):
    def collect(self) -> Iterable[Item]:
        os._exit(3)


class SysExiter(Alone):
    def collect(self) -> Iterable[Item]:
        sys.exit(3)


class Segfaulter(Alone):
    def collect(self) -> Iterable[Item]:
        ctypes.string_at(0)
        return ()


class Closer(Alone):
    """Closes every descriptor of its process."""

    def collect(self) -> Iterable[Item]:
        os.closerange(0, 1000)
        time.sleep(0.2)
        yield Reading("good", {"began_ns": 1})


class Glutton(Alone):
    """Allocates without bound."""

    def collect(self) -> Iterable[Item]:
        held = []
        while True:
            held.append(bytearray(8 << 20))
        yield Reading("good", {"began_ns": len(held)})


class Forker(Alone):
    """Forks, and both processes go on as if they were the helper; the child stays."""

    def collect(self) -> Iterable[Item]:
        if os.fork() == 0:
            time.sleep(1000)
        yield Reading("good", {"began_ns": os.getpid()})


class ZygoteKiller(Alone):
    def collect(self) -> Iterable[Item]:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
        yield Reading("good", {})


class Unstoppable(Alone):
    """Its watch does not end."""

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        emit([Reading("good", {"began_ns": 1})])
        time.sleep(1000)


class NoHardware(Alone):
    def start(self) -> None:
        raise NoDataError("no such device here")


class NoPlatform(Alone):
    def start(self) -> None:
        raise StartupError("only on another platform", retry=False)


class Shy(Alone):
    """Starts at the third try."""

    tries = 0

    def start(self) -> None:
        type(self).tries += 1
        if self.tries < 3:
            raise StartupError(f"try {self.tries}")


class Partial(Alone):
    def collect(self) -> Iterable[Item]:
        yield Reading("good", {"began_ns": 5})
        raise PartialCollectError("two fans did not answer", failed=2)


class Watcher(Alone):
    """Emits its positions and the level in force; describes a device."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = (
        *Good.METRICS,
        metric("seen.in_force"),
        metric("seen.position", ValueType.STR),
    )

    def describe(self) -> Iterable[Document]:
        yield Document(f"gpu:{self.config.word}", DeviceKind.GPU, ["serial:1"])

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        last = self.context.positions.get("tape", "none")
        number = 0 if last == "none" else int(last)
        emit([Reading("seen", {"position": last}), Event("test.changed", "A device changed.", device="gpu:0")])
        while not stopping.is_set():
            number += 1
            emit([Reading("seen", {"in_force": int(self.context.level())}), Position("tape", str(number))])
            stopping.wait(0.05)


class Promising(Alone):
    """Says of each row that it is on disk, once it is."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = (*Good.METRICS, metric("seen.durable"), metric("seen.number"))

    def watch(self, emit: DurableEmit, stopping: threading.Event) -> None:
        emit([Reading("seen", {"number": 1})])
        emit([], durable=True)
        emit([Reading("seen", {"durable": 1})], durable=True)
        emit([Reading("seen", {"durable": 2})])
        stopping.wait()


class HandsOn(Alone):
    """Hands on tables of others, which it does not declare."""

    undeclared: ClassVar[bool] = True

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        no_floats: dict[str, list[float | None]] = {}
        a_float: dict[str, list[float | None]] = {"customers": [1.0]}
        for measurement, attributes, floats in (
            ("shop", ["till"], no_floats),
            ("Shop", [], {}),
            ("shop", [], a_float),
            ("shop", ["node"], {}),
            ("good", [], {}),
        ):
            key = ["service:x", *("1" for _ in attributes)]
            block = Block(measurement, "", attributes, [key], [0], time.time_ns(), [0], floats, {"customers": [3]})
            emit([Parcel(RowClass.TELEMETRY, Level.DETAILED, block)])
        stopping.wait()


class LastWords(Alone):
    """Has read something that it emits only when it is asked to stop, as a reader of sockets has."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = (*Good.METRICS, metric("seen.position", ValueType.STR))

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        emit([Reading("seen", {"position": "first"})])
        stopping.wait()
        emit([Reading("seen", {"position": "last"}), Position("tape", "last")])


class Dying(Alone):
    """Its watch ends though nobody asked."""

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        raise ConnectionResetError("the socket closed")


class Printer(Alone):
    def collect(self) -> Iterable[Item]:
        sys.stdout.write("I was here\n")
        self.context.log.warning("fan stuck rpm=%d", 0)
        yield Reading("good", {"began_ns": 1})


class Spent(Good):
    """Finds, in the call that its option names, that its library is of no more use; says in which process it runs."""

    name: ClassVar[str] = "spent"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = (metric("spent.pid"),)

    def _find(self, call: str) -> None:
        mark = self.context.state_dir
        if self.config.word == call and mark is not None and not (mark / "found").exists():
            (mark / "found").touch()
            raise NewProcessError("the driver was reloaded")

    def start(self) -> None:
        self._find("start")

    def collect(self) -> Iterable[Item]:
        yield Reading("spent", {"pid": os.getpid()})
        self._find("collect")

    def describe(self) -> Iterable[Document]:
        self._find("describe")
        return ()

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        emit([Reading("spent", {"pid": os.getpid()})])
        self._find("watch")
        stopping.wait()

"""The contract test kit finds what it is there to find: each check fails on a collector that breaks just that."""

import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from collectors import testing
from collectors.contract import Context, Emit, Objection
from collectors.testing import CHECKS, Case, check_contract
from schemas.device import DeviceKind, Document, Slot
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Event, Item, Reading, Severity
from tests.collectors.runtime.fleet import Good, metric


class Sound(Good):
    """Keeps everything: reads one file, describes one device, watches."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = (metric("fan.speed"), metric("fan.core"))

    def start(self) -> None:
        self.file = self.context.root / "fan"

    def collect(self) -> Iterable[Item]:
        if self.file.exists():
            yield Reading("fan", {"speed": int(self.file.read_text())})

    def describe(self) -> Iterable[Document]:
        yield Document("fan:1", DeviceKind.FAN, ["pci:0000:3b:00.0"])

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        emit([Reading("fan", {"speed": 1})])
        stopping.wait()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "fan").write_text("900")
    return tmp_path


def test_sound_collector_passes(root: Path) -> None:
    check_contract(Case(Sound, root=root))


class NoDoc(Sound):
    pass


NoDoc.__doc__ = ""


class Required(msgspec.Struct, frozen=True):
    path: str
    """Where."""


class Thawed(msgspec.Struct):
    path: str = ""
    """Where."""


class Silent(msgspec.Struct, frozen=True):
    path: str = ""


class Eager(Sound):
    """Opens a socket when made."""

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        socket.socket().close()


class EagerReader(Sound):
    """Reads a file when made."""

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        (context.root / "fan").read_text()


class StopsOnce(Sound):
    """Cannot be stopped twice."""

    def start(self) -> None:
        super().start()
        self.thing = object()

    def stop(self) -> None:
        del self.thing


class StartsOnce(Sound):
    """Cannot be started twice."""

    started = False

    def start(self) -> None:
        super().start()
        assert not self.started
        self.started = True


class FallsSilent(Sound):
    """Has nothing after a restart."""

    stopped = False

    def collect(self) -> Iterable[Item]:
        return () if self.stopped else super().collect()

    def stop(self) -> None:
        self.stopped = True


class Crashes(Sound):
    """Raises what the host does not know at the second reading."""

    calls = 0

    def collect(self) -> Iterable[Item]:
        self.calls += 1
        return [Reading("fan", {"speed": 1 // (2 - self.calls)})] if self.calls > 1 else ()


class Undeclared(Sound):
    """Yields what it does not declare."""

    def collect(self) -> Iterable[Item]:
        yield Reading("fan", {"speed": 1, "noise": 2})


class BadKey(Sound):
    """Merges by nothing."""

    def describe(self) -> Iterable[Document]:
        yield Document("fan:1", DeviceKind.FAN, ["3b:00.0"])


class BadAddress(Sound):
    """Spells an address in its own way."""

    def describe(self) -> Iterable[Document]:
        yield Document("fan:1", DeviceKind.FAN, slot=Slot(address="3B:00.0"))


class Twice(Sound):
    """Describes a device twice."""

    def describe(self) -> Iterable[Document]:
        yield from [Document("fan:1", DeviceKind.FAN)] * 2


class Deaf(Sound):
    """Does not end its watch."""

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        threading.Event().wait(3.0)


class Brief(Sound):
    """Ends its watch at once."""

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        return


class Stubborn(Sound):
    """Crashes where nothing is."""

    def collect(self) -> Iterable[Item]:
        yield Reading("fan", {"speed": int(self.file.read_text())})


class Real(Sound):
    """Reads this machine, wherever it is pointed."""

    def collect(self) -> Iterable[Item]:
        yield Reading("fan", {"speed": len(Path("/proc/uptime").read_text())})


class Leaky(Sound):
    """Leaves a socket open."""

    kept: ClassVar[list[socket.socket]] = []

    def start(self) -> None:
        super().start()
        self.kept.append(socket.socket())


class Threaded(Sound):
    """Leaves a thread."""

    def start(self) -> None:
        super().start()
        threading.Thread(target=threading.Event().wait, args=(3.0,), daemon=True).start()


class Whispers(Sound):
    """Tells what it does not declare."""

    EVENTS: ClassVar[tuple[EventSpec, ...]] = (EventSpec("fan.up", "A fan turns.", (Severity.NOTICE,)),)

    def collect(self) -> Iterable[Item]:
        yield Event("fan.up", "fan 1 turns")
        yield Event("fan.down", "fan 1 stands still")


class Misnames(Sound):
    """Objects to an option that it does not have."""

    def check_options(self, *, attempt: bool) -> Iterable[Objection]:
        yield Objection("fans", f"there are none: name some (attempt: {attempt})")


def with_config(config: type[Any]) -> type[Any]:
    return type("Configured", (Sound,), {"Config": config, "__doc__": "A fan."})


@pytest.mark.parametrize(
    ("collector", "check", "message"),
    [
        (
            type("Nameless", (Sound,), {"name": "", "__doc__": "A fan."}),
            testing.check_declaration,
            "`name` must be a word",
        ),
        (NoDoc, testing.check_declaration, "no docstring"),
        (with_config(Required), testing.check_config, "without a default"),
        (with_config(Thawed), testing.check_config, "must be frozen"),
        (with_config(Silent), testing.check_config, "without an attribute docstring"),
        (Whispers, testing.check_events_are_declared, "EVENTS does not declare: .'fan.down'."),
        (Misnames, testing.check_config, "an objection to 'fans', which is no option"),
        (Eager, testing.check_construction_does_no_io, "__init__ does I/O.*socket"),
        (EagerReader, testing.check_construction_does_no_io, "__init__ does I/O.*open"),
        (StopsOnce, testing.check_stop_without_start, "thing"),
        (StopsOnce, testing.check_lifecycle, "thing"),
        (StartsOnce, testing.check_restart, "assert not True"),
        (FallsSilent, testing.check_restart, "nothing is yielded any more"),
        (Crashes, testing.check_lifecycle, "modulo by zero"),
        (Undeclared, testing.check_emissions, "undeclared: fan.noise"),
        (BadKey, testing.check_documents, "merge key"),
        (BadAddress, testing.check_documents, "address not normal"),
        (Twice, testing.check_documents, "described twice"),
        (Deaf, testing.check_watch, "did not end within"),
        (Brief, testing.check_watch, "ended though nobody asked"),
        (Stubborn, testing.check_empty_root, "No such file"),
        (Real, testing.check_empty_root, "reads beside"),
        (Leaky, testing.check_leaves_nothing, "descriptors are left open"),
        (Threaded, testing.check_leaves_nothing, "threads are left"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_kit_finds(collector: type[Any], check: Callable[[Case], None], message: str, root: Path) -> None:
    errors = (AssertionError, AttributeError, ZeroDivisionError, FileNotFoundError)
    with pytest.raises(errors, match=message):
        check(Case(collector, root=root))
    for held in Leaky.kept:
        held.close()
    Leaky.kept.clear()


def test_every_check_has_a_collector_that_fails_it() -> None:
    (mark,) = [mark for mark in test_kit_finds.pytestmark if mark.name == "parametrize"]
    assert {check for _, check, _ in mark.args[1]} == set(CHECKS)

"""The services of this machine, as systemd tells them: up, down, failed, new, restarted, and what each takes.

Changes are events at once; rows come once a minute. Memory and processor time are read from the control groups, and
only while somebody wants that level. Source: org.freedesktop.systemd1(5), the kernel's `admin-guide/cgroup-v2`.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from collectors._dbus import DBusError
from collectors._declare import Declare
from collectors._names import NameFilter
from collectors.contract import Context, Emit
from collectors.isolation import MACHINE
from collectors.service_manager import Manager
from collectors.service_units import EVENTS
from schemas.errors import NoDataError
from schemas.events import EventSpec
from schemas.metrics import Category, MetricSpec
from schemas.rows import FieldValue, Item, Reading
from schemas.verbosity import Level

_RETRY_S: Final = (1.0, 30.0)
"""The first and the longest pause before systemd is spoken to again."""
_LOOK_S: Final = 0.5
"""The longest wait before `stopping` is looked at."""
_USERS: Final = "user.slice"


def _metrics() -> tuple[MetricSpec, ...]:
    systemd = Declare(
        "systemd", "D-Bus org.freedesktop.systemd1.Manager ListUnits", Category.LOAD, level=Level.ESSENTIAL
    )
    service = Declare("service", "D-Bus org.freedesktop.systemd1", Category.USAGE, ("unit",))
    cgroup = Declare("service", "/sys/fs/cgroup", Category.USAGE, ("unit",), Level.DETAILED)
    return (
        systemd.gauge("units", "Watched units that are loaded.", Level.STANDARD),
        systemd.gauge("units_active", "Watched units that are active.", Level.STANDARD),
        systemd.gauge("units_failed", "Watched units that failed.", category=Category.ERROR),
        systemd.text("failed", "The names of those that failed; absent when none did.", category=Category.ERROR),
        service.text("state", "`active`, `inactive`, `failed`, ..., or `auto-restart`: waits to be started again."),
        service.flag("up", "Whether it counts as up; it does while systemd starts it again by itself."),
        service.counter(
            "restarts_total",
            "Starts by systemd itself since somebody started it; absent where systemd does not count them.",
            category=Category.ERROR,
        ),
        cgroup.gauge("memory_bytes", "Memory of its control group, page cache included; absent while it is down."),
        cgroup.counter(
            "cpu_seconds_total", "Processor time of its control group since it was started; absent while it is down."
        ),
        cgroup.gauge("processes", "Tasks of its control group; absent while it is down."),
    )


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which units are watched. Patterns are shell patterns; what is excluded is so whatever includes it."""

    units_include: tuple[str, ...] = ("*.service",)
    """systemd units whose changes are told."""
    units_exclude: tuple[str, ...] = ("user@*", "user-runtime-dir@*", "run-*", "session-*", "systemd-fsck*")
    """systemd units to be silent about: by default those that come with each login or command."""
    rows_every_seconds: Annotated[float, Meta(ge=1)] = 60.0
    """How often each unit has a row; changes are events at once."""


class ServiceCollector:
    """Watches units of systemd. Where systemd does not run the machine, there is nothing for it."""

    name: ClassVar[str] = "service"
    isolation: ClassVar[str] = MACHINE
    METRICS: ClassVar[tuple[MetricSpec, ...]] = _metrics()
    EVENTS: ClassVar[tuple[EventSpec, ...]] = EVENTS
    Config: ClassVar[type[ServiceConfig]] = ServiceConfig

    def __init__(self, config: ServiceConfig, context: Context, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._context = context
        self._clock = clock
        self._wanted = NameFilter(config.units_include, config.units_exclude)
        self._manager = Manager(context.root, self._wanted, clock)
        self._rows_due = float("-inf")

    def probe(self) -> str:
        """Give "" where systemd runs the machine, else what is missing."""
        return "" if self._manager.present else "systemd does not run this machine: there is no /run/systemd/system."

    def start(self) -> None:
        """Begin anew: the next list is where changes are counted from. Raises NoDataError without systemd."""
        if missing := self.probe():
            raise NoDataError(missing)
        self._manager.close()
        self._manager = Manager(self._context.root, self._wanted, self._clock)
        self._rows_due = float("-inf")

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Hear of units from systemd, and emit at once what changed."""
        retry_at, pause_s = float("-inf"), _RETRY_S[0]
        while not stopping.is_set():
            if self._clock() >= retry_at:
                try:
                    events = self._manager.poll()
                    pause_s = _RETRY_S[0]
                    if events:
                        emit(events)
                except DBusError as error:
                    if pause_s == _RETRY_S[0]:  # once, for a standing condition
                        self._context.log.warning("systemd does not answer, trying again: %s", error)
                    retry_at, pause_s = self._clock() + pause_s, min(pause_s * 2, _RETRY_S[1])
            self._wait(stopping)

    def _wait(self, stopping: threading.Event) -> None:
        units = self._manager.fileno
        if units is None or units < 0:  # it may be closed at this moment
            stopping.wait(_LOOK_S)
            return
        poller = select.poll()
        poller.register(units, select.POLLIN)
        poller.poll(_LOOK_S * 1000)

    def collect(self) -> Iterator[Item]:
        """Give the counts, and once a minute a row for each unit."""
        states = self._manager.states
        summary = states.summary()
        if summary is None:
            return
        yield summary
        if self._clock() < self._rows_due:
            return
        self._rows_due = self._clock() + self._config.rows_every_seconds
        detailed = self._context.level() >= Level.DETAILED
        groups = control_groups(self._context.root / "sys/fs/cgroup") if detailed else {}
        for unit, fields in states.readings():
            folder = groups.get(unit) if fields["up"] else None
            yield Reading("service", fields | (usage_of(folder) if folder else {}), attributes={"unit": unit})

    def stop(self) -> None:
        """Close the connection."""
        self._manager.close()


def control_groups(root: Path) -> dict[str, str]:
    """Give the folder of each service's control group; nothing where there is no unified hierarchy."""
    found: dict[str, str] = {}
    slices = [str(root)]
    while slices:
        try:
            entries = list(os.scandir(slices.pop()))
        except OSError:  # no such hierarchy, or it went away meanwhile
            continue
        for entry in entries:
            if entry.name.endswith(".service"):
                found[entry.name] = entry.path
            elif entry.name.endswith(".slice") and entry.name != _USERS:
                slices.append(entry.path)
    return found


def usage_of(folder: str) -> dict[str, FieldValue]:
    """Give what a control group takes; what its controllers do not count is absent."""
    fields: dict[str, FieldValue] = {
        "memory_bytes": _number(f"{folder}/memory.current"),
        "processes": _number(f"{folder}/pids.current"),
    }
    for line in _read(f"{folder}/cpu.stat").splitlines():
        word, _, number = line.partition(" ")
        if word == "usage_usec" and number.isdecimal():
            fields["cpu_seconds_total"] = int(number) / 1e6
    return fields


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 4096).decode("ascii", "replace")
    except OSError:  # the group went away
        return ""
    finally:
        os.close(descriptor)

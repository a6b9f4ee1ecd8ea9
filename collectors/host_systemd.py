"""Services that come up, go down, fail or are new, as systemd tells them; no process is started for it."""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

from collectors._dbus import Connection, DBusError, Message
from collectors._declare import Declare
from collectors._names import NameFilter
from collectors.host_section import HostConfig, Look
from schemas.metrics import Category, MetricSpec
from schemas.rows import Event, FieldValue, Item, Reading, Severity
from schemas.verbosity import Level

_MANAGER: Final = "org.freedesktop.systemd1.Manager"
_OBJECT: Final = "/org/freedesktop/systemd1"
_UNIT: Final = "org.freedesktop.systemd1.Unit"
_SERVICE: Final = "org.freedesktop.systemd1.Service"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_PREFIX: Final = _OBJECT + "/unit/"
_REMEMBERED: Final = 4096
"""Names of units that were seen, so that one that was unloaded and comes back is not told as new."""

_RUNNING: Final = frozenset({"active", "reloading", "refreshing"})
_RESULT: Final = {
    "Result": "result",
    "ExecMainCode": "exit_code",
    "ExecMainStatus": "exit_status",
    "NRestarts": "restarts",
}


def _metrics() -> tuple[MetricSpec, ...]:
    systemd = Declare(
        "systemd", "D-Bus org.freedesktop.systemd1.Manager ListUnits", Category.LOAD, level=Level.ESSENTIAL
    )
    return (
        systemd.gauge("units", "Watched units that are loaded.", Level.STANDARD),
        systemd.gauge("units_active", "Watched units that are active.", Level.STANDARD),
        systemd.gauge("units_failed", "Watched units that failed.", category=Category.ERROR),
        systemd.text("failed", "The names of those that failed; absent when none did.", category=Category.ERROR),
    )


class UnitStates:
    """What is known of each watched unit, and what each change of it means."""

    def __init__(self, wanted: NameFilter) -> None:
        self._wanted = wanted
        self._states: dict[str, str] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._listed = False

    def listed(self, units: Iterable[tuple[str, str]]) -> Iterator[Event]:
        """Take the whole list of (name, active state); the first one is where changes are counted from."""
        first, self._listed = not self._listed, True
        now = {name: state for name, state in units if self._wanted(name)}
        for name in self._states.keys() - now.keys():
            yield from self.removed(name)
        for name, state in now.items():
            if first:
                self._states[name] = state
                self._see(name)
            else:
                yield from self.changed(name, state)

    def changed(self, name: str, state: str) -> Iterator[Event]:
        """Take one unit's active state."""
        if not self._wanted(name):
            return
        before = self._states.get(name)
        self._states[name] = state
        is_new = name not in self._seen
        self._see(name)
        if is_new:
            yield _event("new", name, f"{name} is new on this machine", state)
        if state == before:
            return
        if state == "failed":
            yield _event("failed", name, f"{name} failed", state, Severity.ERROR)
        elif state in _RUNNING and before not in _RUNNING:
            yield _event("up", name, f"{name} is up", state)
        elif before in _RUNNING and state not in _RUNNING:
            yield _event("down", name, f"{name} is down", state, Severity.WARNING)

    def removed(self, name: str) -> Iterator[Event]:
        """Take that systemd unloaded a unit."""
        if self._states.pop(name, None) in _RUNNING:
            yield _event("down", name, f"{name} is down and was unloaded", "", Severity.WARNING)

    def summary(self) -> Reading | None:
        """Give the counts; None before the first list."""
        if not self._listed:
            return None
        states = list(self._states.items())  # the other thread may change them meanwhile
        failed = sorted(name for name, state in states if state == "failed")
        active = sum(state in _RUNNING for _, state in states)
        fields: dict[str, FieldValue] = {"units": len(states), "units_active": active, "units_failed": len(failed)}
        if failed:
            fields["failed"] = " ".join(failed)
        return Reading("systemd", fields)

    def _see(self, name: str) -> None:
        self._seen[name] = None
        self._seen.move_to_end(name)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


class SystemdSection:
    """Keeps a connection to systemd. `poll` belongs to one thread at a time; `read` may run beside it."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _metrics()

    def __init__(self, root: Path, config: HostConfig) -> None:
        self._root = root
        self._wanted = NameFilter(config.units_include, config.units_exclude)
        self._states = UnitStates(self._wanted)
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._watched = False

    @property
    def present(self) -> bool:
        """Whether systemd runs this machine. Source: sd_booted(3)."""
        return (self._root / "run/systemd/system").is_dir()

    @property
    def fileno(self) -> int | None:
        """What to wait on for the next change; None while there is no connection."""
        return None if self._connection is None else self._connection.fileno()

    def start(self) -> None:
        """Begin anew: the next list is where changes are counted from."""
        self.close()
        self._states = UnitStates(self._wanted)

    def read(self, look: Look) -> Iterable[Item]:
        """Give the counts, and the changes as well while nobody watches."""
        if not self.present:
            return
        if not self._watched and look.slow:
            try:
                yield from self.poll()
            except DBusError:
                return
        summary = self._states.summary()
        if summary is not None:
            yield summary

    def watched(self, by_thread: bool) -> None:
        """Say whether a thread calls `poll` from now on, so that `read` need not."""
        self._watched = by_thread

    def poll(self) -> list[Event]:
        """Give what changed since the last call, connecting first where need be. Raises DBusError."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                    return self._list(self._connection)
                return self._take(self._connection)
            except DBusError:
                self._drop()
                raise

    def close(self) -> None:
        """Close the connection; safe twice."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> Connection:
        try:  # root speaks to systemd itself; everyone else through the bus
            connection = Connection(self._root / "run/systemd/private", bus=False)
        except DBusError:
            connection = Connection(self._root / "run/dbus/system_bus_socket", bus=True)
        try:
            connection.match("type='signal',sender='org.freedesktop.systemd1'")
            connection.call(_OBJECT, _MANAGER, "Subscribe")
        except DBusError:
            connection.close()
            raise
        return connection

    def _list(self, connection: Connection) -> list[Event]:
        body = connection.call(_OBJECT, _MANAGER, "ListUnits")
        units = [(str(row[0]), str(row[3])) for row in body[0]]
        return [self._explained(connection, event) for event in self._states.listed(units)]

    def _take(self, connection: Connection) -> list[Event]:
        events: list[Event] = []
        for signal in connection.signals():
            if signal.interface == _PROPERTIES and signal.body[:1] == [_UNIT]:
                state = signal.body[1].get("ActiveState")
                if state:
                    events += self._states.changed(unit_name(signal.path), state)
            elif signal.interface == _MANAGER:
                events += self._managed(connection, signal)
        return [self._explained(connection, event) for event in events]

    def _managed(self, connection: Connection, signal: Message) -> Iterable[Event]:
        if signal.member == "UnitRemoved":
            return self._states.removed(str(signal.body[0]))
        if signal.member == "Reloading" and signal.body == [False]:
            return self._list(connection)
        return ()

    def _explained(self, connection: Connection, event: Event) -> Event:
        """Add to a failure what systemd knows of its reason."""
        name = event.detail["unit"]
        if event.type != "systemd.unit.failed" or not isinstance(name, str) or not name.endswith(".service"):
            return event
        try:
            body = connection.call(_PREFIX + object_name(name), _PROPERTIES, "GetAll", _SERVICE)
        except DBusError:
            return event
        properties: dict[str, Any] = body[0]
        detail = dict(event.detail) | {word: properties[key] for key, word in _RESULT.items() if key in properties}
        reason = properties.get("Result")
        message = f"{event.message}: {reason}, status {properties.get('ExecMainStatus')}" if reason else event.message
        return Event(event.type, message, event.severity, detail=detail)


def _event(word: str, name: str, message: str, state: str, severity: Severity = Severity.NOTICE) -> Event:
    detail: dict[str, FieldValue] = {"unit": name}
    if state:
        detail["active_state"] = state
    return Event(f"systemd.unit.{word}", message, severity, detail=detail)


def unit_name(path: str) -> str:
    """Give the unit that an object path names: `.../unit/ssh_2eservice` is `ssh.service`."""
    raw = path.removeprefix(_PREFIX).encode()
    return re.sub(rb"_([0-9a-f]{2})", lambda match: bytes((int(match[1], 16),)), raw).decode("utf-8", "replace")


def object_name(unit: str) -> str:
    """Give the last part of a unit's object path: everything but letters and digits is escaped, a first digit too."""
    escaped = []
    for at, byte in enumerate(unit.encode()):
        char = chr(byte)
        plain = char.isascii() and char.isalnum() and not (at == 0 and char.isdigit())
        escaped.append(char if plain else f"_{byte:02x}")
    return "".join(escaped)

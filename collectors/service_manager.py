"""What systemd says of its units, over D-Bus; no process is started for it.

Source: org.freedesktop.systemd1(5); sd_booted(3).
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from collectors._dbus import CallError, Connection, DBusError, Message
from collectors._names import NameFilter
from collectors.service_units import UnitStates
from schemas.rows import Event

_MANAGER: Final = "org.freedesktop.systemd1.Manager"
_OBJECT: Final = "/org/freedesktop/systemd1"
_UNIT: Final = "org.freedesktop.systemd1.Unit"
_SERVICE: Final = "org.freedesktop.systemd1.Service"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_PREFIX: Final = _OBJECT + "/unit/"
_RESULT: Final = {
    "Result": "result",
    "ExecMainCode": "exit_code",
    "ExecMainStatus": "exit_status",
    "NRestarts": "restarts",
}


class Manager:
    """Keeps a connection to systemd. `poll` belongs to one thread at a time; `states` may be read beside it."""

    def __init__(self, root: Path, wanted: NameFilter, clock: Callable[[], float]) -> None:
        self._root = root
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self.states = UnitStates(wanted, clock)

    @property
    def present(self) -> bool:
        """Whether systemd runs this machine."""
        return (self._root / "run/systemd/system").is_dir()

    @property
    def fileno(self) -> int | None:
        """What to wait on for the next change; None while there is no connection."""
        return None if self._connection is None else self._connection.fileno()

    def poll(self) -> list[Event]:
        """Give what changed since the last call, connecting first where need be. Raises DBusError."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                    return self._list(self._connection)
                return [*self._take(self._connection), *self.states.due()]
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
        units = [(str(row[0]), str(row[3]), str(row[4])) for row in body[0]]
        events = list(self.states.listed(units))
        for name in self.states.services():
            events += self._counted(connection, name)
        return [self._explained(connection, event) for event in events]

    def _counted(self, connection: Connection, name: str) -> Iterable[Event]:
        """Ask which run of a service this is, and how often systemd has started it by itself.

        A service that went meanwhile, or a systemd that is too old, says nothing.
        """
        path = _PREFIX + object_name(name)
        try:
            (run,) = connection.call(path, _PROPERTIES, "Get", _UNIT, "InvocationID")
            self.states.runs(name, bytes(run).hex())
            (count,) = connection.call(path, _PROPERTIES, "Get", _SERVICE, "NRestarts")
        except (CallError, TypeError, ValueError):
            return ()
        return self.states.restarts(name, int(count))

    def _take(self, connection: Connection) -> list[Event]:
        """Take the signals that have come. What a unit passed through meanwhile is of no account.

        One that crashes is `failed` and then `auto-restart` in one go, one that is started `inactive` and `active`.
        """
        events: list[Event] = []
        now: dict[str, tuple[str, str, str]] = {}
        for signal in connection.signals():
            if signal.interface == _PROPERTIES and len(signal.body) > 1:
                interface, properties, name = signal.body[0], signal.body[1], unit_name(signal.path)
                if interface == _UNIT and properties.get("ActiveState"):
                    run = bytes(properties.get("InvocationID") or ()).hex()
                    now[name] = (str(properties["ActiveState"]), str(properties.get("SubState", "")), run)
                elif interface == _SERVICE and isinstance(properties.get("NRestarts"), int):
                    events += self.states.restarts(name, properties["NRestarts"])
            elif signal.interface == _MANAGER:
                events += self._managed(connection, signal, now)
        for name, said in now.items():
            events += self.states.changed(name, *said)
        return [self._explained(connection, event) for event in events]

    def _managed(
        self, connection: Connection, signal: Message, now: dict[str, tuple[str, str, str]]
    ) -> Iterator[Event]:
        if signal.member == "UnitRemoved":
            name = str(signal.body[0])
            if name in now:
                yield from self.states.changed(name, *now.pop(name))
            yield from self.states.removed(name)
        elif signal.member == "Reloading" and signal.body == [False]:
            now.clear()  # the list is newer
            yield from self._list(connection)

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

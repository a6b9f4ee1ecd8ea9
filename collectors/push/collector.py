"""Programs of this node push metrics, events and devices over a unix socket, each under its own name.

Lines, not HTTP: `echo 'my_app depth=5i' | socat - UNIX:/run/muster/push.sock` needs no library in any language, and
what is not there cannot be attacked. Which lines there are, and what is answered: `collectors.push.connection`. A row
is filed under its pusher, as a device of this node: no line says otherwise. What that is worth: `collectors.push.peer`.
"""

import contextlib
import grp
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from collectors import private_socket
from collectors.contract import Context, DurableEmit, Objection
from collectors.isolation import RECEIVERS
from collectors.push import counts, devices
from collectors.push.counts import Pushers
from collectors.push.devices import Devices
from collectors.push.names import Names, taken_by
from collectors.push.server import Server
from collectors.push.tables import Budget, Tables
from collectors.registry import OWN_DISTRIBUTION, discover, load
from schemas.device import Document
from schemas.errors import NoDataError, StartupError
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Item, Reading
from schemas.verbosity import level_of

_LONGEST_PATH: Final = 103
"""sockaddr_un holds 108 bytes with the final NUL; the socket is made as `<name>.new` first."""
_BACKLOG: Final = 64
_STOP_SECONDS: Final = 3.0


class PushConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may push, where, and how much. Raises ValueError on a path or level that cannot be one."""

    path: str = ""
    """The socket to make; empty: `push.sock` in the data folder, which is for the agent's own user. For others write a
    path such as `/run/muster/push.sock`."""
    mode: Annotated[int, Meta(ge=0, le=0o777)] = 0o660
    """Who may push: the access mode of the socket. 0o660 is the agent's own user and `group`, 0o666 is everybody."""
    group: str = ""
    """The group of the socket, a name or a number; empty: that of the agent."""
    levels: dict[str, str] = {}
    """The verbosity level of measurements, by pattern: `{ "my_app_*" = "detailed" }`; what fits none is `standard`."""
    max_rows_per_second: Annotated[float, Meta(ge=0.1, le=100_000)] = 1000.0
    """Rows that one pusher may hand in, ten seconds' worth at once; more is left out, counted, and told."""
    max_events_per_second: Annotated[float, Meta(ge=0.1, le=10_000)] = 10.0
    """Events and devices that one pusher may hand in, counted likewise: they are large, and kept before all rows."""
    max_series: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Series (a measurement with its tags) that one pusher may use within an hour."""
    max_line_bytes: Annotated[int, Meta(ge=256, le=256 << 10)] = 64 << 10
    """The longest line."""
    max_connections: Annotated[int, Meta(ge=2, le=1000)] = 64
    """Connections at a time, half of them of one user at most."""

    def __post_init__(self) -> None:
        if self.path and (not self.path.startswith("/") or len(self.path.encode()) > _LONGEST_PATH):
            raise ValueError(f"path: {self.path!r} is not an absolute path of at most {_LONGEST_PATH} bytes")
        for word in self.levels.values():
            level_of(word)


class PushCollector:
    """Takes what programs of this node push; a line that cannot be taken is answered, counted, and harms no other."""

    name: ClassVar[str] = "push"
    isolation: ClassVar[str] = RECEIVERS
    undeclared: ClassVar[bool] = True
    METRICS: ClassVar[tuple[MetricSpec, ...]] = counts.METRICS
    EVENTS: ClassVar[tuple[EventSpec, ...]] = (*counts.EVENTS, *devices.EVENTS)
    Config: ClassVar[type[PushConfig]] = PushConfig

    def __init__(self, config: PushConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._levels = {pattern: level_of(word) for pattern, word in config.levels.items()}
        rates = (config.max_rows_per_second, config.max_events_per_second)
        self._pushers = Pushers(lambda: Budget(*rates, config.max_series, time.monotonic))
        self._devices: Devices | None = None
        self._listener: socket.socket | None = None
        self._halt = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def check_options(self, *, attempt: bool) -> Iterator[Objection]:  # noqa: ARG002  # nothing here needs to be tried
        """Give what cannot work of path and group."""
        path = Path(self._config.path)
        if self._config.path and not path.parent.is_dir():
            yield Objection("path", f"{path}: there is no folder {path.parent}: make it, or choose another path")
        elif self._config.path and (path.is_file() or path.is_dir()):
            yield Objection("path", f"{path}: there is a file there that is no socket: choose another path")
        try:
            _group(self._config.group)
        except StartupError as error:
            yield Objection("group", str(error))

    def start(self) -> None:
        """Make the socket. Raises StartupError when that cannot be, NoDataError when there is no place for one."""
        self.stop()
        folder = self._context.state_dir
        if folder is None or not self._config.path:
            raise NoDataError("nobody can push here: there is no data folder for the socket")
        self._devices = Devices(folder / "devices.json", time.time_ns, self._context.log)
        self._devices.load()
        group = _group(self._config.group)
        path, mode = Path(self._config.path), self._config.mode
        if len(self._config.path.encode()) > _LONGEST_PATH:
            raise StartupError(f"{path}: a socket's path has {_LONGEST_PATH} bytes at most: set [collectors.push] path")
        try:
            self._listener = private_socket.listen(path, mode=mode, group=group, backlog=_BACKLOG)
        except OSError as error:
            raise StartupError(f"cannot make the socket {path}: {error.strerror or error}") from None

    def watch(self, emit: DurableEmit, stopping: threading.Event) -> None:
        """Serve pushers until told to stop."""
        listener, known = self._listener, self._devices
        if listener is None or known is None:
            raise StartupError("it was not started")
        names = Names(_taken_by_others())
        tables = Tables(names, known, self._levels, clock=time.monotonic, wall_ns=time.time_ns)
        server = Server(
            listener,
            tables,
            self._pushers,
            known,
            names,
            root=self._context.root,
            max_connections=self._config.max_connections,
            max_line_bytes=self._config.max_line_bytes,
        )

        def hand_on(items: list[Item], durable: bool) -> None:
            if durable:
                emit(items, durable=True)
            else:
                emit(items)

        self._halt.clear()
        self._idle.clear()
        try:
            while not (stopping.is_set() or self._halt.is_set()):
                server.turn(hand_on)
            server.finish(hand_on)
        finally:
            server.close()
            self._idle.set()

    def collect(self) -> Iterator[Reading]:
        """Give the counts of every pusher."""
        known = self._devices
        if known is not None:
            yield from self._pushers.readings(known.count)

    def describe(self) -> Iterable[Document]:
        """Give the devices that pushers described."""
        return [] if self._devices is None else self._devices.documents()

    def stop(self) -> None:
        """Listen no more; a `watch` that still runs first hands on what it has taken."""
        self._halt.set()
        self._idle.wait(_STOP_SECONDS)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            with contextlib.suppress(OSError):
                Path(self._config.path).unlink()


def _group(name: str) -> int:
    """Give a group's number; -1 for our own. Raises StartupError."""
    if not name:
        return -1
    if name.isdecimal() and name.isascii():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise StartupError(f"there is no group {name!r} on this machine: make it, or set another") from None


def _taken_by_others() -> set[str]:
    """Give the names that collectors of other distributions take; one that cannot be loaded takes none."""
    taken: set[str] = set()
    for name, entry in discover().items():
        if entry.distribution == OWN_DISTRIBUTION:
            continue
        with contextlib.suppress(Exception):  # its own collector's trouble, told there
            collector = load(name)
            taken |= taken_by(collector.METRICS, (spec.type for spec in getattr(collector, "EVENTS", ())))
    return taken

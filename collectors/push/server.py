"""The socket and its connections: one thread waits, reads, hands on, and answers.

A pusher that is faster than the node takes waits: its socket fills. So does one whose lines are not taken, when they
are very many: to refuse them costs a thread that all pushers and the other receivers share. One that does not read its
answers loses them.
"""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from collectors.push.connection import READ, SYNC, Connection
from collectors.push.counts import Pushers
from collectors.push.devices import Devices
from collectors.push.names import Names
from collectors.push.objects import DeviceWords, EventWords, parse_object
from collectors.push.peer import Peer, peer_of
from collectors.push.refusal import RefusedError
from collectors.push.tables import Tables
from schemas.rows import Event, Item, Severity, Tally
from schemas.verbosity import Level, RowClass

GATHER_SECONDS: Final = 0.5
"""So long rows gather before they are handed on, which is what costs; not where somebody waits for the disk."""
ANSWER_SECONDS: Final = 0.1
"""So long they gather where a pusher has written all and waits for its answer."""
_WAIT_SECONDS: Final = 0.5
_MOST_ROWS: Final = 4000
"""Of one delivery; what is read at once of one connection may be so much more than that as fits into 64 KiB."""
_IDLE_SECONDS: Final = 60.0
"""When there are too many connections, one that was silent for so long makes room."""
_PER_USER: Final = 2
"""One user has no more than one of so many of all connections."""
_LINGER_SECONDS: Final = 5.0
"""So long the last answers may take to be read."""

Emit = Callable[[list[Item], bool], None]
"""Takes items, and whether to come back only when they are on disk."""


class Server:
    """Serves until it is told to stop. Everything belongs to one thread but `connections`."""

    def __init__(
        self,
        listener: socket.socket,
        tables: Tables,
        pushers: Pushers,
        devices: Devices,
        names: Names,
        *,
        root: Path,
        max_connections: int,
        max_line_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._tables = tables
        self._pushers = pushers
        self._devices = devices
        self._names = names
        self._root = root
        self._max_connections = max_connections
        self._max_line_bytes = max_line_bytes
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Connection, Peer] = {}
        self._leaving: dict[Connection, float] = {}
        """Those that have had their last answer, and until when it may be read."""
        self._paused: set[Connection] = set()
        """Those that are not read now: too many lines of their pushers were not taken."""
        self._events: list[Item] = []
        self._limited: dict[tuple[RowClass, Level], int] = {}
        self._emit_at = 0.0
        self._tick_at = 0.0
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def turn(self, emit: Emit, wait: float = _WAIT_SECONDS) -> None:
        """Wait for something, take it, and hand on what is due. Raises what `emit` raises."""
        now = self._clock()
        for connection in [one for one in self._paused if one.pusher.budget.patience.ready()]:
            self._paused.discard(connection)
            self._await(connection)
        if self._gathered:
            wait = max(0.0, min(wait, self._emit_at - now))
        gathered = self._gathered
        for key, _ in self._selector.select(wait):
            if self._tables.rows + len(self._events) >= _MOST_ROWS:
                break  # what is left is told again
            key.data()
        now = self._clock()
        if self._gathered:
            latest = now + (ANSWER_SECONDS if self._ended else GATHER_SECONDS)
            self._emit_at = min(self._emit_at, latest) if gathered else latest
        if now >= self._tick_at:
            self._tick_at = now + 1.0
            self._events += self._devices.expire()
            self._events += self._pushers.due(now)
        many = self._tables.rows + len(self._events) >= _MOST_ROWS
        if self._hurried or (self._gathered and (many or now >= self._emit_at)):
            self.hand_on(emit)
        for connection in [one for one, until in self._leaving.items() if now >= until]:
            self._close(connection)

    def hand_on(self, emit: Emit) -> None:
        """Hand on what has gathered, and then answer those who wait for it."""
        saved = self._devices.save()
        waiting = [one for one in self._connections if one.syncs and saved]
        items: list[Item] = [*self._tables.take(), *self._events, *self._tallies()]
        self._events = []
        if items or waiting:
            emit(items, bool(waiting))
        for connection in waiting:
            connection.synced()
        for connection in list(self._connections):
            if connection.ended and connection not in self._leaving:
                connection.close_with_answer()
                self._leaving[connection] = self._clock() + _LINGER_SECONDS
            self._write(connection)

    def finish(self, emit: Emit) -> None:
        """Take no more connections; hand on what was taken, and tell what was not told."""
        self._events += self._pushers.due(self._clock(), final=True)
        self.hand_on(emit)

    def close(self) -> None:
        """Close every connection; the listener is its owner's. Safe twice."""
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()

    @property
    def _gathered(self) -> bool:
        return bool(self._tables.rows or self._events or self._limited or self._ended)

    @property
    def _ended(self) -> bool:
        return any(one.ended for one in self._connections if one not in self._leaving)

    @property
    def _hurried(self) -> bool:
        return any(one.syncs for one in self._connections)

    def _tallies(self) -> list[Item]:
        tallies: list[Item] = [Tally(*key, filtered=count) for key, count in self._limited.items()]
        self._limited.clear()
        return tallies

    # --- connections -------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it went again, or there are no descriptors left
            return
        sock.setblocking(False)
        try:
            peer = peer_of(sock, self._root)
        except OSError:
            sock.close()
            return
        if reason := self._no_room(peer):
            with contextlib.suppress(OSError):
                sock.send(f"error 0:0 connections: {reason}\n".encode())
                sock.shutdown(socket.SHUT_RD)
                while sock.recv(READ):  # what is left unread would reset it, and the reason would not be read
                    pass
            sock.close()
            return
        pusher = self._pushers.of(peer.name, peer.user)
        pusher.connections += 1
        connection = Connection(sock, pusher, self._max_line_bytes, self._clock())
        self._connections[connection] = peer
        self._await(connection)

    def _no_room(self, peer: Peer) -> str:
        """Make room where there is none; say why there is none left, or ""."""
        mine = [one for one, other in self._connections.items() if other.uid == peer.uid]
        of_user = max(1, self._max_connections // _PER_USER)
        for among, most in ((mine, of_user), (list(self._connections), self._max_connections)):
            if len(among) < most:
                continue
            silent = min(among, key=lambda one: one.used_at)
            if self._clock() - silent.used_at < _IDLE_SECONDS:
                return f"{most} are open already, and all of them in use: keep one open instead of many"
            self._close(silent)
        return ""

    def _read(self, connection: Connection) -> None:
        try:
            lines = connection.read()
        except OSError:
            self._close(connection)
            return
        connection.used_at = self._clock()
        for number, text in lines:
            if text and not text.startswith("#"):
                try:
                    self._take(connection, text.rstrip("\r"))
                except RefusedError as error:
                    connection.refuse(error, number)
        if not (connection.ended or connection.pusher.budget.patience.ready()):
            self._paused.add(connection)
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        try:
            connection.write()
        except OSError:
            self._close(connection)
            return
        if connection in self._leaving and not connection.unsent:
            self._close(connection)
        else:
            self._await(connection)

    def _await(self, connection: Connection) -> None:
        """Wait for what can come next: more lines, or room for answers, or neither."""
        deaf = connection.ended or connection in self._paused
        events = (0 if deaf else selectors.EVENT_READ) | (selectors.EVENT_WRITE if connection.unsent else 0)
        sock = connection.sock
        known = sock in self._selector.get_map()
        if known and events:
            self._selector.modify(sock, events, partial(self._ready, connection))
        elif known:
            self._selector.unregister(sock)
        elif events:
            self._selector.register(sock, events, partial(self._ready, connection))

    def _ready(self, connection: Connection) -> None:
        """Do both: which of the two it was does not matter."""
        if connection not in self._connections:
            return  # closed to make room, in this very turn
        if connection.ended or connection in self._paused:
            self._write(connection)
        else:
            self._read(connection)

    def _close(self, connection: Connection) -> None:
        if self._connections.pop(connection, None) is None:
            return
        self._leaving.pop(connection, None)
        self._paused.discard(connection)
        connection.pusher.connections -= 1
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.sock)
        connection.sock.close()

    # --- lines -------------------------------------------------------------------------------------------------------

    def _take(self, connection: Connection, text: str) -> None:
        """Take one line. Raises RefusedError."""
        pusher = connection.pusher
        if text.startswith("{"):
            self._object(connection, text)
        elif text == SYNC:
            connection.sync()
        elif text.strip(" "):
            level = self._tables.add(pusher.name, pusher.budget, text)
            if level is None:
                pusher.rows += 1
                connection.took()
            else:
                self._limit(connection, RowClass.TELEMETRY, level)

    def _limit(self, connection: Connection, row_class: RowClass, level: Level) -> None:
        connection.limited()
        key = (row_class, level)
        self._limited[key] = self._limited.get(key, 0) + 1

    def _object(self, connection: Connection, text: str) -> None:
        said = parse_object(text)
        pusher = connection.pusher
        event = self._event(pusher.name, pusher.user, said) if isinstance(said, EventWords) else None
        if not pusher.budget.events.take():
            self._limit(connection, RowClass.EVENT, Level.ESSENTIAL)
            return
        if isinstance(said, DeviceWords):
            event = self._devices.describe(pusher.name, pusher.user, said)
        elif isinstance(said, str):
            event = self._devices.withdraw(pusher.name, said)
        else:
            pusher.events += 1
        self._events += [] if event is None else [event]
        connection.took()

    def _event(self, pusher: str, user: str, said: EventWords) -> Event:
        self._names.event(said.type)
        device = self._devices.id_of(pusher, said.device) if said.device else pusher
        detail = {**said.detail, "user": user}
        severity = Severity[said.severity.upper()]
        return Event(said.type, said.message, severity, device, detail, said.time_ns)

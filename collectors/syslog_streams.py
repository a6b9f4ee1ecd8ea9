"""Logs by streams: TCP, and unix stream sockets; many connections, of which none can hurt the others."""

import errno
import socket
import time
from typing import ClassVar, Final

from collectors.syslog_config import SyslogConfig
from collectors.syslog_framing import Framer
from collectors.syslog_listener import ALWAYS, Counts, Poller
from collectors.syslog_parser import Parser
from collectors.syslog_refusals import Refusals
from collectors.syslog_rows import Rows
from collectors.syslog_sockets import file_identity, keep_alive, remove_own

READ: Final = 1 << 15
"""Of the shortest lines, a read brings 16,384 rows: fewer than the host takes as one unit (20,000)."""
_ACCEPTS = 64
_ACCEPT_PAUSE = 1.0
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
TOLD: Final = (
    *ALWAYS,
    "truncated_total",
    "connections",
    "accepted_total",
    "refused_total",
    "idle_closed_total",
    "framing_errors_total",
)
"""The counts that every stream has."""


class Connection:
    """One sender on a stream."""

    name: str | None = None
    """Who sends, where that was proved."""

    def __init__(self, sock: socket.socket, framer: Framer, listener: "StreamListener") -> None:
        self.sock = sock
        self.framer = framer
        self.last = time.monotonic()
        self._listener = listener

    def read(self, rows: Rows) -> None:
        """Take one read's worth, so that no sender keeps the others waiting."""
        try:
            data = self.sock.recv(READ)
        except BlockingIOError:
            return
        except OSError:  # reset by the peer, or given up by keepalive
            self._listener.drop(self, rows, orderly=False)
            return
        if not data:
            self._listener.drop(self, rows, orderly=True)
            return
        self.last = time.monotonic()
        self._listener.take(self, self.framer.feed(data), rows, len(data))
        if self.framer.broken:
            self._listener.counts.framing_errors_total += 1
            self._listener.drop(self, rows, orderly=False)

    def farewell(self) -> None:
        """Say what is to be said before the connection is closed: on plain text, nothing."""


class StreamListener:
    """A TCP or unix stream socket and its connections."""

    _told: ClassVar[tuple[str, ...]] = TOLD

    def __init__(self, sock: socket.socket, name: str, parser: Parser, config: SyslogConfig, counts: Counts) -> None:
        """Take a listening socket, and the listener's name: `tcp:127.0.0.1:5514`, `unix_stream:/run/log.sock`."""
        self.counts = counts
        self.name = name
        self.hurried = False
        counts.connections = 0
        self._sock = sock
        self._parser = parser
        self._config = config
        self._connections: set[Connection] = set()
        self._poller: Poller | None = None
        self._resume_at = 0.0
        self._refusals = Refusals()
        self._unix = sock.family == socket.AF_UNIX
        self._source = "unix" if self._unix else name.partition(":")[0]
        self._path = sock.getsockname() if self._unix else ""
        self._identity = file_identity(self._path) if self._path else None

    def attach(self, poller: Poller) -> None:
        """Ask to be called for connections."""
        self._poller = poller
        poller.add(self._sock.fileno(), self.accept)

    def accept(self, rows: Rows) -> None:
        """Take the connections that wait; those above the limit are closed at once."""
        assert self._poller is not None  # only an attached listener is called
        for _ in range(_ACCEPTS):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._poller.remove(self._sock.fileno())  # else it would be called again and again
                self._resume_at = time.monotonic() + _ACCEPT_PAUSE
                return
            sock.setblocking(False)
            if not self._unix:
                keep_alive(sock)
            self._welcome(sock, "a local program" if self._unix else str(peer[0]), rows)

    def _welcome(self, sock: socket.socket, peer: str, rows: Rows) -> None:
        """Read a new connection, unless there are too many."""
        if self._crowded(peer, rows):
            sock.close()
            return
        connection = Connection(sock, self._framer(), self)
        self._keep(connection)
        self._register(connection)

    def _crowded(self, peer: str, rows: Rows) -> bool:
        """Tell whether there is no room for one more sender, and count the one that is turned away."""
        limit = self._config.max_connections
        if len(self._connections) < limit:
            return False
        self.counts.refused_total += 1
        self._refuse(peer, f"there are {limit} connections already, as many as max_connections allows", rows)
        return True

    def _refuse(self, peer: str, reason: str, rows: Rows) -> None:
        event = self._refusals.tell(self.name, peer, reason, time.monotonic())
        if event is not None:
            rows.add(event)

    def _framer(self) -> Framer:
        return Framer(self._config.max_message_bytes, self._config.framing, b"\n\0" if self._unix else b"\n")

    def _keep(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.counts.accepted_total += 1
        self.counts.connections = len(self._connections)

    def _register(self, connection: Connection) -> None:
        assert self._poller is not None  # only an attached listener accepts
        self._poller.add(connection.sock.fileno(), connection.read)

    def take(self, connection: Connection, messages: list[bytes], rows: Rows, size: int) -> None:
        """Make rows of messages that came as `size` bytes."""
        counts, framer, first = self.counts, connection.framer, rows.number
        rows.bytes += size
        counts.received_bytes_total += size
        counts.truncated_total += framer.truncated
        framer.truncated = 0
        counts.messages_total += self._parser.parse(messages, self._source, rows, counts)
        if connection.name is not None:
            rows.note("peer", connection.name, first)

    def drop(self, connection: Connection, rows: Rows, *, orderly: bool) -> None:
        """Close a connection, after taking what it left."""
        self._end(connection)
        self._connections.discard(connection)
        self.counts.connections = len(self._connections)
        self.take(connection, connection.framer.close(orderly=orderly), rows, 0)

    def _end(self, connection: Connection) -> None:
        if self._poller is not None:
            self._poller.remove(connection.sock.fileno())
        connection.farewell()
        connection.sock.close()

    def tick(self, now: float, rows: Rows) -> None:
        """Close idle connections; accept again after the process ran out of descriptors."""
        if self._resume_at and now >= self._resume_at and self._poller is not None:
            self._resume_at = 0.0
            self._poller.add(self._sock.fileno(), self.accept)
        timeout = self._config.idle_timeout_seconds
        if not timeout:
            return
        for connection in [each for each in self._connections if now - each.last >= timeout]:
            self.counts.idle_closed_total += 1
            self.drop(connection, rows, orderly=False)

    def finish(self, rows: Rows) -> None:
        """Close every connection, with what was read of incomplete messages as truncated ones."""
        for connection in list(self._connections):
            self.drop(connection, rows, orderly=False)

    def tell(self) -> dict[str, int]:
        """Give the counts of the listener and of all its connections."""
        return {name: getattr(self.counts, name) for name in self._told}

    def close(self) -> None:
        """Close everything and remove the socket file."""
        for connection in self._connections:
            connection.sock.close()
        self._connections.clear()
        self.counts.connections = 0
        self._sock.close()
        remove_own(self._path, self._identity)

"""Logs by TLS: syslog streams whose senders are known by their certificates.

The handshake is one more state of a connection in the one loop, so that a sender that stalls in it waits alone.

Source: RFC 5425, RFC 9662.
"""

import contextlib
import socket
import ssl
import time
from typing import ClassVar, Final

from collectors.syslog_certificates import Certificates, PeerRefusedError, reason_of
from collectors.syslog_config import SyslogConfig
from collectors.syslog_framing import Framer
from collectors.syslog_listener import Counts
from collectors.syslog_parser import Parser
from collectors.syslog_refusals import BAD_CERTIFICATES, RELOADED
from collectors.syslog_rows import Rows
from collectors.syslog_streams import READ, TOLD, Connection, StreamListener
from schemas.errors import StartupError
from schemas.rows import Event, Severity

_LOOK: Final = 5.0
"""How often the files of certificates are looked at, in seconds."""
_UNSENT: Final = 64 << 10
"""A peer that makes this side answer more than it reads is given up; a handshake's answer is a few KB."""


class TlsConnection(Connection):
    """One sender on TLS. `read` is called when there is something to read, or room for what waits to be written."""

    def __init__(self, sock: socket.socket, peer: str, framer: Framer, listener: "TlsListener") -> None:
        super().__init__(sock, framer, listener)
        self.peer = peer
        """Its address."""
        self.greeting = True
        """The handshake is not done."""
        self._owner = listener
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = listener.certificates.context.wrap_bio(self._in, self._out, server_side=True)
        self._silent = True
        self._unsent = b""

    def read(self, rows: Rows) -> None:
        """Take one read's worth, so that no sender keeps the others waiting."""
        try:
            data = self.sock.recv(READ)
        except BlockingIOError:
            self._flush(rows)  # called because there is room to write
            return
        except OSError as error:  # reset by the peer, or given up by keepalive
            self._fail(error, rows)
            return
        if data:
            self._silent = False
            self._in.write(data)
        elif self._silent:
            self._owner.turn_away(self, "", rows)
            return
        else:
            self._in.write_eof()
        try:
            if not self.greeting or self._greet(rows):
                self._take(rows, len(data), ended=not data)
        except (ssl.SSLError, PeerRefusedError) as error:
            self._fail(error, rows)

    def farewell(self) -> None:
        """Tell the peer that nothing more is read, as far as the socket takes it at once."""
        with contextlib.suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()
        self._unsent += self._out.read()
        with contextlib.suppress(OSError):
            self.sock.send(self._unsent)
            self.sock.shutdown(socket.SHUT_WR)

    def _greet(self, rows: Rows) -> bool:
        """Go on with the handshake; tell whether it is done. Raises SSLError, PeerRefusedError."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush(rows)
            return False
        self.name = self._owner.certificates.admit(self._tls)
        return self._owner.greeted(self, rows) and self._flush(rows)

    def _take(self, rows: Rows, size: int, *, ended: bool) -> None:
        """Make rows of what can be read of `size` bytes that came. Raises SSLError when they are not sound."""
        texts: list[bytes] = []
        closed = False
        error: ssl.SSLError | None = None
        try:
            while not closed:
                text = self._tls.read(READ)
                texts.append(text)
                closed = not text
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            closed = True
        except ssl.SSLError as found:  # what was read before it is sound
            error = found
        self.last = time.monotonic()
        self._owner.take(self, self.framer.feed(b"".join(texts)), rows, size)
        if self.framer.broken:
            self._owner.counts.framing_errors_total += 1
            self._owner.drop(self, rows, orderly=False)
        elif error is not None and not ended:
            raise error
        elif closed or ended:  # without the peer's word that this is the end, what is left may have been cut off
            self._owner.drop(self, rows, orderly=closed)
        else:
            self._flush(rows)

    def _flush(self, rows: Rows) -> bool:
        """Send what waits to be sent, or ask to be called when that can be done; False when the connection is gone."""
        waiting = bool(self._unsent)
        self._unsent += self._out.read()
        if self._unsent:
            try:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            except BlockingIOError:
                pass
            except OSError as error:
                self._fail(error, rows)
                return False
        if len(self._unsent) > _UNSENT:
            self._fail(ConnectionError("it reads no answers"), rows)
            return False
        if waiting != bool(self._unsent):
            self._owner.wait_to_write(self, wanted=bool(self._unsent))
        return True

    def _fail(self, error: Exception, rows: Rows) -> None:
        if self.greeting:
            self._owner.turn_away(self, reason_of(error), rows)
        else:
            self._owner.fail(self, error, rows)


class TlsListener(StreamListener):
    """A TCP socket on which senders speak TLS."""

    _told: ClassVar[tuple[str, ...]] = (*TOLD, "tls_failures_total")

    def __init__(self, sock: socket.socket, name: str, parser: Parser, config: SyslogConfig, counts: Counts) -> None:
        """Take a listening socket. Raises StartupError when the certificates cannot be used; the socket is closed."""
        try:
            self.certificates = Certificates(config)
        except StartupError:
            sock.close()
            raise
        super().__init__(sock, name, parser, config, counts)
        self._greeting: dict[TlsConnection, float] = {}
        """Those in the handshake, the oldest first, and until when each may take."""
        self._look_at = 0.0

    def _welcome(self, sock: socket.socket, peer: str, rows: Rows) -> None:
        """Begin a handshake. When too many are in one, the oldest is closed: a flood of them keeps nobody out."""
        if len(self._greeting) >= self._config.max_connections:
            self.turn_away(next(iter(self._greeting)), "it was slow in the handshake, and others wait", rows)
        connection = TlsConnection(sock, peer, self._framer(), self)
        self._greeting[connection] = time.monotonic() + self._config.tls_handshake_seconds
        self._register(connection)

    def greeted(self, connection: TlsConnection, rows: Rows) -> bool:
        """Keep a connection whose handshake is done; False when there are too many."""
        del self._greeting[connection]
        connection.greeting = False
        if self._crowded(connection.peer, rows):
            self._end(connection)
            return False
        self._keep(connection)
        return True

    def turn_away(self, connection: TlsConnection, reason: str, rows: Rows) -> None:
        """Close a connection whose handshake failed, and tell why, if there is a `reason`.

        One that comes and goes without a word has none: that is how load balancers ask whether a port is open.
        """
        if self._greeting.pop(connection, None) is None:
            return
        self.counts.tls_failures_total += 1
        if reason:
            self._refuse(connection.peer, reason, rows)
        self._end(connection)

    def fail(self, connection: TlsConnection, error: Exception, rows: Rows) -> None:
        """Close a connection that failed after its handshake; bytes that are not sound are a failure of TLS."""
        if isinstance(error, ssl.SSLError):
            self.counts.tls_failures_total += 1
            self._refuse(connection.peer, f"TLS failed: {reason_of(error)}", rows)
        self.drop(connection, rows, orderly=False)

    def wait_to_write(self, connection: TlsConnection, *, wanted: bool) -> None:
        """Have a connection called as well, or no more, when there is room to write."""
        if self._poller is not None:
            self._poller.writable(connection.sock.fileno(), wanted=wanted)

    def tick(self, now: float, rows: Rows) -> None:
        """Close what stalls in the handshake or is idle; look for new certificates."""
        super().tick(now, rows)
        for connection in [one for one, until in self._greeting.items() if now >= until]:
            seconds = self._config.tls_handshake_seconds
            self.turn_away(connection, f"its handshake took more than {seconds:g} s", rows)
        if now >= self._look_at:
            self._look_at = now + _LOOK
            self._refresh(rows)

    def _refresh(self, rows: Rows) -> None:
        detail = {"listener": self.name}
        try:
            if self.certificates.refresh():
                rows.add(Event(type=RELOADED.type, message=f"{self.name} uses its new certificates", detail=detail))
        except StartupError as error:
            message = f"{self.name} stays with its old certificates: {error}"
            detail["reason"] = str(error)
            rows.add(Event(type=BAD_CERTIFICATES.type, message=message, severity=Severity.ERROR, detail=detail))

    def finish(self, rows: Rows) -> None:
        """Close every connection, with what was read of incomplete messages as truncated ones."""
        for connection in self._greeting:
            self._end(connection)
        self._greeting.clear()
        super().finish(rows)

    def close(self) -> None:
        """Close everything."""
        for connection in self._greeting:
            connection.sock.close()
        self._greeting.clear()
        super().close()

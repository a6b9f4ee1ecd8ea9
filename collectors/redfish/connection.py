"""One connection to a BMC: TCP or TLS, with a time by which an answer must be there, however slowly it drips.

Source: RFC 9112 (through `collectors.http_client`); RFC 8446 for what TLS shows of the other side.
"""

import contextlib
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from collectors.http_client import Connection, HttpError, Response
from collectors.redfish.errors import BmcUntrustedError
from collectors.redfish.resolving import Resolver

if TYPE_CHECKING:
    import ssl

_PIECE: Final = 16384
_TLS_CLOSED: Final = ("SSLEOFError", "SSLZeroReturnError")
"""Of `ssl`, which is imported only where TLS is spoken: the other side has closed, with a word or without."""
Connect = Callable[[str, int, float], socket.socket]
"""Host, port and seconds to a connected socket. Raises OSError."""


_RESOLVER: Final = Resolver()


def connect_tcp(host: str, port: int, seconds: float, resolver: Resolver = _RESOLVER) -> socket.socket:
    """Connect within `seconds` to the first of a host's addresses that answers. Raises OSError."""
    end = time.monotonic() + seconds
    addresses = resolver.addresses(host, port, seconds)
    problem: OSError = OSError(f"{host} has no address")
    for at, (family, address) in enumerate(addresses):
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            found.settimeout(max(0.01, (end - time.monotonic()) / (len(addresses) - at)))
            found.connect(address)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            found.close()
            problem = error
        else:
            return found
    raise problem


class TimedSocket:
    """A socket whose reads and writes end at a moment, not each after a while of its own."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float]) -> None:
        self._sock = sock
        self._clock = clock
        self.until = 0.0
        """By the clock; whatever waits then raises TimeoutError."""

    def _wait(self) -> None:
        left = self.until - self._clock()
        if left <= 0:
            raise TimeoutError("no whole answer in time")
        self._sock.settimeout(left)

    def recv(self, size: int) -> bytes:
        """Give some bytes, b"" at the end."""
        self._wait()
        return self._sock.recv(min(size, _PIECE))

    def sendall(self, data: bytes) -> None:
        """Send everything."""
        self._wait()
        self._sock.sendall(data)

    def close(self) -> None:
        """Close; safe twice."""
        self._sock.close()

    @property
    def raw(self) -> socket.socket:
        """The socket itself, for one who waits in another way."""
        return self._sock


class Answer(msgspec.Struct):
    """What a BMC answered."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds that it asks us to wait, an hour at most; None when it does not say so in seconds."""
        text = self.headers.get("retry-after", "").strip()
        return float(min(3600, int(text[:9]))) if text[:9].isascii() and text[:9].isdigit() else None


class Trust:
    """Which certificates are believed: one TLS context for all BMCs that are believed alike; each has some MB."""

    def __init__(self, *, ca_file: str = "") -> None:
        self._ca_file = ca_file
        self._contexts: dict[bool, ssl.SSLContext] = {}

    def context(self, *, checked: bool) -> "ssl.SSLContext":
        """Give a context; `checked`: by authorities, else whoever uses it looks at the fingerprint. Raises OSError."""
        if checked not in self._contexts:
            import ssl

            context = ssl.create_default_context(cafile=self._ca_file or None) if checked else _unchecked()
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._contexts[checked] = context
        return self._contexts[checked]


def _unchecked() -> "ssl.SSLContext":
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Line:
    """The way to one BMC: opened when needed, kept, opened again when the BMC has closed it."""

    def __init__(
        self,
        url: str,
        trust: Trust,
        *,
        mode: str,
        fingerprint: str,
        clock: Callable[[], float],
        connect: Connect = connect_tcp,
        learnt: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: Scheme, host and port.
            trust: Where TLS contexts come from.
            mode: `verify`, `first` or `insecure`.
            fingerprint: The certificate's, 64 digits; "" for none: then `mode` counts.
            clock: Monotonic seconds.
            connect: How a socket is had.
            learnt: Is told the fingerprint that was first shown (`first`).
        """
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        name = f"[{self._host}]" if ":" in self._host else self._host
        self._name = name if self._port in (80, 443) else f"{name}:{self._port}"
        self._trust, self._mode, self._fingerprint, self._learnt = trust, mode, fingerprint, learnt
        self._clock = clock
        self._connect = connect
        self._connection: Connection | None = None
        self._socket: TimedSocket | None = None
        self._raw: socket.socket | None = None
        self._aborted = False

    def ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, seconds: float, limit: int
    ) -> Answer:
        """Ask and give the whole answer. Raises OSError, BmcUntrustedError; the next call opens a new connection.

        A kept connection that the BMC has closed meanwhile is opened again once, for requests that change nothing.
        """
        reused = self._connection is not None
        until = self._clock() + seconds
        try:
            return self._exchange(method, path, body, headers, until, limit)
        except BaseException as error:
            self.close()
            closed = isinstance(error, ConnectionError) or type(error).__name__ in _TLS_CLOSED
            if not (closed and reused and method in ("GET", "DELETE")):
                raise
        try:
            return self._exchange(method, path, body, headers, until, limit)
        except BaseException:
            self.close()
            raise

    def open_stream(self, path: str, headers: Mapping[str, str], *, seconds: float) -> tuple[Response, TimedSocket]:
        """Ask for an answer without end, on a connection of its own. Raises OSError, BmcUntrustedError."""
        kept = self._raw
        connection, timed = self._open(self._clock() + seconds, seconds / 2)
        self._raw = kept
        try:
            return connection.request("GET", path, None, headers), timed
        except BaseException:
            connection.close()
            raise

    def expect(self, fingerprint: str) -> None:
        """Believe this certificate and no other, from the next connection on; "" for none: then `mode` counts."""
        self._fingerprint = fingerprint

    def close(self) -> None:
        """Close the kept connection. Safe twice."""
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            connection.close()

    def abort(self) -> None:
        """Hang up for good, from another thread than the one that asks."""
        self._aborted = True
        sock = self._raw
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], until: float, limit: int
    ) -> Answer:
        if self._connection is None:
            self._connection, self._socket = self._open(until, (until - self._clock()) / 2)
        assert self._socket is not None
        self._socket.until = until
        response = self._connection.request(method, path, body, headers)
        data = response.read(limit)
        answer = Answer(response.status, response.headers, _plain(data, response.headers, limit))
        if not response.keeps_open:
            self.close()
        return answer

    def _open(self, until: float, seconds: float) -> tuple[Connection, TimedSocket]:
        if self._aborted:
            raise ConnectionAbortedError("hung up")
        sock = self._raw = self._connect(self._host, self._port, max(0.1, seconds))
        try:
            if self._tls:
                sock = self._raw = self._secured(sock, until)
        except BaseException:
            sock.close()
            raise
        timed = TimedSocket(sock, self._clock)
        timed.until = until
        return Connection(timed, self._name), timed  # type: ignore[arg-type]  # the three calls that it makes

    def _secured(self, sock: socket.socket, until: float) -> socket.socket:
        checked = not self._fingerprint and self._mode == "verify"
        context = self._trust.context(checked=checked)
        sock.settimeout(max(0.1, until - self._clock()))
        try:
            secured = context.wrap_socket(sock, server_hostname=self._host)
        except OSError as error:
            if type(error).__name__ == "SSLCertVerificationError":
                why = getattr(error, "verify_message", "") or error
                raise BmcUntrustedError(
                    f"no authority vouches for its certificate ({why}): set `ca_file`, its `fingerprint`, or `tls`"
                ) from error
            raise
        shown = _digest(secured.getpeercert(binary_form=True) or b"")
        if self._fingerprint and shown != self._fingerprint:
            secured.close()
            raise BmcUntrustedError(
                f"it shows a certificate with the fingerprint {shown}, not {self._fingerprint}: if it was changed on"
                " purpose, set `fingerprint` to the new one; if not, somebody stands between"
            )
        if not self._fingerprint and self._mode == "first":
            self._fingerprint = shown
            self._learnt(shown)
        return secured


def _digest(certificate: bytes) -> str:
    from hashlib import sha256  # needed with TLS only

    return sha256(certificate).hexdigest()


def _plain(data: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """Undo gzip, which some BMCs send without being asked. Raises HttpError when it is none, or hides too much."""
    if headers.get("content-encoding", "").lower() not in ("gzip", "deflate"):
        return data
    opener = zlib.decompressobj(47)
    try:
        found = opener.decompress(data, limit)
    except zlib.error as error:
        raise HttpError(f"not gzip: {error}") from error
    if opener.unconsumed_tail or not opener.eof:
        raise HttpError(f"an answer of more than {limit} bytes, or cut short")
    return found

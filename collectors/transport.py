"""The agent's HTTP client: one kept-open connection to an aggregator, over TCP, TLS or a unix socket.

Standard library only, and `ssl` only when an address asks for it: a TLS context costs the agent 10 MB.
"""

import random
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from collectors.http_client import Connection, HttpError, Response
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import ssl

MAX_ANSWER_BYTES: Final = 8 << 20
_LOOK_SECONDS: Final = 0.05
_SHARED: Final = random.Random()


class TransportError(Exception):
    """No answer: nothing is known of what the other side did."""


class Answer(msgspec.Struct):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds that the other side asks us to wait; None when it does not say."""
        try:
            return max(0.0, float(self.headers["retry-after"]))
        except (KeyError, ValueError):
            return None

    def problem(self) -> dict[str, object]:
        """The problem details (RFC 9457) of a refusal; a substitute when the body is not one."""
        try:
            details = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            details = None
        if isinstance(details, dict):
            return details
        return {"code": f"http.{self.status}", "detail": self.body[:200].decode("latin-1")}


class Transport:
    """Talks to the first of several addresses that answers, and stays with it. Not safe for several threads at once."""

    def __init__(
        self, addresses: list[str], *, ca_file: Path | None = None, timeout: float = 30.0, patience: float = 0.0
    ) -> None:
        """Connect to nothing yet.

        Args:
            addresses: As `check_address` takes them.
            ca_file: The authority that certificates must come from; None for the system's.
            timeout: Seconds to wait for an answer.
            patience: So many seconds to wait for the socket of an aggregator on this machine that is still starting.
        """
        self._addresses = addresses
        self._patience = patience
        self._timeout = timeout
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._current = 0
        self._connection: Connection | None = None
        for address in addresses:
            check_address(address)

    @property
    def address(self) -> str:
        """The address in use."""
        return self._addresses[self._current]

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask and wait for the answer. Raises TransportError; the next call then tries the next address."""
        for fresh in (False, True):
            reused = self._connection is not None
            try:
                return self._exchange(method, path, body, dict(headers or {}))
            except OSError as error:
                self.close()
                # a kept connection may just have been closed as idle: once more on a new one
                if reused and not fresh and not isinstance(error, (TimeoutError, HttpError)):
                    continue
                failed = self.address
                self._current = (self._current + 1) % len(self._addresses)
                raise TransportError(f"{failed}: {str(error) or type(error).__name__}") from error
        raise AssertionError("unreachable")

    def open_stream(self, method: str, path: str, headers: Mapping[str, str]) -> Response:
        """Ask for an answer without end, on a connection of its own that closes with it. Raises TransportError."""
        connection: Connection | None = None
        try:
            connection = self._connect()
            return connection.request(method, path, None, headers)
        except OSError as error:
            if connection is not None:
                connection.close()
            raise TransportError(f"{self.address}: {str(error) or type(error).__name__}") from error

    def open_socket(self) -> socket.socket:
        """Give a connected socket of its own, for one who waits for many answers at once. Raises TransportError.

        After a failure the next call tries the next address.
        """
        try:
            return self._connect().sock
        except OSError as error:
            failed = self.address
            self._current = (self._current + 1) % len(self._addresses)
            raise TransportError(f"{failed}: {str(error) or type(error).__name__}") from error

    def close(self) -> None:
        """Close the connection; the next request opens one. Safe twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        if self._connection is None:
            self._connection = self._connect()
        response = self._connection.request(method, path, body, headers)
        data = response.read(MAX_ANSWER_BYTES)
        if not response.keeps_open:
            self.close()
        return Answer(response.status, response.headers, data)

    def _connect(self) -> Connection:
        url = urlsplit(self.address)
        if url.scheme == "unix":
            return Connection(self._connect_unix(url.path), "localhost")
        host, port = url.hostname or "", url.port or 8420
        sock = socket.create_connection((host, port), self._timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if url.scheme == "https":
            try:
                sock = self._tls_context().wrap_socket(sock, server_hostname=host)
            except BaseException:
                sock.close()
                raise
        return Connection(sock, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def _connect_unix(self, path: str) -> socket.socket:
        deadline = time.monotonic() + self._patience
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._timeout)
                sock.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOOK_SECONDS)
            except BaseException:
                sock.close()
                raise
            else:
                return sock

    def _tls_context(self) -> "ssl.SSLContext":
        if self._tls is None:
            import ssl

            # with a pinned authority only that one counts: no public one may vouch for an aggregator
            self._tls = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._tls


class Backoff:
    """How long to wait after failures: doubling, with full jitter, so that a fleet does not come back as one."""

    def __init__(self, first: float = 0.5, most: float = 30.0, seed: int | None = None) -> None:
        self._first = first
        self._most = most
        self._random = _SHARED if seed is None else random.Random(seed)  # one of its own has 2.5 KB
        self.failures = 0

    def next(self, asked: float | None = None) -> float:
        """Give the seconds to wait now; at least what the other side asked for."""
        limit = min(self._most, self._first * 2 ** min(self.failures, 16))
        self.failures += 1
        wait = self._random.uniform(limit / 2, limit)
        if asked is None:
            return wait
        return max(wait, min(asked, 300.0) + wait / 10)

    def reset(self) -> None:
        """It worked."""
        self.failures = 0


def check_address(address: str) -> None:
    """Raise ConfigError unless `address` is one that an aggregator can have."""
    url = urlsplit(address)
    try:
        known = (url.scheme in ("http", "https") and url.hostname) or (url.scheme == "unix" and url.path)
        port_ok = url.scheme == "unix" or url.port is None or url.port > 0
    except ValueError:
        known = port_ok = False
    if not (known and port_ok):
        raise ConfigError(
            f"{address!r} is no address: write https://host:8420, http://host:8420 or unix:///path/to.sock"
        )

"""The agent's HTTP client: one kept-open connection to an aggregator, over TCP, TLS or a unix socket.

Standard library only, and `ssl` only when an address asks for it: a TLS context costs the agent 10 MB. Whom TLS
believes is the matter of `collectors.authority`.
"""

import random
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from collectors.authority import AUTHORITY_PATH, Authority, AuthorityError, context_of, unverified_context
from collectors.http_client import Connection, HttpError, Response
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import ssl

MAX_ANSWER_BYTES: Final = 8 << 20
MAX_AUTHORITY_BYTES: Final = 256 << 10
_OTHER_REASONS: Final = frozenset((9, 10, 62, 64))
"""Not yet valid, expired, another host's, another address's: the authority may be the right one. Source: OpenSSL,
`include/openssl/x509_vfy.h`, X509_V_ERR_*."""
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL, old and new, calls an answer that is no TLS."""
_LOOK_SECONDS: Final = 0.05
_SHARED: Final = random.Random()


class TransportError(Exception):
    """No answer: nothing is known of what the other side did."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
        """`tls.authority` when the other side is not who it should be; "" for any other reason."""


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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # from whatever stands between
            details = None
        if isinstance(details, dict):
            return details
        return {"code": f"http.{self.status}", "detail": self.body[:200].decode("latin-1")}


class Transport:
    """Talks to the first of several addresses that answers, and stays with it. Not safe for several threads at once."""

    def __init__(
        self,
        addresses: list[str],
        *,
        ca_file: Path | None = None,
        authority: Authority | None = None,
        timeout: float = 30.0,
        patience: float = 0.0,
    ) -> None:
        """Connect to nothing yet.

        Args:
            addresses: As `check_address` takes them.
            ca_file: The authority that certificates must come from; None for the system's.
            authority: The same for several transports, and what was pinned at enrolment; `ca_file` is then its matter.
            timeout: Seconds to wait for an answer.
            patience: So many seconds to wait for the socket of an aggregator on this machine that is still starting.
        """
        self._addresses = addresses
        self._patience = patience
        self._timeout = timeout
        self._authority = authority or Authority(ca_file=ca_file)
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
                raise self._failed(error) from error
        raise AssertionError("unreachable")

    def renew_authority(self) -> bool:
        """Ask for the authority's certificates over a connection that it vouches for; tell whether they are others now.

        So a node learns of the next authority while the one before still vouches. What does not vouch for the
        aggregator that gave it is not kept: it would lock the node out. Raises TransportError.
        """
        if not (self._authority.pinned and self.address.startswith("https:")):
            return False
        answer = self.request("GET", AUTHORITY_PATH)
        if answer.status != 200:
            return False
        try:
            bundle = answer.body.decode("ascii", "replace")
            self._connect_tcp(context_of(bundle)).close()
            return self._authority.keep(bundle)
        except OSError as error:
            raise self._failed(error) from error

    def open_stream(self, method: str, path: str, headers: Mapping[str, str]) -> Response:
        """Ask for an answer without end, on a connection of its own that closes with it. Raises TransportError."""
        connection: Connection | None = None
        try:
            connection = self._connect()
            return connection.request(method, path, None, headers)
        except OSError as error:
            if connection is not None:
                connection.close()
            raise TransportError(f"{self.address}: {self._told(error)}") from error

    def open_socket(self) -> socket.socket:
        """Give a connected socket of its own, for one who waits for many answers at once. Raises TransportError.

        After a failure the next call tries the next address.
        """
        try:
            return self._connect().sock
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the connection; the next request opens one. Safe twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _failed(self, error: OSError) -> TransportError:
        """Give the error for an address that failed; the next call tries the next one."""
        failed = self.address
        self._current = (self._current + 1) % len(self._addresses)
        code = error.code if isinstance(error, AuthorityError) else ""
        return TransportError(f"{failed}: {self._told(error, failed)}", code)

    def _told(self, error: OSError, address: str = "") -> str:
        """Give an error's words, and what to try where the other side may speak otherwise than the address says."""
        text, scheme = str(error) or type(error).__name__, urlsplit(address or self.address).scheme
        if scheme == "https" and getattr(error, "reason", "") in _NO_TLS:
            return f"{text}. It does not speak TLS: is its address http://?"
        if scheme == "http" and isinstance(error, ConnectionResetError):
            return f"{text}. If it speaks TLS, its address is https://"
        return text

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
        if url.scheme == "http":
            return self._connect_tcp(None)
        if not self._authority.known:
            self._first_contact()
        try:
            return self._connect_tcp(self._authority.context())
        except OSError as error:
            code = getattr(error, "verify_code", None)  # of an ssl.SSLCertVerificationError
            if code is not None and code not in _OTHER_REASONS and self._authority.is_nodes:
                raise self._authority.refusal(error) from error
            raise

    def _first_contact(self) -> None:
        """Ask whoever answers for the authority's certificates, showing nothing, and pin the one that was named."""
        connection = self._connect_tcp(unverified_context())
        try:
            response = connection.request("GET", AUTHORITY_PATH, None, {"Connection": "close"})
            offered = response.read(MAX_AUTHORITY_BYTES)
        finally:
            connection.close()
        if response.status >= 500 or response.status == 429:
            raise HttpError(f"the aggregator is not ready: status {response.status}")
        self._authority.learn(offered.decode("ascii", "replace") if response.status == 200 else "")

    def _connect_tcp(self, context: "ssl.SSLContext | None") -> Connection:
        """Connect, with TLS when there is a context for it."""
        url = urlsplit(self.address)
        host, port = url.hostname or "", url.port or 8420
        sock = socket.create_connection((host, port), self._timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=host)
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

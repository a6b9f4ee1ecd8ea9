"""Where BMCs that offer no stream deliver their events: a small server of HTTP, each BMC with a secret path of its own.

What is posted elsewhere, is too long, too slow or no event is refused, and does nothing. Whoever knows a BMC's path can
tell events of that BMC, and nothing else.

Source: DSP0266 1.20, 13.5 (push style eventing); DMTF EventDestination 1.15.
"""

import contextlib
import hmac
import http.server
import logging
import secrets
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from collectors.redfish.events import MAX_EVENT, told_of
from collectors.redfish.resource import UnreadableError, decode
from schemas.rows import Item

if TYPE_CHECKING:
    from collectors.redfish.unit import Unit

_AT_ONCE: Final = 64
"""Deliveries that are taken at a time; others wait, and are sent again by their BMC."""
_PIECE_SECONDS: Final = 10.0
"""How long a BMC may take over a piece of a delivery."""
_SECONDS: Final = 30.0
"""How long a connection may last."""
_TOKEN_BYTES: Final = 16


class Callbacks:
    """Takes deliveries, and hands on what they tell. For any thread."""

    def __init__(
        self,
        listen: str,
        address: str,
        put: Callable[[list[Item]], None],
        changed: "Callable[[Unit], None]",
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Listen at `<host>:<port>`. Raises OSError, ValueError.

        Args:
            listen: Where.
            address: The URL by which BMCs reach it; "" for what `listen` says.
            put: Is given what was told.
            changed: Is given a BMC of which something was told.
            context: The certificate to show; None: no TLS.
        """
        self._put, self._changed = put, changed
        self._units: dict[str, Unit] = {}
        self._lock = threading.Lock()
        self.server = _Server(place_of(listen), self, context)
        host, port = self.server.server_address[:2]
        self.address = (address or f"{'https' if context else 'http'}://{_named(host)}:{port}").rstrip("/")
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.25}, daemon=True)
        self._thread.start()

    def destination(self, unit: "Unit") -> str:
        """Give where a BMC is to deliver: one place, which no other knows."""
        with self._lock:
            for token, one in self._units.items():
                if one is unit:
                    return f"{self.address}/{token}"
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            self._units[token] = unit
            return f"{self.address}/{token}"

    def forget(self, unit: "Unit") -> None:
        """Take nothing more of a BMC."""
        with self._lock:
            self._units = {token: one for token, one in self._units.items() if one is not unit}

    def whose(self, path: str) -> "Unit | None":
        """Give the BMC whose path it is."""
        with self._lock:
            known = list(self._units.items())
        found = None
        for token, unit in known:
            if hmac.compare_digest(token.encode(), path.strip("/").encode("utf-8", "replace")):
                found = unit
        return found

    def take(self, unit: "Unit", body: bytes) -> bool:
        """Take a delivery; tell whether it was one."""
        try:
            told = told_of(decode(body)[0])
        except UnreadableError:
            told = None
        if told is None:
            unit.client.faults.add("event", "what was delivered is no event")
            return False
        items = list(unit.tell(told))
        if items:
            self._put(items)
        if told.alerts or told.lost:
            self._changed(unit)
        return True

    def close(self) -> None:
        """Take nothing more. Safe twice."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(1.0)


def context_of(certificate: str, key: str) -> ssl.SSLContext | None:
    """Give what TLS needs; None without a certificate. Raises OSError (ssl.SSLError)."""
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key or None)
    return context


def place_of(listen: str) -> tuple[str, int]:
    """Give host and port of `<host>:<port>`. Raises ValueError."""
    host, colon, port = listen.rpartition(":")
    if not (colon and port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise ValueError(f"{listen!r} is not <host>:<port>")
    return host.strip("[]"), int(port)


def _named(host: object) -> str:
    """Give how others call this host: its own name where it listens at every address."""
    name = str(host)
    if name in ("", "0.0.0.0", "::"):
        return socket.getfqdn()
    return f"[{name}]" if ":" in name else name


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Threads, and not too many of them."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, place: tuple[str, int], callbacks: Callbacks, context: ssl.SSLContext | None) -> None:
        self.callbacks, self.context = callbacks, context
        self.room = threading.BoundedSemaphore(_AT_ONCE)
        self._since: dict[socket.socket, float] = {}
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        super().__init__(place, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, if there is room."""
        if self.room.acquire(timeout=1.0):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle one, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def service_actions(self) -> None:
        """Hang up on whoever takes too long."""
        now = time.monotonic()
        for connection, since in list(self._since.items()):
            if now - since > _SECONDS:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def begin(self, connection: socket.socket) -> None:
        """Take note of a connection."""
        self._since[connection] = time.monotonic()

    def end(self, connection: socket.socket) -> None:
        """Let go of one."""
        self._since.pop(connection, None)
        connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever breaks off, or speaks no TLS, is no news."""
        del request
        logging.getLogger("muster.collector.redfish").debug("delivery_failed from=%s", client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: _Server  # type: ignore[mutable-override]  # it is made by that one alone
    timeout = _PIECE_SECONDS  # type: ignore[mutable-override]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "muster", ""

    def setup(self) -> None:
        """Begin, with TLS where it is wanted."""
        self.request.settimeout(self.timeout)
        if self.server.context is not None:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.server.begin(self.request)
        super().setup()

    def finish(self) -> None:
        """End."""
        try:
            super().finish()
        finally:
            self.server.end(self.request)

    def do_POST(self) -> None:
        """Take a delivery."""
        unit = self.server.callbacks.whose(self.path)
        length = self.headers.get("Content-Length", "")
        if unit is None:
            self._answer(404)
        elif not (length.isascii() and length.isdecimal()):
            self._answer(411)
        elif len(length) > 9 or int(length) > MAX_EVENT:
            self._answer(413)
        else:
            body = self.rfile.read(int(length))
            whole = len(body) == int(length)
            self._answer(204 if whole and self.server.callbacks.take(unit, body) else 400)

    def _answer(self, status: int) -> None:
        self.close_connection = self.close_connection or status != 204  # its body was not read
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Deliveries are counted by what they tell."""

"""The metadata service of a simulated node, for whoever asks: on loopback instead of the link-local address.

Source: docs.oracle.com, "Instance Metadata Service v2": it takes no request without its header, and none that was
forwarded.
"""

import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

from collectors.simulated.drift import metadata_answer
from collectors.simulated.hardware import Hardware
from collectors.vnics import HEADERS, PATH

FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host")
"""With one of these a request comes from elsewhere, through a proxy that was talked into it."""
LOOPBACK: Final = "127.0.0.1"


class MetadataService:
    """Answers on a port of its own, from a thread of its own."""

    def __init__(self, hardware: Hardware) -> None:
        """Listen, and answer from now on. Raises OSError."""
        self._server = _Server((LOOPBACK, 0), _Handler)
        self._server.answer = metadata_answer(hardware)
        serve = partial(self._server.serve_forever, poll_interval=0.1)
        threading.Thread(target=serve, name=f"metadata {hardware.name}", daemon=True).start()

    @property
    def port(self) -> int:
        """Give the port on loopback."""
        port: int = self._server.server_address[1]
        return port

    def stop(self) -> None:
        """Answer no more. Safe twice."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answer = b""


class _Handler(BaseHTTPRequestHandler):
    timeout: ClassVar[float | None] = 5.0

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != HEADERS["Authorization"] or any(map(self.headers.get, FORWARDED)):
            self._send(403, b"")
        elif self.path != PATH:
            self._send(404, b"")
        else:
            assert isinstance(self.server, _Server)
            self._send(200, self.server.answer)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: whoever asks hears it."""

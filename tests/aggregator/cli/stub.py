"""An aggregator that answers what was recorded, over a unix socket, and remembers what it was asked."""

import json
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

CASES = Path(__file__).resolve().parent.parent.parent / "cases" / "aggregator_api"
NODE = "4c4c4544-0051-3510-8052-b4c04f565031"
"""The node of the case `one_node`; it is called rack1-gpu3."""

Answer = Any
"""A body, or what makes one from parameters and the request's body."""


class Refusal:
    """An answer that is a problem."""

    def __init__(self, status: int, detail: str, code: str = "stub", **more: Any) -> None:
        self.status = status
        self.detail = detail
        self.code = code
        self.more = more


class Stub:
    """The server. `answers` by `METHOD /path?parameters`; of several that fit, the one with most parameters counts."""

    def __init__(self, path: Path, case: str = "one_node") -> None:
        self.address = f"unix://{path}"
        self.answers: dict[str, Answer] = json.loads((CASES / case / "answers.json").read_text(encoding="utf-8"))
        self.asked: list[tuple[str, Any]] = []
        """Method and path without parameters, and the body."""
        self._server = _Server(str(path), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def find(self, method: str, target: str, body: Any) -> Any:
        url = urlsplit(target)
        given = dict(parse_qsl(url.query))
        best: tuple[int, Answer] | None = None
        for key, value in self.answers.items():
            wanted_method, _, wanted = key.partition(" ")
            at = urlsplit(wanted)
            wants = dict(parse_qsl(at.query))
            fits = wanted_method == method and at.path == url.path and wants.items() <= given.items()
            if fits and (best is None or len(wants) > best[0]):
                best = (len(wants), value)
        if best is None:
            return Refusal(404, f"the stub has no answer to {method} {target}")
        return best[1](given, body) if callable(best[1]) else best[1]


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            stub.asked.append((f"{self.command} {urlsplit(self.path).path}", body))
            found = stub.find(self.command, self.path, body)
            status = 200
            if isinstance(found, Refusal):
                status, found = (
                    found.status,
                    {"code": found.code, "detail": found.detail, "status": found.status, **found.more},
                )
            data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's own words

    return Handler

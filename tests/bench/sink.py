"""A sink that takes everything: what agents publish, their control channel, and Telegraf's InfluxDB writes.

Run as a program (`python -m tests.bench.sink PORT`), so that what it costs is nobody else's. `GET /counts` tells.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from schemas import control, publish
from schemas.codec import check_batch, decode_batch
from schemas.errors import WireError

PATIENCE_SECONDS: Final = 15.0
"""So long a control request is kept waiting, as the real channel would."""


class Counts:
    """What came in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts = {"requests": 0, "bytes": 0, "batches": 0, "rows": 0, "values": 0, "log_rows": 0, "lines": 0}
        self.counts["first_ns"] = 0
        """When the first rows came, monotonic clock of the machine; 0: none did."""
        self.stopping = threading.Event()

    def add(self, **more: int) -> None:
        """Add to what is named."""
        with self._lock:
            for name, count in more.items():
                self.counts[name] += count

    def first(self) -> None:
        """Take note of the time, the first time."""
        with self._lock:
            self.counts["first_ns"] = self.counts["first_ns"] or time.monotonic_ns()


COUNTS: Final = Counts()


class Handler(BaseHTTPRequestHandler):
    """Answers as an aggregator that takes everything, and as InfluxDB's `/api/v2/write`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Take a body, and say so."""
        length = self.headers["Content-Length"]
        body = self._chunks() if length is None else self.rfile.read(int(length))
        if self.path == "/v1/publish":
            self._answer(200, _publish(body))
        elif self.path == "/v1/control":
            request = control.decode_request(body)
            COUNTS.stopping.wait(min(request.wait, PATIENCE_SECONDS))
            self._answer(200, control.encode_answer([]))
        else:
            COUNTS.add(requests=1, bytes=len(body), **_lines(body))
            self._answer(204, b"")

    def do_GET(self) -> None:
        """Give the counts."""
        self._answer(200, json.dumps(COUNTS.counts).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _chunks(self) -> bytes:
        """Read a chunked body (RFC 9112, 7.1), as Telegraf sends it."""
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _publish(body: bytes) -> bytes:
    request = publish.decode_request(body)
    rows = values = log_rows = 0
    for data in request.batches:
        try:
            batch = decode_batch(data)
            blocks = check_batch(batch)
        except WireError as error:
            return publish.encode_answer([publish.Result(publish.Status.QUARANTINED, str(error))])
        rows += batch.envelope.rows
        for block in blocks:
            if block.measurement == "log":
                log_rows += len(block.rows)
            for columns in (block.floats, block.ints, block.bools, block.strings):
                values += sum(len(column) - column.count(None) for column in columns.values())
    COUNTS.add(requests=1, bytes=len(body), batches=len(request.batches), rows=rows, values=values, log_rows=log_rows)
    if rows:
        COUNTS.first()
    return publish.encode_answer([publish.Result(publish.Status.ACCEPTED)] * len(request.batches))


def _lines(body: bytes) -> dict[str, int]:
    """Count line protocol: a line has as many values as `=` behind its first space outside quotes, about."""
    lines = body.splitlines()
    values = sum(line.split(b" ", 1)[1].count(b"=") for line in lines if b" " in line)
    logs = sum(line.startswith(b"syslog") for line in lines)
    return {"lines": len(lines), "rows": len(lines), "values": values, "log_rows": logs}


def main() -> None:
    """Serve until the parent closes our standard input."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Who measures ends what is measured while we answer it."""

        request_queue_size = 128

    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    COUNTS.stopping.set()
    server.shutdown()


if __name__ == "__main__":
    main()

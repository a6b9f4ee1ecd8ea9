"""A stand-in for an aggregator on a unix socket: takes every batch, keeps what it was told, says what a test wants."""

import contextlib
import socketserver
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec

from schemas import control, publish
from schemas.account import Account
from schemas.batch import Batch, Block
from schemas.codec import check_batch, decode_batch
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass

Stream = tuple[str, str, RowClass, Level]


class Taken(msgspec.Struct):
    """One batch with rows, opened."""

    batch: Batch
    blocks: list[Block]


class FakeAggregator:
    """What came in, by publisher. Safe to look at from the test's thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken: list[Taken] = []
        self.rows: dict[Stream, Intervals] = defaultdict(Intervals)
        self.repeated = 0
        self.words: dict[str, tuple[str, Account]] = {}
        """By publisher, the epoch and the account of the latest word."""
        self.documents: dict[str, str] = {}
        """By publisher, the hash on its latest heartbeat."""
        self.predecessors: dict[tuple[str, str], list[str]] = {}
        """By publisher and epoch, those that its first request named."""
        self.hosts: dict[str, str] = {}
        self.publishes: list[tuple[float, str]] = []
        self.tokens: set[str] = set()
        self.controls: list[control.ControlRequest] = []
        self.to_tell: dict[str, list[control.Message]] = defaultdict(list)
        self.acks: set[str] = set()
        self.away = False
        """Answer 503 to whoever publishes."""
        self.changed = threading.Condition(self.lock)
        self.closing = False

    def take_publish(self, data: bytes, token: str) -> tuple[int, bytes]:
        """Take a request."""
        request = publish.decode_request(data)
        with self.lock:
            self.publishes.append((time.monotonic(), request.publisher))
            self.tokens.add(token)
            if self.away:
                return 503, b'{"code": "ingest.busy", "detail": "away"}'
            self.predecessors.setdefault((request.publisher, request.epoch), request.predecessors)
            self.hosts[request.publisher] = request.host_name
            for one in request.batches:
                self._take(decode_batch(one), {request.epoch, *request.predecessors})
            self.changed.notify_all()
        return 200, publish.encode_answer([publish.Result(publish.Status.ACCEPTED)] * len(request.batches))

    def _take(self, batch: Batch, epochs: set[str]) -> None:
        envelope = batch.envelope
        assert envelope.epoch in epochs
        if envelope.account is not None:
            known = self.words.get(envelope.publisher)
            if known is None or known[0] != envelope.epoch or known[1].word < envelope.account.word:
                self.words[envelope.publisher] = (envelope.epoch, envelope.account)
        if not envelope.rows:
            self.documents[envelope.publisher] = envelope.documents
            return
        stream = (envelope.publisher, envelope.epoch, envelope.row_class, envelope.level)
        self.repeated += envelope.rows - self.rows[stream].add(envelope.first, envelope.end)
        self.taken.append(Taken(batch, check_batch(batch)))

    def take_control(self, data: bytes) -> tuple[int, bytes]:
        """Keep a node waiting until there is something to tell it."""
        request = control.decode_request(data)
        deadline = time.monotonic() + request.wait
        with self.lock:
            self.controls.append(request)
            self.acks.update(ack.id for ack in request.acks)
            while not self.to_tell[request.publisher] and time.monotonic() < deadline and not self.closing:
                self.changed.wait(0.1)
            return 200, control.encode_answer(self.to_tell.pop(request.publisher, []))

    def tell(self, publisher: str, message: control.Message) -> None:
        """Send a node something."""
        with self.lock:
            self.to_tell[publisher].append(message)
            self.changed.notify_all()

    def blocks(self, publisher: str, row_class: RowClass) -> list[Block]:
        """Give what came of one class."""
        with self.lock:
            return [
                block
                for one in self.taken
                if (one.batch.envelope.publisher, one.batch.envelope.row_class) == (publisher, row_class)
                for block in one.blocks
            ]

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> float:
        """Wait until something is so; give how long it took. Fails after `seconds`."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < seconds, "it did not happen"
            time.sleep(0.02)
        return time.monotonic() - started

    def unaccounted(self) -> dict[Stream, list[tuple[int, int]]]:
        """Give the numbered rows, as of the publishers' last words, that neither came nor are held nor were dropped."""
        missing = {}
        with self.lock:
            for publisher, (_, account) in self.words.items():
                for epoch in account.epochs:
                    for told in epoch.streams:
                        stream = (publisher, epoch.epoch, told.row_class, told.level)
                        known = self.rows[stream].copy()
                        known.update(told.spooled)
                        for dropped in told.dropped:
                            known.update(dropped.intervals)
                        if holes := known.missing(0, told.numbered):
                            missing[stream] = holes
        return missing


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


@contextmanager
def serving(path: Path) -> Iterator[FakeAggregator]:
    """Serve on a unix socket while the context lasts."""
    fake = FakeAggregator()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # it was killed while it waited
                super().handle()

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            token = self.headers.get("Authorization", "")
            if self.path == "/v1/publish":
                status, body = fake.take_publish(data, token)
            elif self.path == "/v1/control":
                status, body = fake.take_control(data)
            else:
                node = msgspec.json.decode(data)["node"]
                status, body = 200, msgspec.json.encode({"token": f"token-of-{node}"})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.closing = True
        server.shutdown()
        server.server_close()
        thread.join()

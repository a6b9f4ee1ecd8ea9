"""The agent in the guest while somebody sets the clock: one hour forward, and back again.

`python3.11 -m tests.vm.guest.clock_steps RATE SECONDS` runs the agent on the oracle (whose rows only a grant admits)
and `host` for SECONDS before, between and after the two steps, and prints what came of it as one line of JSON.
"""

import itertools
import json
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from collectors.oracle import check_of
from collectors.spool import Held, Spool
from schemas.batch import Block
from schemas.codec import decode_batch, decode_body
from schemas.control import Grant, SetGrants, encode_answer
from schemas.publish import decode_request
from schemas.verbosity import Level, RowClass

FOLDER = Path("/tmp/muster")
HOUR = 3600
CONFIG = """
[agent]
node_id = "node-1"
only = ["oracle", "host"]
[collectors.oracle]
rate = {rate}
row_class = "log"
row_level = "debug"
[collectors.host]
interval_seconds = 1.0
"""


class Aggregator(BaseHTTPRequestHandler):
    """Grants the level debug for ten minutes, takes nothing, and notes how old what it is offered claims to be."""

    protocol_version = "HTTP/1.1"
    granted = threading.Event()
    ages_ns: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/publish":
            envelopes = [decode_batch(batch).envelope for batch in decode_request(body).batches]
            self.ages_ns.extend(envelope.age_ns for envelope in envelopes if envelope.rows)
            self._answer(503, b"", {"Retry-After": "1"})
        elif self.granted.is_set():
            time.sleep(2)
            self._answer(200, encode_answer([]))
        else:
            self.granted.set()
            grant = Grant("the-grant", Level.DEBUG, "oracle", None, 600.0)
            self._answer(200, encode_answer([SetGrants("m1", 1, [grant])]))

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "agent"

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        return


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def set_clock(by: float) -> None:
    """Do what `date -s` does."""
    subprocess.run(["busybox", "date", "-s", f"@{time.time() + by:.0f}"], check=True, stdout=subprocess.DEVNULL)


def work(rate: str, seconds: float) -> dict[str, Any]:
    """Run the agent through both steps; give what only a witness knows."""
    FOLDER.mkdir()
    (FOLDER / "muster.toml").write_text(CONFIG.format(rate=rate))
    with Server(str(FOLDER / "muster.sock"), Aggregator) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, "-P", "-m", "collectors.main", "--config", str(FOLDER / "muster.toml")]
        agent = subprocess.Popen(command, env={"MUSTER_DATA_DIR": str(FOLDER), "PYTHONPATH": ":".join(sys.path)})
        if not Aggregator.granted.wait(60):
            raise TimeoutError("the agent did not ask")
        began = time.monotonic()
        for step in (HOUR, -HOUR, 0):
            time.sleep(seconds)
            if step:
                set_clock(step)
        took = time.monotonic() - began
        agent.send_signal(signal.SIGTERM)
        status = agent.wait(60)
        server.shutdown()
    return {"status": status, "seconds": took, "offered_age_seconds": max(Aggregator.ages_ns, default=0) / 1e9}


def times_of(block: Block) -> Iterator[int]:
    """Give the time of each row."""
    at = block.start
    for step in block.steps:
        at += step
        yield at


def read_out() -> dict[str, Any]:
    """Give what the spool holds, stream by stream."""
    spool = Spool.open(FOLDER / "agent" / "spool.db", "node-1", "another boot")
    batches: list[tuple[Held, list[Block]]] = []
    for held in spool.pending():
        body = spool.body(held)
        assert body is not None
        batches.append((held, decode_body(body)))
    tables: dict[str, list[int]] = {}
    streams: dict[str, list[int]] = {}
    numbers: list[int] = []
    checks = True
    events: list[tuple[str, float]] = []
    for held, blocks in batches:
        for block in blocks:
            if held.row_class is not RowClass.CAPABILITY:
                times = list(times_of(block))
                tables.setdefault(f"{block.measurement} {held.level.word}", []).extend(times)
                streams.setdefault(f"{held.row_class.word} {held.level.word}", []).extend(times)
            if block.measurement == "oracle":
                found = [number for number in block.ints["sequence_total"] if number is not None]
                checks &= [check_of(number) for number in found] == block.ints["check"]
                numbers += found
            if held.row_class is RowClass.EVENT:
                pairs = zip(block.strings["type"], block.strings["detail"], strict=True)
                events += [(str(kind), json.loads(detail or "{}").get("step_seconds", 0.0)) for kind, detail in pairs]
    backward = {
        name: [(after - before) / 1e9 for before, after in itertools.pairwise(times) if after <= before]
        for name, times in tables.items()
    }
    since_back = {
        name: len(times) - max((at for at in range(1, len(times)) if times[at] <= times[at - 1]), default=len(times))
        for name, times in tables.items()
    }
    facts = {
        "position": int(spool.positions("oracle")["oracle"]),
        "rows": len(numbers),
        "first": numbers[0] if numbers else None,
        "in_order": numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False,
        "checks": checks,
        "grants": sorted({held.grant for held, blocks in batches if blocks[0].measurement == "oracle"}),
        "steps": [size for kind, size in events if kind == "clock.step"],
        "backward": backward,
        "since_back": since_back,
        "host_rows": len(tables.get("load standard", [])),
        "same_times": {name: len(times) - len(set(times)) for name, times in streams.items()},
        "numbered": sum(stream.numbered for epoch in spool.account().epochs for stream in epoch.streams),
        "held": sum(held.rows for held, _ in batches),
    }
    spool.close()
    return facts


if __name__ == "__main__":
    witnessed = work(sys.argv[1], float(sys.argv[2]))
    sys.stdout.write(json.dumps(witnessed | read_out()) + "\n")

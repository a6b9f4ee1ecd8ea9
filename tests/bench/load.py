"""Load on the ingest path, as a program of its own: `python -m tests.bench.load SOCKET CONNECTIONS SECONDS REQUESTS`.

Each connection is a publisher that hands in one batch of 80 rows x 10 fields a request and waits for the answer; every
batch was encoded before the clock starts. Prints JSON: rows acknowledged, seconds, answers that were not "accepted".
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path

from schemas.batch import Block, Envelope
from schemas.codec import encode_batch, encode_body
from schemas.publish import CONTENT_TYPE, Status, decode_answer, encode_request
from schemas.verbosity import Level, RowClass

ROWS = 80
DEVICES = 8
EPOCH = "0123456789abcdef"


def requests_of(publisher: str, count: int) -> list[bytes]:
    """Encode what one connection sends, heads included."""
    rng = random.Random(publisher)
    block = Block(
        "gpu",
        publisher,
        [],
        [[f"gpu:{publisher}-{device}"] for device in range(DEVICES)],
        [row % DEVICES for row in range(ROWS)],
        time.time_ns() - 10**9,
        [0] + [1_000_000] * (ROWS - 1),
        floats={f"value{place}_ratio": [round(rng.random(), 3) for _ in range(ROWS)] for place in range(7)},
        ints={f"count{place}_total": [rng.randrange(1 << 32) for _ in range(ROWS)] for place in range(3)},
    )
    body = encode_body([block])
    found = []
    for number in range(count):
        envelope = Envelope(publisher, EPOCH, RowClass.TELEMETRY, Level.STANDARD, number * ROWS, ROWS, number)
        data = encode_request(publisher, EPOCH, "boot", [], publisher, [encode_batch(envelope, body)])
        head = (
            f"POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        found.append(head.encode() + data)
    return found


async def connection(path: Path, requests: list[bytes], ready: asyncio.Barrier, seconds: float) -> tuple[int, int]:
    """Send until there is nothing left or the time is up; give how many were accepted, and how many were not."""
    reader, writer = await asyncio.open_unix_connection(path)
    accepted = refused = 0
    try:
        await ready.wait()
        deadline = time.monotonic() + seconds
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            good = head.startswith(b"HTTP/1.1 200") and decode_answer(body).results[0].status is Status.ACCEPTED
            accepted += good
            refused += not good
            if time.monotonic() >= deadline:
                break
    finally:
        writer.close()
    return accepted, refused


async def run(path: Path, connections: int, seconds: float, requests: int) -> dict[str, float]:
    """Load, and give what came of it."""
    prepared = [requests_of(f"load-{number:03d}", requests) for number in range(connections)]
    ready = asyncio.Barrier(connections + 1)
    tasks = [asyncio.create_task(connection(path, one, ready, seconds)) for one in prepared]
    await ready.wait()
    began = time.monotonic()
    results = await asyncio.gather(*tasks)
    spent = time.monotonic() - began
    accepted, refused = (sum(column) for column in zip(*results, strict=True))
    return {"rows": accepted * ROWS, "seconds": spent, "refused": refused}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))))

"""Checkpoint 3, the words: a block of every kind goes out and comes back, and bad bytes get an answer that says why.

Requirements: R001-15, R003-1 (one typed, versioned schema; unknown versions are refused in so many words).
"""

import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import zstandard

from collectors.transport import Transport
from schemas.batch import WIRE_VERSION, Block, Envelope
from schemas.codec import (
    MAX_BATCH_BYTES,
    MAX_BODY_BYTES,
    check_batch,
    decode_batch,
    decode_body,
    encode_batch,
    encode_body,
)
from schemas.errors import MalformedError, TooLargeError, UnknownVersionError, WireError
from schemas.publish import Status, decode_answer, encode_request
from schemas.verbosity import Level, RowClass
from tests.acceptance.stage import FailedError, check, main, say, stage

SECONDS = 5.0
"""What decoding any one input may take."""
MEGABYTES = 800
"""What all of this may take."""


def block() -> Block:
    """Give a block with a column of every type, two devices with an attribute each, and absent values."""
    return Block(
        "words",
        "node-a",
        ["port"],
        [["gpu:0", "1"], ["gpu:1", "2"]],
        [0, 1, 0],
        1_700_000_000_000_000_000,
        [0, 1, 5_000_000_000],
        floats={"power_watts": [1.5, None, float("inf")]},
        ints={"count": [0, None, (1 << 64) - 1], "small": [-(1 << 63), -1, None]},
        bools={"up": [True, False, None]},
        strings={"state": ["", None, "läuft \U0001f680"]},
    )


def envelope(rows: int) -> Envelope:
    """Give an envelope."""
    return Envelope("node-a", "epoch-1", RowClass.TELEMETRY, Level.STANDARD, 0, rows, 0)


def refused(data: bytes, read: Callable[[bytes], object], kind: type[WireError], claim: str) -> None:
    """Fail unless reading raises just that, in time."""
    began = time.monotonic()
    try:
        read(data)
    except kind:
        pass
    else:
        raise FailedError(claim)
    took = time.monotonic() - began
    check(took < SECONDS, f"{claim}: {kind.__name__} after {took * 1000:.1f} ms")


def script(folder: Path) -> None:
    """Round-trip, damage, inflate, and ask over HTTP."""
    there_and_back()
    damaged()
    inflated()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    check(used < MEGABYTES, f"all that took {used} MB at most, below {MEGABYTES} MB")
    over_http(folder)


def there_and_back() -> None:
    """Every class and level, every type of column."""
    body = encode_body([block()])
    check(
        decode_body(body) == [block()], "a block with every type of column comes back as it was, absent values absent"
    )
    for row_class in RowClass:
        for level in Level:
            sent = msgspec.structs.replace(envelope(3), row_class=row_class, level=level, first=7, order=9, grant="g")
            came = decode_batch(encode_batch(sent, body))
            if came.envelope != sent or check_batch(came) != [block()]:
                raise FailedError(f"a batch of class {row_class.word}, level {level.word}")
    say("a batch of every class and level comes back, its envelope read without opening it")
    check(len(body) < 400, f"three rows of five columns travel in {len(body)} bytes")


def damaged() -> None:
    """Cut at every byte, and turned at random: a typed error, or what was sent, nothing else."""
    data = encode_batch(envelope(3), encode_body([block()]))

    def opened(received: bytes) -> None:
        check_batch(decode_batch(received))

    for size in range(len(data)):
        try:
            opened(data[:size])
        except WireError:
            continue
        raise FailedError(f"a batch cut to {size} bytes was taken")
    say(f"cut at each of its {len(data)} bytes, a batch is refused with a typed error")
    dice, taken = random.Random(1), 0
    for _ in range(20_000):
        turned = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            turned[dice.randrange(len(turned))] = dice.randrange(256)
        try:
            opened(bytes(turned))
            taken += 1  # the envelope is not under the checksum; the rows are
        except WireError:
            pass
    check(
        taken < 10_000, f"20,000 times damaged at random it raises nothing but typed errors ({taken} were still sound)"
    )


def inflated() -> None:
    """What is too large, or unpacks to too much."""
    refused(bytes(MAX_BATCH_BYTES + 1), decode_batch, TooLargeError, "a batch over the limit")
    compressor = zstandard.ZstdCompressor(level=1)
    bomb = compressor.compress(bytes(MAX_BODY_BYTES * 100))
    refused(
        bomb, decode_body, TooLargeError, f"a bomb of {len(bomb)} bytes that unpacks to {MAX_BODY_BYTES * 100 >> 20} MB"
    )
    stream = compressor.compressobj()
    hidden = stream.compress(bytes(MAX_BODY_BYTES * 4)) + stream.flush()
    refused(hidden, decode_body, MalformedError, "a bomb that does not state its size")
    nested = compressor.compress(b"\x91" * 1_000_000)
    refused(nested, decode_body, MalformedError, "a million lists within one another")
    many = compressor.compress(msgspec.msgpack.encode([block()] * 30_000))
    refused(many, decode_body, TooLargeError, "more rows than a batch may have")
    data = bytearray(encode_batch(envelope(3), encode_body([block()])))
    data[1] = 99
    refused(bytes(data), decode_batch, UnknownVersionError, "a wire version that nobody speaks")


def over_http(folder: Path) -> None:
    """The same, asked of a running aggregator."""
    with stage(folder, '[agent]\nnode_id = "node-a"\n') as muster:
        muster.start("aggregator")
        muster.ready()
        transport = Transport([f"unix://{muster.data_dir}/muster.sock"])
        good = encode_batch(envelope(3), encode_body([block()]))
        request = encode_request("node-a", "epoch-1", "boot-1", [], "host", [good, b"\x93\x01nonsense"])
        answer = transport.request("POST", "/v1/publish", request)
        check(answer.status == 200, "a request with one good and one bad batch is answered")
        first, second = decode_answer(answer.body).results
        check(first.status is Status.ACCEPTED, "the good batch is accepted")
        check(
            second.status is Status.QUARANTINED and ":" in second.reason, f"the bad one is set aside: {second.reason}"
        )
        foreign = bytearray(request)
        check(foreign[1] == WIRE_VERSION, "every message starts with its wire version")
        foreign[1] = 42
        answer = transport.request("POST", "/v1/publish", bytes(foreign))
        problem = answer.problem()
        check(400 <= answer.status < 500, f"a request of wire version 42 is refused with status {answer.status}")
        check(problem["code"] == "wire.unknown_version", f"by a stable code: {problem['code']}")
        check("understood" in str(problem) and str(WIRE_VERSION) in str(problem["detail"]),
              f"which says what is understood: {problem['detail']}")  # fmt: skip
        answer = transport.request("POST", "/v1/publish", bytes(9 << 20))
        check(answer.status == 413, "a request that is too large is refused by status 413")
        transport.close()


if __name__ == "__main__":
    sys.exit(main(script))

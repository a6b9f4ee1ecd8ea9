"""How batches are handed in: one request with many batches, one result for each.

`POST /v1/publish`, body and answer msgpack. A request as a whole fails with problem details (RFC 9457) as JSON: 401 and
403 (who are you), 409 (another run of this publisher is current), 413, 429 and 503 with Retry-After. A batch
fails alone.
"""

from enum import IntEnum
from typing import Final

import msgspec

from schemas.batch import WIRE_VERSION
from schemas.codec import check_version
from schemas.errors import MalformedError, TooLargeError

MAX_REQUEST_BYTES: Final = 8 << 20
"""A request's largest size."""
MAX_BATCHES: Final = 1024
"""Batches of one request."""
CONTENT_TYPE: Final = "application/vnd.muster.publish+msgpack"


class Status(IntEnum):
    """What became of one batch. The number travels."""

    ACCEPTED = 0
    """The log has it on disk. The sender forgets it."""
    QUARANTINED = 1
    """It can never be taken; it is kept aside with the reason, and counted. The sender forgets it."""
    RETRY = 2
    """Not now. The sender keeps it."""


class Result(msgspec.Struct, array_like=True, frozen=True):
    """The answer for one batch."""

    status: Status
    reason: str = ""
    """Empty when accepted; else a stable code, a colon and a sentence."""


class PublishRequest(msgspec.Struct, array_like=True, frozen=True):
    """What a publisher sends."""

    wire: int
    publisher: str
    epoch: str
    """The live epoch of the sender; batches may belong to epochs before it."""
    boot: str
    predecessors: list[str]
    """Epochs whose rows or whose place this run takes over, newest first."""
    host_name: str
    batches: list[bytes]


class PublishAnswer(msgspec.Struct, array_like=True, frozen=True):
    """One result for each batch, in order."""

    wire: int
    results: list[Result]


_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(PublishRequest)
_answer_decoder = msgspec.msgpack.Decoder(PublishAnswer)


def encode_request(
    publisher: str, epoch: str, boot: str, predecessors: list[str], host_name: str, batches: list[bytes]
) -> bytes:
    """Give the body of a publish request."""
    return _encoder.encode(PublishRequest(WIRE_VERSION, publisher, epoch, boot, predecessors, host_name, batches))


def decode_request(data: bytes) -> PublishRequest:
    """Read a publish request, its batches left closed. Raises a WireError, nothing else."""
    if len(data) > MAX_REQUEST_BYTES:
        raise TooLargeError(f"a request of {len(data)} bytes exceeds {MAX_REQUEST_BYTES}; send fewer batches")
    check_version(data)
    try:
        request = _request_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"not a publish request: {error}") from None
    names = (request.publisher, request.epoch, request.boot, request.host_name, *request.predecessors)
    if not request.publisher or not request.epoch or any(len(name) > 255 for name in names):
        raise MalformedError("the request names no publisher or no epoch, or a name is longer than 255")
    if len(request.batches) > MAX_BATCHES or len(request.predecessors) > 64:
        raise TooLargeError(f"a request of {len(request.batches)} batches exceeds {MAX_BATCHES}")
    return request


def encode_answer(results: list[Result]) -> bytes:
    """Give the body of the answer."""
    return _encoder.encode(PublishAnswer(WIRE_VERSION, results))


def decode_answer(data: bytes) -> PublishAnswer:
    """Read an answer. Raises a WireError, nothing else."""
    check_version(data)
    try:
        return _answer_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"not an answer to a publish request: {error}") from None

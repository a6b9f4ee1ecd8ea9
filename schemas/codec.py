"""How blocks and batches become bytes, and how bytes from anybody become blocks or a typed error.

msgpack (msgspec, array-like) inside one zstd frame, level 1 with checksum, for the body; plain msgpack around it.
Every message starts with its wire version, which is read before anything else is believed. Whatever the bytes are,
decoding takes time and memory bounded by the limits below, and raises nothing but `WireError`.

Source: RFC 8878 (zstd), the msgpack specification (github.com/msgpack/msgpack, spec.md).
"""

import threading
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import zstandard

from schemas.account import Account, StreamAccount
from schemas.batch import MAX_ATTRIBUTES, MAX_COLUMNS, MAX_ROWS, UNDERSTOOD, WIRE_VERSION, Batch, Block, Envelope
from schemas.errors import MalformedError, TooLargeError, UnknownVersionError
from schemas.intervals import Interval
from schemas.metrics import NAME, RESERVED

MAX_BODY_BYTES: Final = 8 << 20
"""A body's largest size, decompressed. Blocks that are refused take at most about 50 times that while it is read."""
MAX_BATCH_BYTES: Final = 4 << 20
"""A batch's largest size as it travels."""
MAX_ENVELOPE_BYTES: Final = 256 << 10
"""The largest size of what is not the body: decoding an envelope of 4 MB, an account of row numbers, takes 0.4 s."""
MAX_TIME: Final = 1 << 62
"""The year 2116; later times are refused as nonsense."""
MAX_NUMBER: Final = 1 << 62
"""The largest row number; no publisher lives long enough to reach it."""
_MAX_SHAPES: Final = 1_024
"""Shapes of blocks whose names are known to be sound; with more, what is known is forgotten."""
_WIDE: Final = 64
"""A shape of more names is looked at each time: somebody who sends many of them must not fill our memory."""
_Shape = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Every name in a block: measurement, attributes, then floats, ints, bools and strings."""


class _Codec(threading.local):
    """One encoder, compressor and decompressor per thread: zstandard's are not safe to share."""

    def __init__(self) -> None:
        self.encoder = msgspec.msgpack.Encoder()
        self.compressor = zstandard.ZstdCompressor(level=1, write_checksum=True, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_BODY_BYTES)


class _Closed(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A batch with nothing of it looked at."""

    version: int
    envelope: msgspec.Raw
    body: msgspec.Raw


_codec = _Codec()
_blocks_decoder: msgspec.msgpack.Decoder[list[Block]] = msgspec.msgpack.Decoder(
    Annotated[list[Block], msgspec.Meta(max_length=MAX_ROWS)]
)
_batch_decoder = msgspec.msgpack.Decoder(Batch)
_closed_decoder = msgspec.msgpack.Decoder(_Closed)
_sound_shapes: set[_Shape] = set()


def encode_body(blocks: Sequence[Block]) -> bytes:
    """Encode and compress blocks.

    Raises TooLargeError when they exceed what a receiver takes, MalformedError when a value does not fit its column:
    an integer beyond 64 bits, a text with half a surrogate pair.
    """
    try:
        raw = _codec.encoder.encode(blocks)
    except (OverflowError, UnicodeEncodeError, TypeError) as error:
        raise MalformedError(f"a value cannot travel: {error}") from None
    if len(raw) > MAX_BODY_BYTES:
        raise TooLargeError(f"a body of {len(raw)} bytes exceeds {MAX_BODY_BYTES}; send fewer rows a batch")
    return _codec.compressor.compress(raw)


def decode_body(body: bytes | memoryview) -> list[Block]:
    """Decompress, decode and check blocks. Raises MalformedError or TooLargeError, nothing else."""
    blocks = _decode_blocks(_decompress(body))
    rows = sum(len(block.rows) for block in blocks)
    if rows > MAX_ROWS:
        raise TooLargeError(f"a batch of {rows} rows exceeds {MAX_ROWS}")
    for block in blocks:
        check_block(block)
    return blocks


def encode_batch(envelope: Envelope, body: bytes) -> bytes:
    """Give the bytes of one batch as it travels and as the log keeps it.

    Raises TooLargeError over MAX_BATCH_BYTES, or when what the envelope tells is over MAX_ENVELOPE_BYTES.
    """
    data = _codec.encoder.encode(Batch(WIRE_VERSION, envelope, body))
    if len(data) > MAX_BATCH_BYTES:
        raise TooLargeError(f"a batch of {len(data)} bytes exceeds {MAX_BATCH_BYTES}; send fewer rows a batch")
    _check_rest(len(data) - len(body))
    return data


def decode_batch(data: bytes | memoryview) -> Batch:
    """Read a batch's envelope, its body left closed. Raises a WireError, nothing else."""
    if len(data) > MAX_BATCH_BYTES:
        raise TooLargeError(f"a batch of {len(data)} bytes exceeds {MAX_BATCH_BYTES}")
    check_version(data)
    try:
        if len(data) > MAX_ENVELOPE_BYTES:  # else it cannot be too large
            _check_rest(len(data) - len(_closed_decoder.decode(data).body))
        batch = _batch_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"not a batch: {error}") from None
    _check_envelope(batch.envelope)
    return batch


def _check_rest(size: int) -> None:
    """Raise TooLargeError when what there is beside a body is more than an envelope may be."""
    if size > MAX_ENVELOPE_BYTES:
        raise TooLargeError(f"an envelope of {size} bytes exceeds {MAX_ENVELOPE_BYTES}; tell of fewer runs and gaps")


def check_batch(batch: Batch) -> list[Block]:
    """Open a batch and check that it holds what its envelope says. Raises a WireError, nothing else."""
    if not batch.envelope.rows:
        if batch.body:
            raise MalformedError("a heartbeat has a body")
        return []
    blocks = decode_body(batch.body)
    rows = sum(len(block.rows) for block in blocks)
    if rows != batch.envelope.rows:
        raise MalformedError(f"the envelope says {batch.envelope.rows} rows, the body holds {rows}")
    return blocks


def check_version(data: bytes | memoryview) -> None:
    """Read the version that every message starts with. Raises UnknownVersionError or MalformedError."""
    version = _peek_version(data)
    if version is None:
        raise MalformedError("not a Muster message: it does not start with a wire version")
    if version not in UNDERSTOOD:
        raise UnknownVersionError(version, UNDERSTOOD)


def _peek_version(data: bytes | memoryview) -> int | None:
    """Give the first element of a msgpack array when it is a whole number below 2**16, else None."""
    head = bytes(data[:8])
    if not head:
        return None
    if 0x91 <= head[0] <= 0x9F:
        at = 1
    elif head[0] == 0xDC:
        at = 3
    else:
        return None
    marker = head[at : at + 1]
    if not marker:
        return None
    if marker[0] < 0x80:
        return marker[0]
    if marker == b"\xcc" and len(head) > at + 1:
        return head[at + 1]
    if marker == b"\xcd" and len(head) > at + 2:
        return int.from_bytes(head[at + 1 : at + 3], "big")
    return None


def _decompress(body: bytes | memoryview) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if size > MAX_BODY_BYTES:
            raise TooLargeError(f"a body of {size} bytes exceeds {MAX_BODY_BYTES}")
        if size < 0:  # a frame of unknown size is never ours, and could be a bomb
            raise MalformedError("the body's compressed frame does not state its size")
        return _codec.decompressor.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedError(f"the body is not a sound zstd frame: {error}") from None


def _decode_blocks(raw: bytes) -> list[Block]:
    try:
        return _blocks_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"the body does not hold blocks: {error}") from None


def _check_envelope(envelope: Envelope) -> None:
    if not (envelope.publisher and envelope.epoch):
        raise MalformedError("the envelope names no publisher or no epoch")
    short = (envelope.epoch, envelope.grant, envelope.documents)
    if len(envelope.publisher) > 255 or max(map(len, short)) > 64:
        raise MalformedError("the envelope's names are too long")
    if not (envelope.publisher.isprintable() and all(map(str.isprintable, short))):
        raise MalformedError("the envelope's names are not printable")
    if min(envelope.first, envelope.order, envelope.age_ns) < 0:
        raise MalformedError("the envelope's numbers are below 0")
    if max(envelope.first, envelope.order, envelope.age_ns) > MAX_NUMBER:
        raise MalformedError("the envelope's numbers are out of range")
    if not 0 <= envelope.rows <= MAX_ROWS:
        raise TooLargeError(f"the envelope says {envelope.rows} rows; at most {MAX_ROWS} travel together")
    if envelope.account is not None:
        _check_account(envelope.account)


def _check_account(account: Account) -> None:
    """Check that everything in a publisher's word can be put into interval sets and added up."""
    if not 0 <= account.word <= MAX_NUMBER:
        raise MalformedError("the account's number is out of range")
    for epoch in account.epochs:
        if not epoch.epoch or len(epoch.epoch) > 64 or len(epoch.boot) > 64:
            raise MalformedError("the account names no epoch, or a name in it is too long")
        for stream in epoch.streams:
            _check_stream_account(stream)


def _check_stream_account(stream: StreamAccount) -> None:
    counts = (stream.produced, stream.filtered, stream.folded, stream.numbered)
    if min(counts) < 0 or max(counts) > MAX_NUMBER:
        raise MalformedError("the account's counts are out of range")
    _check_intervals(stream.spooled)
    for dropped in stream.dropped:
        if not NAME.match(dropped.reason):
            raise MalformedError(f"{dropped.reason[:80]!r} is not a usable name of a reason")
        _check_intervals(dropped.intervals)


def _check_intervals(intervals: list[Interval]) -> None:
    if not all(0 <= first < end <= MAX_NUMBER for first, end in intervals):
        raise MalformedError("the account holds row numbers that cannot be")


def check_block(block: Block) -> None:
    """Check what the types cannot say."""
    count = len(block.rows)
    if not count or len(block.steps) != count:
        raise MalformedError(f"block {block.measurement!r}: {count} rows but {len(block.steps)} steps")
    if not (block.subject and len(block.subject) <= 255 and block.subject.isprintable()):
        raise MalformedError(f"block {block.measurement!r} names no subject, or not a printable one")
    _check_names(block)
    width = 1 + len(block.attributes)
    if not set(map(len, block.keys)) <= {width}:
        raise MalformedError(f"block {block.measurement!r}: a key does not have {width} parts")
    if min(block.rows) < 0 or max(block.rows) >= len(block.keys):
        raise MalformedError(f"block {block.measurement!r}: a row points to a key that is not there")
    if block.steps[0] != 0 or (count > 1 and min(block.steps[1:]) < 1):
        raise MalformedError(f"block {block.measurement!r}: times do not increase")
    if not (0 <= block.start < MAX_TIME and block.end < MAX_TIME):
        raise MalformedError(f"block {block.measurement!r}: times out of range")
    _check_columns(block, count)


def _check_names(block: Block) -> None:
    """Check every name, once for each shape: publishers send the same few again and again."""
    shape: _Shape = (
        block.measurement,
        tuple(block.attributes),
        tuple(block.floats),
        tuple(block.ints),
        tuple(block.bools),
        tuple(block.strings),
    )
    if shape in _sound_shapes:
        return
    columns = [name for group in shape[2:] for name in group]
    if len(columns) > MAX_COLUMNS or len(block.attributes) > MAX_ATTRIBUTES:
        raise TooLargeError(f"block {block.measurement!r}: {len(columns)} columns, {len(block.attributes)} attributes")
    names = [*columns, *block.attributes]
    for name in (block.measurement, *names):
        if not NAME.match(name):
            raise MalformedError(f"{name[:80]!r} is not a usable name")
    if not RESERVED.isdisjoint(names):
        raise MalformedError(f"block {block.measurement!r}: {RESERVED.intersection(names)} are every table's own")
    if len(set(names)) != len(names):
        raise MalformedError(f"block {block.measurement!r}: two columns or attributes of one name")
    if len(names) <= _WIDE:
        if len(_sound_shapes) >= _MAX_SHAPES:
            _sound_shapes.clear()
        _sound_shapes.add(shape)


def _check_columns(block: Block, count: int) -> None:
    for group in (block.floats, block.ints, block.bools, block.strings):
        if not group or set(map(len, group.values())) == {count}:
            continue
        for name, column in group.items():
            if len(column) != count:
                raise MalformedError(f"{block.measurement}.{name}: {len(column)} values for {count} rows")

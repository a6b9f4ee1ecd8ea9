"""Small inputs that ask for much. Run as a program, it decodes one of them under a limit of memory and says what came.

The measuring is done in a process of its own, since memory that was once touched cannot be given back for certain.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

from schemas.codec import MAX_BATCH_BYTES, MAX_BODY_BYTES, check_batch, decode_batch, decode_body
from schemas.errors import WireError

HEAD = b"\xa1g\xa1n"  # a measurement `g` of a subject `n`
FULL = MAX_BODY_BYTES - 64


def _squeeze(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(raw)


def _array(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big")


def _map(count: int) -> bytes:
    return b"\xdf" + count.to_bytes(4, "big")


def _one_block(rest: bytes) -> bytes:
    return _squeeze(b"\x91\x97" + HEAD + rest)


def _frame_that_lies() -> bytes:
    """Give a frame that states 1 byte and holds 8 GiB of zeros (as RLE blocks: 4 bytes for each 128 KiB)."""
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd" + b"\x20\x01" + block * (8 << 13)


def _frame_that_boasts() -> bytes:
    """Give a frame that states 2**62 bytes."""
    return b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 62).to_bytes(8, "little") + b"\x01\x00\x00"


def _frame_with_a_huge_window() -> bytes:
    """Give a frame that states few bytes and asks for a window of 2 TiB."""
    return b"\x28\xb5\x2f\xfd" + b"\x80\xf8" + (5).to_bytes(4, "little") + b"\x01\x00\x00"


def _batch(rest: bytes) -> bytes:
    return (b"\x93\x01" + rest)[:MAX_BATCH_BYTES]


BODIES: dict[str, Callable[[], bytes]] = {
    "gigabytes_of_zeros": lambda: _squeeze(bytes(1 << 30)),
    "a_frame_that_lies_about_its_size": _frame_that_lies,
    "a_frame_that_states_2_to_the_62": _frame_that_boasts,
    "a_frame_that_asks_for_a_huge_window": _frame_with_a_huge_window,
    "four_billion_blocks_declared": lambda: _squeeze(_array(2**32 - 1)),
    "four_billion_rows_declared": lambda: _one_block(b"\x90\x90" + _array(2**32 - 1)),
    "four_billion_columns_declared": lambda: _one_block(b"\x90\x90\x90\x00\x90" + _map(2**32 - 1)),
    "a_text_of_four_gigabytes_declared": lambda: _squeeze(b"\x91\x97\xdb\xff\xff\xff\xff"),
    "millions_of_empty_keys": lambda: _one_block(b"\x90" + _array(FULL) + b"\x90" * FULL),
    "keys_that_are_all_as_small_as_can_be": lambda: _squeeze(
        _array(FULL // 131_100)
        + (b"\x97" + HEAD + b"\x90" + _array(65_536) + b"\x91\xa0" * 65_536 + b"\x90\x00\x90") * (FULL // 131_100)
    ),
    "millions_of_blocks_without_rows": lambda: _squeeze(
        _array(FULL // 10) + (b"\x97" + HEAD + b"\x90\x90\x90\x00\x90") * (FULL // 10)
    ),
    "as_many_short_texts_as_fit": lambda: _squeeze(
        b"\x91\x9b"
        + HEAD
        + b"\x90\x91\x91\xa0"
        + _array(1)
        + b"\x00\x00"
        + _array(1)
        + b"\x00\x80\x80\x80"
        + b"\xde\x00\x2a"
        + b"".join(b"\xa3c%02d" % column + _array(65_536) + b"\xa2xy" * 65_536 for column in range(42))
    ),
    "as_many_small_integers_as_floats_as_fit": lambda: _squeeze(
        b"\x91\x98"
        + HEAD
        + b"\x90\x91\x91\xa0"
        + _array(1)
        + b"\x00\x00"
        + _array(1)
        + b"\x00"
        + b"\xde\x00\x7f"
        + b"".join(b"\xa4c%03d" % column + _array(65_536) + b"\x05" * 65_536 for column in range(127))
    ),
    "deep_nesting": lambda: _squeeze(b"\x91" * FULL),
}
"""By name what makes the body."""

BATCHES: dict[str, Callable[[], bytes]] = {
    "a_body_of_four_gigabytes_declared": lambda: _batch(b"\x90\xc6\xff\xff\xff\xff"),
    "deep_nesting_in_place_of_the_envelope": lambda: _batch(b"\x91" * MAX_BATCH_BYTES),
    "an_account_of_a_million_intervals": lambda: (
        b"\x93\x01\x9a\xa1p\xa1e\x00\x00\x00\x00\x00\x00\xa0\x92\x00\x91\x93\xa1e\xa1b\x91\x98\x00\x00\x00\x00\x00\x00"
        + _array(1_300_000)
        + b"\x92\x00\x01" * 1_300_000
        + b"\x91"
        + b"\xc4\x00"
    ),
    "an_account_of_empty_epochs": lambda: (
        b"\x93\x01\x9a\xa1p\xa1e\x00\x00\x00\x00\x00\x00\xa0\x92\x00"
        + _array(1_000_000)
        + b"\x93\xa0\xa0\x90" * 1_000_000
        + b"\xc4\x00"
    ),
}
"""By name what makes the batch."""


def main() -> None:
    """Decode the input named by the first argument; print as JSON the error's class, the seconds and the memory."""
    name = sys.argv[1]
    data = (BODIES.get(name) or BATCHES[name])()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    current = int(Path("/proc/self/status").read_text().partition("VmSize:")[2].split()[0])
    limit = (current << 10) + (1 << 29)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = time.process_time()
    try:
        if name in BODIES:
            decode_body(data)
        else:
            check_batch(decode_batch(data))
        outcome = "taken"
    except WireError as error:
        outcome = type(error).__name__
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    sys.stdout.write(json.dumps({"outcome": outcome, "seconds": seconds, "grown": grown, "input": len(data)}))


if __name__ == "__main__":
    main()

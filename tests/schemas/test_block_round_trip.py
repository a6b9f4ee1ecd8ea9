"""Whatever a publisher may send arrives as it was sent."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import Block, Envelope
from schemas.codec import (
    MAX_BATCH_BYTES,
    check_batch,
    decode_batch,
    decode_body,
    encode_batch,
    encode_body,
)
from schemas.errors import MalformedError, TooLargeError
from schemas.verbosity import Level, RowClass
from tests.schemas.strategies import blocks, envelopes


def one(**columns: object) -> Block:
    """Give a block of one row with the columns of one group."""
    block = Block("gpu", "node-1", [], [["gpu:0"]], [0], 1_700_000_000_000_000_000, [0])
    for group, values in columns.items():
        setattr(block, group, values)
    return block


@given(st.lists(blocks(), max_size=4))
def test_every_block_comes_back_equal(sent: list[Block]) -> None:
    assert sent == decode_body(encode_body(sent))


@given(blocks())
def test_every_value_keeps_its_type_and_absent_stays_none(sent: Block) -> None:
    (got,) = decode_body(encode_body([sent]))
    for group in ("floats", "ints", "bools", "strings"):
        types = {name: [type(value) for value in column] for name, column in getattr(sent, group).items()}
        assert types == {name: [type(value) for value in column] for name, column in getattr(got, group).items()}


@given(envelopes, st.binary(max_size=200))
def test_every_envelope_comes_back_equal_with_its_body_closed(sent: Envelope, body: bytes) -> None:
    batch = decode_batch(encode_batch(sent, body))
    assert (sent, body) == (batch.envelope, batch.body)


@given(st.lists(blocks(), min_size=1, max_size=3))
def test_a_batch_opens_when_the_envelope_counts_its_rows(sent: list[Block]) -> None:
    rows = sum(len(block.rows) for block in sent)
    envelope = Envelope("node-1", "e1", RowClass.TELEMETRY, Level.STANDARD, 0, rows, 0)
    assert sent == check_batch(decode_batch(encode_batch(envelope, encode_body(sent))))


def test_bytes_and_memoryview_decode_alike() -> None:
    data = encode_batch(Envelope("n", "e", RowClass.EVENT, Level.ESSENTIAL, 0, 0, 0), b"")
    assert decode_batch(data) == decode_batch(memoryview(data))
    body = encode_body([one(ints={"x": [1]})])
    assert decode_body(body) == decode_body(memoryview(body))


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1, 2**63, 2**64 - 1, 0, -1])
def test_the_edges_of_64_bit_integers_arrive(value: int) -> None:
    (got,) = decode_body(encode_body([one(ints={"x": [value]})]))
    assert [value] == got.ints["x"]


@pytest.mark.parametrize("value", [math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308])
def test_the_edges_of_floats_arrive(value: float) -> None:
    (got,) = decode_body(encode_body([one(floats={"x": [value]})]))
    (number,) = got.floats["x"]
    assert number is not None
    assert (value, math.copysign(1, value)) == (number, math.copysign(1, number))


def test_absent_is_none_not_zero() -> None:
    """Promise: a value that was not reported is never 0."""
    (got,) = decode_body(
        encode_body([one(floats={"a": [None]}, ints={"b": [None]}, bools={"c": [None]}, strings={"d": [None]})])
    )
    values = [*got.floats["a"], *got.ints["b"], *got.bools["c"], *got.strings["d"]]
    assert [None, None, None, None] == values


def test_many_keys_and_a_long_text_arrive() -> None:
    keys = [[f"vf:{index}", str(index)] for index in range(5000)]
    block = Block("vf", "n", ["index"], keys, list(range(5000)), 5, [0, *[1] * 4999])
    block.strings["note"] = [*["x" * 100] * 4999, "\N{SNOWMAN}" * 100_000]
    assert [block] == decode_body(encode_body([block]))


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**30])
def test_an_integer_beyond_64_bits_is_refused_where_it_is_sent(value: int) -> None:
    with pytest.raises(MalformedError, match="cannot travel"):
        encode_body([one(ints={"x": [value]})])


def test_half_a_surrogate_pair_is_refused_where_it_is_sent() -> None:
    with pytest.raises(MalformedError, match="cannot travel"):
        encode_body([one(strings={"x": ["\udcff"]})])


def test_a_body_over_the_limit_is_refused_where_it_is_sent() -> None:
    with pytest.raises(TooLargeError, match="send fewer rows"):
        encode_body([one(strings={"x": ["x" * (9 << 20)]})])


def test_a_batch_over_the_limit_is_refused_where_it_is_sent() -> None:
    with pytest.raises(TooLargeError, match="send fewer rows"):
        encode_batch(Envelope("n", "e", RowClass.LOG, Level.DEBUG, 0, 1, 0), bytes(MAX_BATCH_BYTES))


def test_a_heartbeat_is_a_batch_without_body() -> None:
    batch = decode_batch(encode_batch(Envelope("n", "e", RowClass.EVENT, Level.ESSENTIAL, 7, 0, 9), b""))
    assert [] == check_batch(batch)
    assert (7, 7) == (batch.envelope.first, batch.envelope.end)

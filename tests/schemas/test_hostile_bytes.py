"""Bytes from anybody become blocks or a typed error, and nothing else (DESIGN part 5, promise 8)."""

from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.batch import WIRE_VERSION, Batch, Block, Envelope
from schemas.codec import (
    MAX_BATCH_BYTES,
    MAX_BODY_BYTES,
    MAX_ENVELOPE_BYTES,
    MAX_NUMBER,
    check_batch,
    decode_batch,
    decode_body,
    encode_batch,
    encode_body,
)
from schemas.errors import MalformedError, TooLargeError, WireError
from schemas.verbosity import Level, RowClass
from tests.schemas.strategies import blocks, envelopes

BLOCK: list[Any] = ["gpu", "n", ["link"], [["gpu:0", "a"]], [0, 0], 5, [0, 1], {"x": [1.5, None]}, {}, {}, {}]
ENVELOPE: list[Any] = ["node", "epoch", 0, 1, 0, 2, 0, 0, "", None, ""]


def packed(value: object) -> bytes:
    """Give a body that holds `value`, whatever it is."""
    return zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(value))


def block(**changes: Any) -> bytes:
    """Give a body of the sound block with some elements changed, by index `_3=...`."""
    elements = list(BLOCK)
    for name, value in changes.items():
        elements[int(name[1:])] = value
    return packed([elements])


def batch(*, version: Any = 1, body: Any = b"", **changes: Any) -> bytes:
    """Give the sound batch with some elements of its envelope changed, by index `_3=...`."""
    elements = list(ENVELOPE)
    for name, value in changes.items():
        elements[int(name[1:])] = value
    return msgspec.msgpack.encode([version, elements, body])


def test_the_sound_examples_of_this_file_are_sound() -> None:
    assert decode_body(block())
    assert decode_batch(batch()).envelope.publisher == "node"


@pytest.mark.parametrize(
    "changes",
    [
        {"_8": {"x": [1, 2]}},  # the same column in two groups
        {"_2": ["x"]},  # the same name as attribute and column
        {"_0": "Gpu"},
        {"_2": ["device"]},
        {"_1": ""},
        {"_7": {"x": [1.5]}},
        {"_3": [["gpu:0", "a"], ["gpu:1"]]},
    ],
)
def test_what_a_sound_block_said_before_makes_no_other_one_sound(changes: dict[str, Any]) -> None:
    """Names are looked at once for each shape; everything else each time."""
    for _ in range(2):
        assert decode_body(block())
        with pytest.raises(MalformedError):
            decode_body(block(**changes))


@given(st.binary(max_size=400))
def test_any_bytes_give_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        check_batch(decode_batch(data))
    with pytest.raises(WireError):
        decode_body(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_sound_msgpack_of_another_shape_gives_a_wire_error_or_no_blocks(value: object) -> None:
    try:
        assert decode_body(packed(value)) == []
    except WireError:
        pass


@given(blocks(), st.data())
def test_a_truncated_body_gives_a_wire_error(sent: Block, data: st.DataObject) -> None:
    body = encode_body([sent])
    with pytest.raises(WireError):
        decode_body(body[: data.draw(st.integers(0, len(body) - 1))])


@given(envelopes, st.data())
def test_a_truncated_batch_gives_a_wire_error(sent: Envelope, data: st.DataObject) -> None:
    whole = encode_batch(sent, b"body")
    with pytest.raises(WireError):
        decode_batch(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(blocks(), st.data())
def test_a_flipped_bit_of_a_body_never_changes_a_value_unseen(sent: Block, data: st.DataObject) -> None:
    """The frame carries a checksum: what still decodes is what was sent (a bit may mean nothing to zstd)."""
    body = bytearray(encode_body([sent]))
    place = data.draw(st.integers(0, len(body) * 8 - 1))
    body[place // 8] ^= 1 << place % 8
    try:
        assert [sent] == decode_body(bytes(body))
    except WireError:
        pass


@given(envelopes, st.data())
def test_a_flipped_bit_of_a_batch_gives_a_batch_or_a_wire_error(sent: Envelope, data: st.DataObject) -> None:
    whole = bytearray(encode_batch(sent, b""))
    place = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[place // 8] ^= 1 << place % 8
    try:
        decode_batch(bytes(whole))
    except WireError:
        pass


@pytest.mark.parametrize("index", range(11))
@pytest.mark.parametrize("wrong", [None, True, 1.5, b"x", "\x00", -1, 2**64 - 1, [[]], {"": []}, {1: 2}])
def test_an_element_of_a_wrong_type_in_a_block_gives_a_wire_error(index: int, wrong: object) -> None:
    if BLOCK[index] == {} and wrong == {}:
        return
    with pytest.raises(WireError):
        decode_body(block(**{f"_{index}": wrong}))


@pytest.mark.parametrize("index", [index for index in range(11) if index != 9])
@pytest.mark.parametrize("wrong", [None, True, 1.5, b"x", "\x00", -1, 2**64 - 1, [], {}])
def test_an_element_of_a_wrong_type_in_an_envelope_gives_a_wire_error(index: int, wrong: object) -> None:
    with pytest.raises(WireError):
        decode_batch(batch(**{f"_{index}": wrong}))


def test_extra_elements_are_refused_and_not_overlooked() -> None:
    """A newer sender must raise the wire version; else what it adds would vanish silently."""
    with pytest.raises(MalformedError):
        decode_body(packed([[*BLOCK, {}]]))
    with pytest.raises(MalformedError):
        decode_batch(msgspec.msgpack.encode([1, ENVELOPE, b"", 0]))
    with pytest.raises(MalformedError):
        decode_batch(msgspec.msgpack.encode([1, [*ENVELOPE, 0], b""]))


@pytest.mark.parametrize(
    "changes",
    [
        {"_0": ""},
        {"_0": "Gpu"},
        {"_0": "gpu;drop table"},
        {"_0": "g" * 64},
        {"_1": ""},
        {"_1": "n" * 256},
        {"_1": "n\n1"},
        {"_2": ["link", "link"]},
        {"_2": ["x"]},
        {"_2": ["time"]},
        {"_3": []},
        {"_3": [[]]},
        {"_3": [["gpu:0"]]},
        {"_3": [["gpu:0", "a", "b"]]},
        {"_4": []},
        {"_4": [0]},
        {"_4": [0, 1]},
        {"_4": [0, -1]},
        {"_5": -1},
        {"_5": 2**62},
        {"_6": []},
        {"_6": [0]},
        {"_6": [0, 0]},
        {"_6": [1, 1]},
        {"_6": [0, 2**62]},
        {"_6": [0, -5]},
        {"_7": {"x": [1.5]}},
        {"_7": {"x": [1.5, 2.5, 3.5]}},
        {"_7": {"x": ["1", "2"]}},
        {"_7": {"node": [1.5, 2.5]}},
        {"_8": {"x": [1, 2]}},
        {"_8": {"y": [1.5, 2]}},
        {"_9": {"y": [0, 1]}},
        {"_10": {"y": [b"a", "b"]}},
    ],
    ids=str,
)
def test_a_block_that_cannot_be_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        decode_body(block(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"_0": ""},
        {"_0": "n" * 256},
        {"_0": "a\nb"},
        {"_1": ""},
        {"_1": "e" * 65},
        {"_2": 4},
        {"_3": 4},
        {"_4": MAX_NUMBER + 1},
        {"_5": (1 << 16) + 1},
        {"_6": MAX_NUMBER + 1},
        {"_7": MAX_NUMBER + 1},
        {"_8": "g" * 65},
        {"_10": "d" * 65},
    ],
    ids=str,
)
def test_an_envelope_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((MalformedError, TooLargeError)):
        decode_batch(batch(**changes))


def word(**changes: Any) -> Account:
    """Give a sound account with one stream, some of its facts changed."""
    facts: dict[str, Any] = {"produced": 9, "filtered": 1, "folded": 0, "numbered": 8, "spooled": [], "dropped": []}
    stream = StreamAccount(RowClass.LOG, Level.DEBUG, **{**facts, **changes})
    return Account(1, [EpochAccount("e", "b", [stream])])


@pytest.mark.parametrize(
    "account",
    [
        word(produced=-1),
        word(numbered=MAX_NUMBER + 1),
        word(spooled=[(-1, 4)]),
        word(spooled=[(4, 4)]),
        word(spooled=[(5, 4)]),
        word(spooled=[(0, MAX_NUMBER + 1)]),
        word(dropped=[Dropped("spool_full", [(-3, 4)])]),
        word(dropped=[Dropped("", [(3, 4)])]),
        word(dropped=[Dropped("no such thing", [(3, 4)])]),
        Account(-1, []),
        Account(1, [EpochAccount("", "b", [])]),
        Account(1, [EpochAccount("e" * 65, "b", [])]),
    ],
    ids=repr,
)
def test_an_account_that_cannot_be_added_up_is_malformed(account: Account) -> None:
    envelope = Envelope("n", "e", RowClass.EVENT, Level.ESSENTIAL, 0, 0, 0, account=account)
    with pytest.raises(MalformedError):
        decode_batch(encode_batch(envelope, b""))


def gaps(count: int) -> Envelope:
    """Give an envelope whose account tells of so many gaps, at least 7 bytes each."""
    spooled = [(1 << 20 | 2 * at, 1 << 20 | (2 * at + 1)) for at in range(count)]
    return Envelope("n", "e", RowClass.EVENT, Level.ESSENTIAL, 0, 0, 0, account=word(spooled=spooled))


def test_an_account_is_bounded_at_both_ends() -> None:
    """Decoded as far as a batch may be large, one would keep everybody waiting for 0.4 s."""
    few, many = gaps(20_000), gaps(40_000)
    assert few == decode_batch(encode_batch(few, b"")).envelope
    with pytest.raises(TooLargeError, match="fewer runs and gaps"):
        encode_batch(many, b"")
    data = msgspec.msgpack.encode(Batch(WIRE_VERSION, many, b"x" * (1 << 20)))
    with pytest.raises(TooLargeError, match="an envelope of"):
        decode_batch(data)


def test_a_large_body_is_no_large_envelope() -> None:
    envelope = Envelope("n", "e", RowClass.LOG, Level.DEBUG, 0, 1, 0)
    body = bytes(MAX_BATCH_BYTES - MAX_ENVELOPE_BYTES)
    assert body == decode_batch(encode_batch(envelope, body)).body


@pytest.mark.parametrize(("said", "held"), [(1, 2), (3, 2)])
def test_an_envelope_that_miscounts_its_body_is_malformed(said: int, held: int) -> None:
    body = block(_4=[0] * held)
    with pytest.raises(MalformedError, match=f"says {said} rows, the body holds {held}"):
        check_batch(decode_batch(batch(body=body, _5=said)))


def test_a_heartbeat_with_a_body_is_malformed() -> None:
    with pytest.raises(MalformedError, match="heartbeat"):
        check_batch(decode_batch(batch(body=block(), _5=0)))


def test_deep_nesting_is_malformed_not_a_crash() -> None:
    deep = b"\x91" * 200_000 + b"\x90"
    with pytest.raises(MalformedError):
        decode_body(zstandard.ZstdCompressor().compress(deep))
    with pytest.raises(MalformedError):
        decode_batch(b"\x93\x01" + deep)


def test_text_that_is_not_utf_8_is_malformed() -> None:
    raw = msgspec.msgpack.encode([BLOCK]).replace(b"\xa5gpu:0", b"\xa5gpu\xff0")
    with pytest.raises(MalformedError):
        decode_body(zstandard.ZstdCompressor().compress(raw))


def test_a_frame_that_does_not_state_its_size_is_malformed() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(msgspec.msgpack.encode([BLOCK]))
    with pytest.raises(MalformedError, match="does not state its size"):
        decode_body(frame)


def test_a_frame_of_more_than_the_limit_is_refused_before_it_is_opened() -> None:
    with pytest.raises(TooLargeError, match=str(MAX_BODY_BYTES)):
        decode_body(zstandard.ZstdCompressor().compress(bytes(MAX_BODY_BYTES + 1)))


def test_bytes_after_the_frame_are_malformed() -> None:
    with pytest.raises(MalformedError):
        decode_body(block() + b"x")


def test_a_batch_larger_than_the_limit_is_refused_unread() -> None:
    with pytest.raises(TooLargeError):
        decode_batch(bytes((4 << 20) + 1))


def test_too_many_rows_over_several_blocks_are_too_large() -> None:
    half = Block("gpu", "n", [], [[""]], [0] * 40_000, 5, [0, *[1] * 39_999])
    with pytest.raises(TooLargeError, match="80000 rows"):
        decode_body(encode_body([half, half]))


def test_too_many_columns_over_all_types_are_too_large() -> None:
    wide = Block("gpu", "n", [], [[""]], [0], 5, [0])
    for index in range(300):
        wide.floats[f"f{index}"] = [None]
        wide.ints[f"i{index}"] = [None]
    with pytest.raises(TooLargeError, match="600 columns"):
        decode_body(encode_body([wide]))

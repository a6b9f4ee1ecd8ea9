"""Every message carries its wire version, and an unknown one gets a typed refusal that says what is understood."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import UNDERSTOOD, WIRE_VERSION, Envelope
from schemas.codec import check_version, decode_batch, encode_batch
from schemas.errors import MalformedError, UnknownVersionError
from schemas.verbosity import Level, RowClass

unknown = st.integers(0, 2**16 - 1).filter(lambda version: version not in UNDERSTOOD)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(0, 2**32) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_this_program_reads_what_it_writes() -> None:
    assert WIRE_VERSION in UNDERSTOOD


def test_from_version_2_on_the_one_before_is_read_as_well() -> None:
    assert set(range(max(1, WIRE_VERSION - 1), WIRE_VERSION + 1)) <= set(UNDERSTOOD)


@given(unknown, st.lists(anything, max_size=40))
def test_an_unknown_version_is_named_with_what_is_understood_whatever_follows(version: int, rest: list[Any]) -> None:
    """The rest of a later version has a shape that nobody here can know, more than 15 elements included."""
    with pytest.raises(UnknownVersionError) as caught:
        decode_batch(msgspec.msgpack.encode([version, *rest]))
    assert (version, UNDERSTOOD) == (caught.value.version, caught.value.understood)
    assert f"version {version} is not understood here; understood: {', '.join(map(str, UNDERSTOOD))}" in str(
        caught.value
    )


def test_an_unknown_version_is_refused_even_when_the_rest_has_this_shape() -> None:
    data = bytearray(encode_batch(Envelope("n", "e", RowClass.EVENT, Level.ESSENTIAL, 0, 0, 0), b""))
    assert WIRE_VERSION == data[1]
    data[1] = WIRE_VERSION + 1
    with pytest.raises(UnknownVersionError):
        decode_batch(bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"\x90", b"\x93", b"\x93\xc0", b"\x93\xcd\x01", b"\xdc\x00", b"{}", b"\x81\x01\x01"]
)
def test_what_does_not_start_with_a_version_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError, match="does not start with a wire version"):
        check_version(data)


@pytest.mark.parametrize("version", ["1", 1.0, None, True, [1], -1])
def test_a_version_that_is_no_whole_number_is_malformed(version: object) -> None:
    with pytest.raises(MalformedError):
        decode_batch(msgspec.msgpack.encode([version, [], b""]))


@given(st.binary(max_size=20))
def test_reading_the_version_of_any_bytes_answers_or_refuses(data: bytes) -> None:
    try:
        check_version(data)
    except (MalformedError, UnknownVersionError):
        pass

"""Control messages round-trip, and whatever else the bytes are, the answer is a typed error."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import control
from schemas.batch import WIRE_VERSION
from schemas.control import (
    Ack,
    CollectorReport,
    ControlAnswer,
    ControlRequest,
    Grant,
    Machine,
    Message,
    ResendDocuments,
    SetGrants,
    TokenRotated,
    Watch,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from schemas.errors import MalformedError, TooLargeError, UnknownVersionError, WireError
from schemas.verbosity import Level, RowClass

names = st.text(min_size=1, max_size=20)
seconds = st.floats(0, 1e6)
grants = st.builds(
    Grant, names, st.sampled_from(Level), st.text(max_size=9), st.none() | st.sampled_from(RowClass), seconds
)
messages = st.one_of(
    st.builds(SetGrants, names, st.integers(0, 1 << 40), st.lists(grants, max_size=3)),
    st.builds(Watch, names, seconds),
    st.builds(ResendDocuments, names),
    st.builds(TokenRotated, names, names, seconds),
)
requests = st.builds(
    ControlRequest,
    st.just(WIRE_VERSION),
    names,
    names,
    names,
    st.lists(names, max_size=3),
    st.lists(st.builds(Ack, names, st.text(max_size=9)), max_size=3),
    seconds,
    st.none() | st.builds(Machine, names, names, st.dictionaries(names, st.integers(0, 9), max_size=3)),
    st.none() | st.lists(st.builds(CollectorReport, names, names, last_seconds=st.none() | seconds), max_size=3),
)


@given(st.lists(messages, max_size=5))
def test_every_answer_round_trips(told: list[Message]) -> None:
    assert ControlAnswer(WIRE_VERSION, told) == decode_answer(encode_answer(told))


@given(requests)
def test_every_request_round_trips(request_: ControlRequest) -> None:
    assert request_ == decode_request(encode_request(request_))


@given(requests, st.data())
def test_a_request_that_was_cut_short_is_a_wire_error(request_: ControlRequest, data: st.DataObject) -> None:
    raw = encode_request(request_)
    with pytest.raises(WireError):
        decode_request(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(requests, st.data())
def test_a_request_with_a_changed_byte_is_a_request_or_a_wire_error(
    request_: ControlRequest, data: st.DataObject
) -> None:
    raw = bytearray(encode_request(request_))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(decode_request(bytes(raw)), ControlRequest)
    except WireError:
        pass


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_wire_error(raw: bytes) -> None:
    for decode in (decode_answer, decode_request):
        try:
            decode(raw)
        except WireError:
            pass


def test_a_version_from_the_future_is_refused_with_what_is_understood() -> None:
    raw = msgspec.msgpack.encode([WIRE_VERSION + 1, "something", "new"])
    for decode in (decode_answer, decode_request):
        with pytest.raises(UnknownVersionError, match=r"version 2 is not understood here; understood: 1"):
            decode(raw)


def test_limits() -> None:
    def request(**changes: object) -> bytes:
        plain = ControlRequest(WIRE_VERSION, "n1", "e1", "b1", [])
        return encode_request(msgspec.structs.replace(plain, **changes))

    decode_request(request())
    for changes, error in (
        ({"publisher": ""}, MalformedError),
        ({"epoch": "x" * 256}, MalformedError),
        ({"wait": float("nan")}, MalformedError),
        ({"wait": -1.0}, MalformedError),
        ({"predecessors": ["e"] * 1025}, TooLargeError),
        ({"acks": [Ack("a")] * 1025}, TooLargeError),
        ({"boot": "x" * control.MAX_CONTROL_BYTES}, TooLargeError),
    ):
        with pytest.raises(error):
            decode_request(request(**changes))


def test_a_request_of_an_agent_that_knows_no_goodbye_is_read_as_before() -> None:
    """The field came later: without it the run goes on."""
    plain = msgspec.msgpack.decode(encode_request(ControlRequest(WIRE_VERSION, "n1", "e1", "b1", [], leaving=True)))
    assert [True, None, None] == plain[-3:]  # it knows nothing of claims either
    del plain[-3:]
    assert decode_request(msgspec.msgpack.encode(plain)).leaving is False


def test_a_token_on_its_way_is_not_shown() -> None:
    shown = repr(ControlAnswer(WIRE_VERSION, [TokenRotated("m1", "mst_secret", 5.0)]))
    assert ("mst_secret" in shown, "m1" in shown) == (False, True)

"""How streams are cut into messages (RFC 6587)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.syslog_framing import MARK, Framer, Framing, cut

LIMIT = 64


def run(*pieces: bytes, limit: int = LIMIT, orderly: bool = True, framing: Framing = Framing.AUTO) -> list[bytes]:
    framer = Framer(limit, framing)
    frames = [frame for piece in pieces for frame in framer.feed(piece)]
    return frames + framer.close(orderly=orderly)


def test_both_framings_are_told_apart_frame_by_frame() -> None:
    assert [b"<1>a", b"<2>b\nc", b"<3>d", b"e"] == run(b"<1>a\n6 <2>b\nc<3>d\n1 e")


def test_empty_lines_are_filler_and_no_messages() -> None:
    assert [b"<1>a", b"<2>b"] == run(b"\n\n4 <1>a\n\n<2>b\n\n")


def test_last_line_of_an_orderly_close_needs_no_end() -> None:
    assert [b"<1>a", b"<2>b"] == run(b"<1>a\n<2>b")


def test_incomplete_counted_frame_is_given_with_a_mark() -> None:
    assert [b"<1>a" + MARK] == run(b"9 <1>a")


def test_incomplete_line_of_a_broken_connection_is_given_with_a_mark() -> None:
    framer = Framer(LIMIT)
    assert [] == framer.feed(b"<1>a")
    assert [b"<1>a" + MARK] == framer.close(orderly=False)
    assert 1 == framer.truncated


def test_frame_of_exactly_the_limit_is_whole() -> None:
    text = b"x" * LIMIT
    assert [text, text] == run(text + b"\n64 " + text)


@pytest.mark.parametrize("tail", [b"5 9 bad 1 ", b"\n<1>no frame\n"])
def test_oversized_counted_frame_is_cut_and_swallowed_exactly(tail: bytes) -> None:
    """Framing is never detected inside the remainder, whatever it looks like."""
    body = b"x" * LIMIT + tail
    framer = Framer(LIMIT)
    frames = framer.feed(b"%d " % len(body) + body + b"<2>next\n")
    assert [b"x" * LIMIT + MARK, b"<2>next"] == frames
    assert 1 == framer.truncated


def test_oversized_line_is_cut_and_swallowed_up_to_its_end() -> None:
    framer = Framer(LIMIT)
    frames = framer.feed(b"<1>" + b"x" * 100) + framer.feed(b"yy 7 zz") + framer.feed(b"z\n<2>next\n")
    assert [b"<1>" + b"x" * 61 + MARK, b"<2>next"] == frames
    assert 1 == framer.truncated


def test_oversized_message_is_given_before_the_rest_has_come() -> None:
    framer = Framer(LIMIT)
    assert [b"x" * LIMIT + MARK] == framer.feed(b"1000000 " + b"x" * LIMIT)
    assert [] == framer.feed(b"x" * 5000)


@pytest.mark.parametrize("bad", [b"12x<1>a", b"12345678901 <1>a", b"2024-01-01 text\n"])
def test_count_that_is_none_breaks_the_stream_and_its_text_is_kept(bad: bytes) -> None:
    framer = Framer(LIMIT)
    assert [b"<1>ok", bad] == framer.feed(b"<1>ok\n" + bad)
    assert framer.broken
    assert [] == framer.feed(b"<1>later\n") + framer.close(orderly=True)


def test_ten_digits_are_a_count() -> None:
    framer = Framer(LIMIT)
    assert [] == framer.feed(b"9999999999")
    assert [] == framer.feed(b" x")
    assert not framer.broken


def test_line_framing_takes_digits_as_text() -> None:
    assert [b"2024-01-01 text", b"5 apples"] == run(b"2024-01-01 text\n5 apples\n", framing=Framing.LINE)


def test_octet_framing_refuses_lines() -> None:
    framer = Framer(LIMIT, Framing.OCTET)
    assert [b"<1>a", b"<2>b\n"] == framer.feed(b"4 <1>a\r\n<2>b\n")
    assert framer.broken


def test_zero_is_no_count_but_text() -> None:
    assert [b"0 a"] == run(b"0 a\n")


def test_local_streams_end_messages_in_nul_too() -> None:
    """The C library's syslog(3) ends each message in NUL on a stream socket."""
    framer = Framer(LIMIT, terminators=b"\n\0")
    assert [b"<1>a", b"<2>b", b"<3>c"] == framer.feed(b"<1>a\0<2>b\n<3>c\0\0")


@pytest.mark.parametrize(
    ("data", "limit", "kept"),
    [
        (b"abc", 9, b"abc"),
        (b"abc", 2, b"ab"),
        ("aé".encode(), 2, b"a"),
        ("aé".encode(), 3, "aé".encode()),
        ("€".encode(), 2, b""),
        ("a\U0001f600".encode(), 4, b"a"),
        (b"\x80\x80\x80\x80\x80", 4, b"\x80\x80\x80\x80"),
        (b"", 4, b""),
    ],
)
def test_cut_splits_no_character(data: bytes, limit: int, kept: bytes) -> None:
    assert kept == cut(data, limit)


texts = st.binary(min_size=1, max_size=2 * LIMIT).filter(lambda text: b"\n" not in text)
counted = texts.map(lambda text: (b"%d " % len(text) + text, text))
lines = texts.filter(lambda text: not 49 <= text[0] <= 57).map(lambda text: (text + b"\n", text))


def shortened(text: bytes) -> bytes:
    return text if len(text) <= LIMIT else cut(text, LIMIT) + MARK


@given(st.lists(st.one_of(counted, lines)), st.data())
def test_messages_are_the_same_however_the_stream_is_split(
    frames: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(frame for frame, _ in frames)
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
    assert [shortened(text) for _, text in frames] == run(*pieces)


@given(st.lists(st.one_of(counted, lines), max_size=6))
def test_single_bytes_give_the_same_messages(frames: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(frame for frame, _ in frames)
    assert [shortened(text) for _, text in frames] == run(*(stream[at : at + 1] for at in range(len(stream))))


@given(st.lists(st.binary(max_size=100)), st.sampled_from(Framing))
def test_any_bytes_are_taken_and_memory_is_bounded(pieces: list[bytes], framing: Framing) -> None:
    framer = Framer(LIMIT, framing)
    for piece in pieces:
        frames = framer.feed(piece)
        assert all(0 < len(frame) <= LIMIT + len(MARK) for frame in frames)
        assert len(framer._pending) <= LIMIT + 11
    framer.close(orderly=False)

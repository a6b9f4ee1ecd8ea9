"""What a message becomes, whatever it is (RFC 3164, RFC 5424)."""

import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.syslog_listener import Counts
from collectors.syslog_parser import Parser
from collectors.syslog_rows import Rows
from schemas.verbosity import level_of_severity
from tests.collectors.syslog.harness import flat

ENDS = "\0\r\n"


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


def parse(
    *messages: bytes, now: str = "2024-06-01T00:00:00Z", zone: tzinfo | None = UTC, counts: Counts | None = None
) -> list[dict[str, Any]]:
    rows = Rows("node-1", lambda: ns(now))
    counts = counts or Counts()
    taken = Parser(lambda: ns(now), zone).parse(messages, "udp", rows, counts)
    assert rows.number == taken
    return flat(rows.take())


def time_of(message: bytes, now: str, zone: tzinfo | None = UTC) -> int | None:
    (row,) = parse(message, now=now, zone=zone)
    return row.get("source_time_ns")


@pytest.mark.parametrize("form", [b"<%d>1 - - - - - - x", b"<%03d>1 - - - - - - x", b"<%d>x"])
def test_priority_gives_severity_facility_and_level(form: bytes) -> None:
    rows = parse(*(form % priority for priority in range(192)))
    expected = [(pri & 7, pri >> 3, level_of_severity(pri & 7).word) for pri in range(192)]
    assert expected == [(row["severity"], row["facility"], row["level"]) for row in rows]


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2024-01-01T00:00:05Z", "Dec 31 23:59:59", "2023-12-31T23:59:59Z"),
        ("2023-12-31T23:59:59Z", "Jan  1 00:00:02", "2024-01-01T00:00:02Z"),
        ("2023-12-31T23:59:59Z", "Dec 31 23:59:59", "2023-12-31T23:59:59Z"),
        ("2024-06-01T00:00:00Z", "Jun  7 00:00:00", "2024-06-07T00:00:00Z"),
        ("2024-06-01T00:00:00Z", "Jun 20 00:00:00", "2023-06-20T00:00:00Z"),
        ("2024-06-01T00:00:00Z", "Feb 29 00:00:00", "2024-02-29T00:00:00Z"),
        ("2024-01-01T00:00:00Z", "Feb 29 00:00:00", "2024-02-29T00:00:00Z"),
    ],
)
def test_year_that_is_not_told_is_the_last_that_fits(now: str, text: str, expected: str) -> None:
    assert ns(expected) == time_of(f"<13>{text} web1 app: x".encode(), now)


def test_year_that_was_inferred_is_not_remembered_for_ever() -> None:
    now = [ns("2023-06-01T00:00:00Z")]
    parser, rows = Parser(lambda: now[0], UTC), Rows("node-1", lambda: now[0])
    parser.parse([b"<13>May  1 00:00:00 web1 app: x"], "udp", rows, Counts())
    now[0] = ns("2024-06-01T00:00:00Z")
    parser.parse([b"<13>May  1 00:00:00 web1 app: x"], "udp", rows, Counts())
    assert [ns("2023-05-01T00:00:00Z"), ns("2024-05-01T00:00:00Z")] == [
        row["source_time_ns"] for row in flat(rows.take())
    ]


def test_time_without_zone_is_in_the_zone_asked_for() -> None:
    zone = timezone(timedelta(hours=2))
    expected = ns("2024-05-01T10:00:00Z")
    assert expected == time_of(b"<13>May  1 12:00:00 web1 app: x", "2024-06-01T00:00:00Z", zone)
    assert expected == time_of(b"<13>2024-05-01T12:00:00 web1 app: x", "2024-06-01T00:00:00Z", zone)


def test_time_without_zone_is_this_machines_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX-3")
    time.tzset()
    try:
        assert ns("2024-05-01T09:00:00Z") == time_of(b"<13>May  1 12:00:00 w a: x", "2024-06-01T00:00:00Z", None)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("fraction", ["1", "12", "123", "1234", "12345", "123456"])
def test_fraction_of_a_second_is_exact(fraction: str) -> None:
    expected = ns("2024-05-01T12:00:00Z") + int(fraction.ljust(9, "0"))
    assert expected == time_of(f"<13>1 2024-05-01T12:00:00.{fraction}Z - - - - -".encode(), "2024-06-01T00:00:00Z")
    assert expected == time_of(f"<13>2024-05-01T12:00:00.{fraction}Z h a: x".encode(), "2024-06-01T00:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "2024-13-01T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+00:60",
    ],
)
def test_impossible_time_is_absent_and_counted_not_zero(text: str) -> None:
    counts = Counts()
    rows = parse(f"<13>1 {text} h a - - - x".encode(), f"<13>{text} h a: x".encode(), counts=counts)
    assert [("x", "h", "a")] * 2 == [(row["message"], row["host"], row["app"]) for row in rows]
    assert not any("source_time_ns" in row for row in rows)
    assert 2 == counts.malformed_total


def test_impossible_time_is_counted_each_time_though_it_is_remembered() -> None:
    counts = Counts()
    parse(*[b"<13>1 2024-02-30T00:00:00Z h a - - - x"] * 3, *[b"<13>Feb 30 00:00:00 h a: x"] * 3, counts=counts)
    assert 6 == counts.malformed_total


def test_empty_messages_are_counted_and_no_rows() -> None:
    counts = Counts()
    assert [] == parse(b"", b"\0\r\n", b"\n", counts=counts)
    assert 3 == counts.malformed_total


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0", b"\n\0"])
def test_only_trailing_ends_are_stripped(end: bytes) -> None:
    (row,) = parse(b"<13>1 - - - - - - a\0b\r\nc" + end)
    assert "a\0b\r\nc" == row["message"]


def test_byte_order_mark_is_dropped_only_where_rfc_5424_allows_one() -> None:
    (row, other) = parse("<13>1 - - - - - - \ufeffa\ufeff".encode(), b"<13>1 - - - - - - a")
    assert ("a\ufeff", "a") == (row["message"], other["message"])


def test_many_distinct_seconds_are_all_right() -> None:
    """More seconds than are remembered."""
    start = ns("2024-01-01T00:00:00Z") // 10**9
    seconds = [start + at for at in range(5000)] + [start]
    stamps = [datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for second in seconds]
    rows = parse(*(f"<13>1 {stamp} - - - - -".encode() for stamp in stamps))
    assert [second * 10**9 for second in seconds] == [row["source_time_ns"] for row in rows]


def test_time_taken_is_linear_in_length() -> None:
    """Nothing that looks like structured data, tags or hosts makes the expressions backtrack (R001-14)."""
    longest = 1 << 17
    hard = [
        b'<13>1 - - - - - [a b="' + b"\\" * longest,
        b"<13>1 - - - - - " + b'[a b="1"]' * (longest // 9) + b"x",
        b"<13>1 - - - - - [a" + b' b="1"' * (longest // 6),
        b"<13>Oct 11 22:14:15 " + b"a[" * (longest // 2),
        b"<13>Oct 11 22:14:15" + b" " * longest,
        b"<13>" + b"a:" * (longest // 2),
        b"1" * longest,
    ]
    started = time.process_time()
    assert len(hard) == len(parse(*hard))
    assert time.process_time() - started < 1.0


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes_become_rows_and_nothing_raises(messages: list[bytes]) -> None:
    empty = sum(not message.decode("utf-8", "backslashreplace").rstrip(ENDS) for message in messages)
    assert len(messages) - empty == len(parse(*messages))


PIECES = [
    *(b"<13>", b"<", b">", b"1 ", b"-", b" ", b"Oct 11 22:14:15", b"2003-10-11T22:14:15.003Z", b"+24:99", b"Feb 30"),
    *(b"[", b"]", b'a="b"', b"app:", b"app[1]", b"\\", b'"', b"\xef\xbb\xbf", b"\xff", b"\0", b"\n", b"host"),
]
near_syslog = st.builds(
    b"".join,
    st.lists(
        st.sampled_from(PIECES),
        max_size=20,
    ),
)


@given(st.lists(near_syslog))
def test_what_looks_like_syslog_never_raises_and_loses_no_row(messages: list[bytes]) -> None:
    empty = sum(not message.decode("utf-8", "backslashreplace").rstrip(ENDS) for message in messages)
    assert len(messages) - empty == len(parse(*messages))


SURROGATES: tuple[Literal["Cs"], ...] = ("Cs",)
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32)
field = printable.filter(lambda text: text != "-")
name = field.map(lambda text: "".join(character for character in text if character not in '= ]"')).filter(bool)
value = st.text(st.characters(exclude_categories=SURROGATES), max_size=20).map(
    lambda text: text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
)
element = st.builds(
    lambda word, pairs: f"[{word}" + "".join(f' {key}="{text}"' for key, text in pairs) + "]",
    name,
    st.lists(st.tuples(name, value), max_size=4),
)
text_body = st.text(st.characters(exclude_categories=SURROGATES), max_size=80).filter(
    lambda text: text == text.rstrip(ENDS) and not text.startswith("\ufeff")
)


@given(
    st.integers(0, 191),
    st.none() | st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)),  # noqa: DTZ001 (the zone is drawn apart)
    st.integers(-23 * 60, 23 * 60),
    *([st.none() | field] * 4),
    st.none() | st.lists(element, min_size=1, max_size=3).map("".join),
    st.none() | text_body,
)
def test_every_valid_rfc_5424_message_is_read_back(
    priority: int,
    moment: datetime | None,
    offset: int,
    host: str | None,
    app: str | None,
    process: str | None,
    message_id: str | None,
    data: str | None,
    message: str | None,
) -> None:
    when = "-"
    if moment is not None:
        sign = "-" if offset < 0 else "+"
        zone = f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
        when = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06}{zone}"
        moment = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    fields = " ".join(part or "-" for part in (host, app, process, message_id, data))
    wire = f"<{priority}>1 {when} {fields}" + ("" if message is None else f" {message}")
    counts = Counts()
    (row,) = parse(wire.encode(), counts=counts)
    expected = {
        "host": host,
        "app": app,
        "process_id": process,
        "message_id": message_id,
        "structured_data": data,
        "message": message or None,
        "severity": priority & 7,
        "facility": priority >> 3,
        "source_time_ns": None
        if moment is None
        else (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000,
    }
    assert expected == {key: row.get(key) for key in expected}
    assert 0 == counts.malformed_total


WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
word = st.text(WORD, min_size=1, max_size=12)
tag = st.text(WORD + "0123456789-_./", min_size=1, max_size=32).filter(lambda text: text[0] in WORD)
host_name = st.text(WORD + "0123456789.-", min_size=1, max_size=40).filter(lambda text: text[0] in WORD)


@given(
    st.integers(0, 191),
    st.datetimes(datetime(2023, 6, 10), datetime(2024, 5, 30)).map(lambda at: at.replace(microsecond=0)),  # noqa: DTZ001
    st.none() | host_name,
    tag,
    st.none() | st.integers(1, 1 << 22),
    st.lists(word, min_size=1, max_size=8).map(" ".join),
    st.sampled_from(["", "year", "year last", "fraction"]),
)
def test_every_message_of_rfc_3164_is_read_back(
    priority: int, moment: datetime, host: str | None, app: str, process: int | None, message: str, form: str
) -> None:
    """The grammar of part 4.1, and what devices add to its time. `now` is less than a year later."""
    day = f"{moment:%b} {moment.day:2}"
    clock = f"{moment:%H:%M:%S}" + (".125" if form == "fraction" else "")
    stamp = {"year": f"{day} {moment.year} {clock}", "year last": f"{day} {clock} {moment.year}"}.get(
        form, f"{day} {clock}"
    )
    name = f"{host} " if host else ""
    wire = f"<{priority}>{stamp} {name}{app}" + (f"[{process}]" if process else "") + f": {message}"
    counts = Counts()
    (row,) = parse(wire.encode(), now="2024-05-30T12:00:00Z", counts=counts)
    when = moment.replace(tzinfo=UTC, microsecond=125_000 if form == "fraction" else 0)
    expected = {
        "host": host,
        "app": app,
        "process_id": None if process is None else str(process),
        "message": message,
        "severity": priority & 7,
        "facility": priority >> 3,
        "source_time_ns": (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000,
    }
    assert expected == {key: row.get(key) for key in expected}
    assert 0 == counts.malformed_total


@given(st.integers(0, 10**9), st.sampled_from(["UTC", "EST", "PDT", "XYZ"]), word, st.none() | host_name)
def test_every_message_in_ciscos_form_is_read_back(sequence: int, zone: str, message: str, host: str | None) -> None:
    origin = f"{host}: " if host else ""
    (row,) = parse(f"<189>{sequence}: {origin}*Jan  2 03:04:05.123 {zone}: %SYS-5-X_Y: {message}".encode(),
                   now="2024-01-02T23:00:00Z")  # fmt: skip
    hours = {"EST": 5, "PDT": 7}.get(zone, 0)
    assert (sequence, host, "%SYS-5-X_Y", message) == (
        row["sequence"], row.get("host"), row["app"], row["message"])  # fmt: skip
    assert ns("2024-01-02T03:04:05Z") + 123_000_000 + hours * 3600 * 10**9 == row["source_time_ns"]

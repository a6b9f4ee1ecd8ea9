"""How rows become blocks."""

from itertools import pairwise

from collectors.syslog_listener import Counts
from collectors.syslog_parser import Parser
from collectors.syslog_rows import ROWS_A_BLOCK, Rows
from schemas.rows import LOG_METRICS, Event, Parcel, Position
from schemas.verbosity import Level
from tests.collectors.syslog.harness import flat

NOW = 1_700_000_000_000_000_000


def filled(clock: list[int], *messages: bytes, source: str = "udp") -> Rows:
    rows = Rows("node-1", lambda: clock[0])
    Parser(lambda: clock[0]).parse(messages, source, rows, Counts())
    return rows


def test_one_block_a_level_and_source() -> None:
    rows = filled([NOW], b"<0>a", b"<7>b", b"<0>c")
    Parser(lambda: NOW).parse([b"<0>d"], "tcp", rows, Counts())
    parcels = [item for item in rows.take() if isinstance(item, Parcel)]
    found = [(item.level, item.block.keys, item.block.strings["message"]) for item in parcels]
    assert [
        (Level.ESSENTIAL, [["", "udp"]], ["a", "c"]),
        (Level.DEBUG, [["", "udp"]], ["b"]),
        (Level.ESSENTIAL, [["", "tcp"]], ["d"]),
    ] == found


def test_columns_are_those_that_are_declared() -> None:
    rows = filled([NOW], b'<13>1 2003-10-11T22:14:15.003Z h a p m [x y="z"] t')
    rows.note("peer", "c", 0)
    (parcel,) = rows.take()
    assert isinstance(parcel, Parcel)
    columns = {*parcel.block.strings, *parcel.block.ints}
    assert columns | {"sequence", "unit", "copies", "first_time_ns", "last_time_ns"} == {
        spec.field for spec in LOG_METRICS
    }


def test_column_in_which_nothing_was_reported_is_left_out() -> None:
    (parcel,) = filled([NOW], b"<13>x").take()
    assert isinstance(parcel, Parcel)
    assert ["message"] == list(parcel.block.strings)
    assert ["severity", "facility"] == list(parcel.block.ints)


def test_further_column_belongs_to_the_rows_it_was_noted_for_and_to_this_unit() -> None:
    rows = filled([NOW], b"<13>a")
    Parser(lambda: NOW).parse([b"<13>b", b"<0>c"], "udp", rows, Counts())
    rows.note("peer", "sender", 1)
    items = rows.take()
    Parser(lambda: NOW).parse([b"<13>d"], "udp", rows, Counts())
    found = {row["message"]: row.get("peer") for row in flat([*items, *rows.take()])}
    assert {"a": None, "b": "sender", "c": "sender", "d": None} == found


def test_order_of_arrival_is_kept_over_levels() -> None:
    messages = [b"<%d>%d" % (at % 8, at) for at in range(100)]
    assert [str(at) for at in range(100)] == [row["message"] for row in flat(filled([NOW], *messages).take())]


def test_block_holds_at_most_its_rows() -> None:
    parcels = filled([NOW], *[b"<13>x"] * (2 * ROWS_A_BLOCK + 1)).take()
    sizes = [len(item.block.rows) for item in parcels if isinstance(item, Parcel)]
    assert [ROWS_A_BLOCK, ROWS_A_BLOCK, 1] == sizes


def test_no_time_is_given_twice_though_the_clock_stands_or_steps_back_a_little() -> None:
    clock = [NOW]
    rows = filled(clock, b"<13>a", b"<12>b")
    items = rows.take()
    for step in (0, -500_000_000):
        clock[0] = NOW + step
        Parser(lambda: NOW).parse([b"<13>c", b"<12>d"], "udp", rows, Counts())
        items += rows.take()
    times = [row["time"] for row in flat(items)]
    assert 6 == len(times)
    assert all(earlier < later for earlier, later in pairwise(times))


def test_clock_that_steps_back_far_is_followed() -> None:
    clock = [NOW]
    rows = filled(clock, b"<13>a")
    rows.take()
    clock[0] = NOW - 3_600_000_000_000
    Parser(lambda: NOW).parse([b"<13>b"], "udp", rows, Counts())
    assert [clock[0]] == [row["time"] for row in flat(rows.take())]


def test_events_and_positions_go_with_the_rows_and_after_them() -> None:
    rows = filled([NOW], b"<13>a")
    rows.add(Event(type="log.gap", message="x"))
    rows.add(Position("kmsg:1", "7"))
    assert ["Parcel", "Event", "Position"] == [type(item).__name__ for item in rows.take()]
    assert [] == rows.take()

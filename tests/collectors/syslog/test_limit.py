"""A host that sends too much costs only itself, and what is left out is counted (R001-11)."""

import socket

from hypothesis import given
from hypothesis import strategies as st

from collectors.log_limit import _MOST, LIMITED, Limits
from collectors.syslog_config import SyslogConfig
from collectors.syslog_listener import Counts
from collectors.syslog_parser import Parser
from collectors.syslog_rows import Rows
from schemas.rows import Event, Item, Tally
from tests.collectors.syslog.harness import Running, flat
from tests.ports import free_port

NOW = 1_700_000_000_000_000_000
LIMIT = 10


class Tape:
    """Rows with a limit, and a clock to turn."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rows = Rows("node-1", lambda: NOW + int(self.seconds * 1e9), None, Limits(LIMIT, lambda: self.seconds))
        self.items: list[Item] = []

    def feed(self, host: str, count: int, priority: int = 13) -> None:
        messages = [f"<{priority}>Oct 11 22:14:15 {host} app: {at}".encode() for at in range(count)]
        Parser(lambda: NOW).parse(messages, "udp", self.rows, Counts())
        self.items += self.rows.take()

    def turn(self, seconds: float) -> None:
        self.seconds += seconds
        self.items += self.rows.take()

    @property
    def left_out(self) -> int:
        return sum(item.filtered for item in self.items if isinstance(item, Tally))

    @property
    def told(self) -> list[tuple[object, object]]:
        events = [item for item in self.items if isinstance(item, Event)]
        assert {LIMITED.type} >= {event.type for event in events}
        return [(event.detail["host"], event.detail["records"]) for event in events]


def test_what_is_beyond_is_left_out_counted_and_told_at_once() -> None:
    tape = Tape()
    tape.feed("mad", 100)
    tape.feed("calm", 3)
    assert (13, 90) == (len(flat(tape.items)), tape.left_out)
    assert [("mad", 90)] == tape.told


def test_next_second_has_room_again() -> None:
    tape = Tape()
    tape.feed("mad", 100)
    tape.turn(1.0)
    tape.feed("mad", 5)
    assert (15, 90) == (len(flat(tape.items)), tape.left_out)


def test_it_is_told_once_a_minute_and_its_end_in_the_end() -> None:
    tape = Tape()
    for _ in range(90):
        tape.feed("mad", 11)
        tape.turn(1.0)
    assert [("mad", 1), ("mad", 59)] == tape.told
    tape.items += tape.rows.finish()
    assert 90 == sum(int(str(records)) for _, records in tape.told) == tape.left_out


def test_more_hosts_than_are_known_share_one_limit() -> None:
    tape = Tape()
    for at in range(_MOST + 50):
        tape.feed(f"host{at}", 1)
    assert (_MOST + LIMIT, 40) == (len(flat(tape.items)), tape.left_out)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.floats(0, 2), st.integers(0, 7)), max_size=20))
def test_sum_is_what_was_fed(steps: list[tuple[str, int, float, int]]) -> None:
    tape = Tape()
    for host, count, seconds, severity in steps:
        tape.feed(host, count, 8 + severity)
        tape.turn(seconds)
    tape.items += tape.rows.finish()
    assert sum(count for _, count, _, _ in steps) == len(flat(tape.items)) + tape.left_out
    assert tape.left_out == sum(int(str(records)) for _, records in tape.told)


def test_operator_sets_it() -> None:
    port = free_port(socket.SOCK_DGRAM)
    config = SyslogConfig(kmsg=False, udp=f"127.0.0.1:{port}", max_records_per_second=5)
    with Running(config) as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for at in range(100):
            sock.sendto(b"<13>Oct 11 22:14:15 mad app: %d" % at, ("127.0.0.1", port))
        running.wait_for(lambda: running.counts(f"udp:127.0.0.1:{port}")["messages_total"] == 100, "all to be read")
        running.end_watch()
        left_out = sum(item.filtered for item in running.items if isinstance(item, Tally))
        assert 100 == running.count() + left_out
        assert left_out > 0
        assert "log.limited" in [event.type for event in running.events()]

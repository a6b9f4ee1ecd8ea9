"""Storms: copies are folded into records with counts, and the sum is exact (R001-11; NVSentinel#1120)."""

import time
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.log_row import Row
from collectors.log_storm import MOST_REMEMBERED, MOST_STORMS, MOST_WINDOWS, QUIET, Storms, mask
from collectors.syslog_listener import Counts
from collectors.syslog_parser import Parser
from collectors.syslog_rows import REMEMBERED, ROWS_A_UNIT, Rows
from schemas.rows import Item, Position, Tally
from schemas.verbosity import Level, RowClass
from tests.collectors.syslog.harness import flat

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
COPIES, WINDOW = 20, 10.0
WARM = COPIES // 4
"""Copies that may pass before they are told apart at all."""


class Tape:
    """Rows with storms, a clock to turn, and everything that came out."""

    def __init__(self, remembered: str = "", copies: int = COPIES) -> None:
        self.seconds = 0.0
        self._remembered = remembered
        self.storms = Storms(copies, WINDOW, lambda: self.seconds, resumable={"kmsg"}, remembered=remembered)
        self.rows = Rows("node-1", lambda: NOW + int(self.seconds * SECOND), self.storms)
        self.items: list[Item] = []
        self.parser = Parser(lambda: NOW)

    def feed(self, *texts: str, source: str = "udp", unit: int = ROWS_A_UNIT) -> None:
        for at in range(0, len(texts), unit):
            messages = [f"<13>app: {text}".encode() for text in texts[at : at + unit]]
            self.parser.parse(messages, source, self.rows, Counts())
            self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        self.seconds += seconds
        self.items += self.rows.take()

    def finish(self) -> None:
        self.items += self.rows.finish()

    @property
    def found(self) -> list[dict[str, Any]]:
        return flat(self.items)

    @property
    def stands_for(self) -> int:
        return sum(row.get("copies", 1) for row in self.found)

    @property
    def folded(self) -> int:
        return sum(item.folded for item in self.items if isinstance(item, Tally))

    @property
    def remembered(self) -> str:
        told = [item.value for item in self.items if isinstance(item, Position) and item.source == REMEMBERED]
        return told[-1] if told else self._remembered


def test_records_that_come_now_and_then_are_left_alone() -> None:
    tape = Tape()
    for _ in range(6):
        tape.feed(*["the same"] * (COPIES // 2), *[f"line {at} of {at * 7:x}" for at in range(COPIES // 2)])
        tape.turn(WINDOW)
    assert 6 * COPIES == len(tape.found) == tape.stands_for
    assert 0 == tape.folded


def test_first_copy_goes_at_once_and_the_count_is_told_at_the_end_of_the_window() -> None:
    tape = Tape()
    tape.feed(*[f"disk {at} failed at 0x{at * 4096:x}" for at in range(1000)])
    at_once = tape.found
    assert "disk 0 failed at 0x0" == at_once[0]["message"]
    assert COPIES <= len(at_once) <= COPIES + WARM
    tape.turn(WINDOW)
    *_, last = tape.found
    assert 1 == len(tape.found) - len(at_once)
    assert "disk 999 failed at 0x3e7000" == last["message"]
    assert 1000 - len(at_once) == last["copies"] == tape.folded + 1
    assert (NOW, NOW) == (last["first_time_ns"], last["last_time_ns"])


def test_first_and_last_time_are_those_of_the_copies() -> None:
    tape = Tape()
    tape.feed(*["x"] * 100)
    tape.turn(1.0)
    tape.feed("x")
    tape.turn(WINDOW)
    last = tape.found[-1]
    assert (NOW, NOW + SECOND) == (last["first_time_ns"], last["last_time_ns"])


def test_count_is_told_two_seconds_after_the_last_copy() -> None:
    tape = Tape()
    tape.feed(*["x"] * 100)
    before = len(tape.found)
    tape.turn(QUIET - 0.5)
    assert before == len(tape.found)
    tape.turn(0.5)
    assert [100 - before] == [row["copies"] for row in tape.found[before:]]


def test_storm_over_several_windows_is_one_record_and_a_long_one_is_told_every_six() -> None:
    tape = Tape()
    windows = 15
    for _ in range(windows * int(WINDOW)):
        tape.feed(*["x"] * 100)
        tape.turn(1.0)
    counted = [row["copies"] for row in tape.found if "copies" in row]
    assert [MOST_WINDOWS * int(WINDOW) * 100] == counted[1:]
    assert counted[1] - COPIES - WARM <= counted[0] <= counted[1]
    tape.turn(QUIET)
    assert 3 == len([row for row in tape.found if "copies" in row])
    assert windows * int(WINDOW) * 100 == tape.stands_for


def test_storm_goes_on_over_windows_and_ends_with_one_that_is_quiet() -> None:
    tape = Tape()
    tape.feed(*["x"] * 100)
    before = len(tape.found)
    tape.turn(WINDOW)
    for _ in range(3):
        tape.feed(*["x"] * 100)
        tape.turn(WINDOW)
    assert [100, 100, 100] == [row["copies"] for row in tape.found[before + 1 :]]
    tape.feed("x", "x")
    tape.turn(WINDOW)
    assert 2 == tape.found[-1]["copies"]
    tape.feed("x")
    assert "copies" not in tape.found[-1]
    assert 403 == tape.stands_for


def test_one_copy_alone_at_the_end_of_a_window_is_a_record_as_any_other() -> None:
    tape = Tape()
    tape.feed(*["x"] * (COPIES + WARM + 1))
    tape.turn(WINDOW)
    assert [None] * (COPIES + WARM + 1) == [row.get("copies") for row in tape.found]
    assert 0 == tape.folded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<13>h app: x", "<12>h app: x"),
        ("<13>Oct 11 22:14:15 web1 app: x", "<13>Oct 11 22:14:15 web2 app: x"),
        ("<13>app: x", "<13>ape: x"),
        ("<13>app: add x", "<13>app: x"),
        ("<13>app: bad x", "<13>app: dead x"),
    ],
)
def test_records_that_differ_in_more_than_numbers_are_no_copies(one: str, other: str) -> None:
    tape = Tape()
    tape.parser.parse([one.encode()] * 100 + [other.encode()], "udp", tape.rows, Counts())
    tape.turn()
    assert "copies" not in tape.found[-1]
    assert COPIES + 1 <= len(tape.found) <= COPIES + WARM + 1


def test_mask_takes_numbers_and_addresses() -> None:
    assert "Xid (PCI:#:#:#): #, pid=#, at #" == mask("Xid (PCI:0000:1a:00): 79, pid=4711, at 0xdeadbeef")
    assert mask("GPU-509665ad is lost") == mask("GPU-109665ad is lost")


def test_800_000_copies_of_29_lines_become_29_records_with_counts_within_seconds() -> None:
    """What one node once sent of Xid 95, over more than one window: all that is folded is one record for each line."""
    tape = Tape(copies=50)
    lines = [f"NVRM: Xid (PCI:0000:3b:00): 95, {word}, Uncontained" for word in _WORDS]
    rows: list[Row] = [(at, lines[at % 29], 3, 0, None, "kernel", None, None, None, None, at, "") for at in range(500)]
    began, fed = time.process_time(), 0
    while fed < 800_000:
        tape.rows.table("kmsg")[Level.ESSENTIAL].extend(rows)
        tape.rows.number += len(rows)
        tape.turn(15 / 1600)
        fed += len(rows)
    spent = time.process_time() - began
    tape.turn(QUIET)
    counted = [row for row in tape.found if "copies" in row]
    assert 29 == len(counted) == len({row["message"] for row in counted})
    assert len(tape.found) <= 29 * (50 + 12) + 29
    assert 800_000 == tape.stands_for == len(tape.found) + tape.folded
    assert spent < 20, "seconds of CPU"


_WORDS = [a + b for a in ("gray", "pink", "yellow", "lime", "iron") for b in "ghijkl"][:29]


def test_what_is_pushed_out_is_told_and_memory_is_bounded() -> None:
    tape = Tape(copies=1)
    for word in range(MOST_STORMS + 200):
        spelled = "".join("ghijklmnop"[int(digit)] for digit in str(word))
        tape.feed(*[spelled] * 4)
    assert MOST_STORMS >= len(tape.storms._storms)
    assert any("copies" in row for row in tape.found)
    tape.finish()
    assert 4 * (MOST_STORMS + 200) == tape.stands_for


def test_what_is_folded_of_a_source_that_can_be_read_again_survives_a_crash() -> None:
    tape = Tape()
    tape.feed(*["x"] * 100, source="kmsg")
    tape.feed(*["y"] * 100, source="udp")
    told = sum(row.get("copies", 1) for row in tape.found if row["source"] == "kmsg")
    again = Tape(tape.remembered)
    again.turn()
    assert 100 == told + again.stands_for
    assert "kmsg" == again.found[0]["source"]
    assert 100 - told - 1 == again.folded
    assert "" == again.remembered, "in the unit of the rows that stand for them: never told twice"


def test_what_was_told_is_not_remembered() -> None:
    tape = Tape()
    tape.feed(*["x"] * 100, source="kmsg")
    assert tape.remembered
    tape.turn(WINDOW)
    assert "" == tape.remembered


def test_more_storms_than_are_remembered_are_told() -> None:
    tape = Tape(copies=1)
    spelled = ["".join("ghijklmnop"[int(digit)] for digit in str(word)) for word in range(3 * MOST_REMEMBERED)]
    tape.feed(*[text for text in spelled for _ in range(5)], source="kmsg")
    assert len(msgspec.json.decode(tape.remembered or "[]")) <= MOST_REMEMBERED
    again = Tape(tape.remembered)
    again.turn()
    assert 5 * 3 * MOST_REMEMBERED == tape.stands_for + again.stands_for


def test_what_another_version_remembered_is_no_reason_to_fail() -> None:
    tape = Tape('[{"no": "storm"}]')
    tape.turn()
    assert [] == tape.found


_steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc "), st.integers(1, 120), st.sampled_from(["udp", "kmsg"])),
        st.floats(0.1, 12.0),
        st.just("crash"),
    ),
    max_size=15,
)


@given(_steps, st.integers(1, 60))
def test_sum_of_all_records_is_what_was_fed(steps: list[Any], copies: int) -> None:
    """Over windows, units and restarts; after a crash all that is known of a kernel log is still there.

    Of what came by a socket, which can never be read again, that is what was remembered.
    """
    tape, earlier, fed, folded, rows = Tape(copies=copies), 0, 0, 0, 0
    for step in steps:
        if isinstance(step, float):
            tape.turn(step)
        elif step == "crash":
            remembered = tape.remembered
            held = [held for one in tape.storms._storms.values() if (held := one.held)]
            of_udp = [one.copies for one in (*held, *tape.storms._told) if one.source == "udp"]
            still = [copies for source, _, _, copies, *_ in msgspec.json.decode(remembered or "[]") if source == "udp"]
            fed -= sum(of_udp) - sum(still)
            earlier, folded, rows = earlier + tape.stands_for, folded + tape.folded, rows + len(tape.found)
            tape = Tape(remembered, copies)
        else:
            word, count, source = step
            tape.feed(*[f"{word} {at}" for at in range(count)], source=source, unit=50)
            fed += count
    tape.finish()
    assert fed == earlier + tape.stands_for
    assert fed == folded + tape.folded + rows + len(tape.found)


def test_tally_is_of_the_rows_class_and_level() -> None:
    tape = Tape()
    tape.feed(*["x"] * 100)
    tape.finish()
    (tally,) = [item for item in tape.items if isinstance(item, Tally)]
    assert (RowClass.LOG, Level.STANDARD, 0) == (tally.row_class, tally.level, tally.filtered)


def test_many_different_texts_cost_little() -> None:
    """Bounded from above by far: the figure is in the benchmark."""
    storms = Storms(50, WINDOW, lambda: 0.0)
    rows: list[Row] = [
        (at, f"{at:b}".replace("0", "x").replace("1", "y"), 6, 0, "h", "a", None, None, None, None, None, "")
        for at in range(500)
    ]
    began = time.process_time()
    for _ in range(20):
        storms.sift("udp", Level.STANDARD, rows, NOW)
    assert (time.process_time() - began) / 10_000 < 50e-6


def test_record_that_stands_for_many_keeps_the_columns_that_few_have() -> None:
    tape = Tape()
    tape.parser.parse([b"<13>app: x"] * 100, "tls", tape.rows, Counts())
    tape.rows.note("peer", "db2.example.com", 0)
    tape.turn()
    tape.turn(WINDOW)
    assert {"db2.example.com"} == {row.get("peer") for row in tape.found}
    assert "copies" in tape.found[-1]


@pytest.mark.parametrize("column", ["peer", "unit"])
def test_copies_of_two_peers_or_units_are_told_apart(column: str) -> None:
    tape = Tape()
    for value, count in (("one", 100), ("", 80), ("other", 60)):
        first = tape.rows.number
        tape.parser.parse([b"<13>app: x"] * count, "tls", tape.rows, Counts())
        if value:
            tape.rows.note(column, value, first)
    tape.turn()
    tape.turn(WINDOW)
    counts = Counter[str | None]()
    for row in tape.found:
        counts[row.get(column)] += row.get("copies", 1)
    assert {"one": 100, None: 80, "other": 60} == counts
    assert 3 == len([row for row in tape.found if "copies" in row])


def test_peer_of_what_was_folded_survives_a_crash() -> None:
    tape = Tape()
    tape.parser.parse([b"<13>app: x"] * 100, "kmsg", tape.rows, Counts())
    tape.rows.note("unit", "web.service", 0)
    tape.turn()
    again = Tape(tape.remembered)
    again.turn()
    assert ["web.service"] == [row.get("unit") for row in again.found]


def test_what_is_folded_of_a_socket_is_remembered_once_a_second() -> None:
    """A crash takes no more of its count than the last second brought."""
    tape = Tape()
    tape.turn(5.0)
    told = []
    for _ in range(30):
        tape.feed(*["x"] * 100)
        told.append(tape.remembered)
        tape.turn(0.1)
    assert 3 <= len(set(told)) <= 5
    again = Tape(tape.remembered)
    again.turn()
    stands_for = tape.stands_for + again.stands_for
    assert 3000 - 1000 <= stands_for <= 3000
    again.turn()
    assert "" == again.remembered


def test_what_the_kernel_wrote_long_ago_is_no_storm_because_it_is_read_at_once() -> None:
    """At its start the agent reads the whole ring: boot, and hours of now and then."""
    tape = Tape()
    ago = [NOW - (1000 - at) * SECOND for at in range(1000)]
    rows: list[Row] = [(at, f"x {at}", 3, 0, None, "kernel", None, None, None, ago[at], at, "") for at in range(1000)]
    tape.rows.table("kmsg")[Level.ESSENTIAL].extend(rows)
    tape.rows.number += len(rows)
    tape.turn()
    assert 1000 == len(tape.found)
    tape.feed(*["x"] * 100, source="kmsg")
    assert 1000 + COPIES <= len(tape.found) <= 1000 + COPIES + 2 * WARM

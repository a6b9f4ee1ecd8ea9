"""The journal: nothing twice, nothing lost without a word, whatever journald, journalctl and its records do."""

import contextlib
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import syslog as collector_module
from collectors import syslog_journal as module
from collectors.syslog_config import SyslogConfig
from collectors.syslog_framing import MARK
from collectors.syslog_journal_entry import FIELDS, oversized_record, read_record
from collectors.syslog_journalctl import Follower, Lines, Where
from schemas.errors import NoDataError
from schemas.rows import Position
from tests.collectors.syslog.harness import PATIENCE, Running
from tests.collectors.syslog.journald import Journald
from tests.collectors.syslog.test_kmsg import machine, record

OLD = "<13>Jan  2 03:04:05 app[7]: "


def cursor(number: int, journal: str = "a1", boot: str = "b1") -> str:
    return f"s={journal};i={number:x};b={boot};m={number:x};t={number + 9:x};x={number * 7:x}"


def line(number: int = 1, **fields: Any) -> bytes:
    """Make a line as journalctl writes it; a field that is None in JSON is given as `...`."""
    some = {"MESSAGE": f"m{number}", "PRIORITY": "6", "__REALTIME_TIMESTAMP": "1700000000000000"}
    whole = {"__CURSOR": cursor(number)} | some | fields
    return json.dumps({name: None if value is ... else value for name, value in whole.items()}).encode()


class Fake:
    """A machine whose journalctl is a script of ours. It keeps what it was asked, one line a start."""

    def __init__(self, root: Path, *lines: bytes, follow: tuple[bytes, ...] = (), then: str = "exit 0") -> None:
        self.root = root
        (root / "usr/bin").mkdir(parents=True)
        (root / "var/log/journal").mkdir(parents=True)
        (root / "proc/sys/kernel").mkdir(parents=True, exist_ok=True)
        (root / "proc/sys/kernel/hostname").write_text("here\n")
        self._asked = root / "asked"
        self._program = root / "usr/bin/journalctl"
        self.say(*lines, follow=follow, then=then)

    def say(self, *lines: bytes, follow: tuple[bytes, ...] = (), then: str = "exit 0") -> None:
        """Change what its next starts say: what there is, and `then`; when following, the last of it, and `follow`."""
        said, more = self.root / "said", self.root / "more"
        said.write_bytes(b"".join(line + b"\n" for line in lines))
        more.write_bytes(b"".join(line + b"\n" for line in (*lines[-1:], *follow)))
        script = (
            f'#!/bin/sh\necho "$@" >> {self._asked}\n'
            f'case "$*" in *--follow*) cat {more}; exec sleep 600;; *) cat {said};; esac\n{then}\n'
        )
        new = self.root / "usr/bin/new"
        new.write_text(script)
        new.chmod(0o755)
        new.rename(self._program)

    def asked(self) -> list[str]:
        return self._asked.read_text().splitlines() if self._asked.exists() else []

    def running(self, positions: dict[str, str] | None = None, **options: Any) -> Running:
        return Running(SyslogConfig(**({"kmsg": False, "journald": True} | options)), self.root, positions)


PROGRAMS = ("journalctl", "sleep", "sh")
"""What our fake is, one after the other; other tests may have left children of theirs to this process."""


def follower_of(running: Running) -> psutil.Process:
    """Give our fake once it has said what it says and follows."""
    found: list[psutil.Process] = []

    def follows() -> bool:
        try:
            found[:] = [one for one in psutil.Process().children() if one.name() in PROGRAMS]
            return [one.name() for one in found] == ["sleep"]
        except psutil.NoSuchProcess:  # the one before it, which has just ended
            return False

    running.wait_for(follows, "the follower")
    return found[0]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Any:
    yield
    assert [] == [one for one in psutil.Process().children() if one.name() in PROGRAMS]


# -- a record --


def test_every_field_finds_its_column(tmp_path: Path) -> None:
    one = line(
        5, PRIORITY="3", SYSLOG_FACILITY="10", SYSLOG_IDENTIFIER="sshd", _COMM="sshd-session", SYSLOG_PID="8", _PID="9",
        MESSAGE_ID="f" * 32, _HOSTNAME="here", _TRANSPORT="syslog", _SYSTEMD_UNIT="ssh.service",
        _SOURCE_REALTIME_TIMESTAMP="1700000000000001", FOO="bar",
    )  # fmt: skip
    with Fake(tmp_path, one).running() as running:
        running.wait_for_rows(1)
    (row,) = running.rows()
    del row["time"]
    assert {
        "level": "essential", "source": "journald", "message": "m5", "severity": 3, "facility": 10, "app": "sshd",
        "process_id": "8", "message_id": "f" * 32, "unit": "ssh.service", "source_time_ns": 1_700_000_000_000_001_000,
        "sequence": 5,
    } == row  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"MESSAGE": [97, 255, 10, 98]}, "a\\xff\nb"),
        ({"MESSAGE": ["one", [116, 119, 111, 255], "three"]}, "one\ntwo\\xff\nthree"),
        ({"MESSAGE": [...]}, None),
        ({"MESSAGE": ...}, "a record that is too large to be read [truncated]"),
        ({"MESSAGE": "x\0\r\n"}, "x"),
        ({"MESSAGE": [300]}, "a record that is too large to be read [truncated]"),
        ({"MESSAGE": ""}, None),
        ({"MESSAGE": []}, None),
    ],
)
def test_message_of_any_shape_is_a_text(fields: dict[str, Any], expected: str | None) -> None:
    fields = {name: [None if part is ... else part for part in value] if isinstance(value, list) else value
              for name, value in fields.items()}  # fmt: skip
    found = read_record(line(**fields), 1000)
    assert found is not None
    if fields["MESSAGE"] == [None]:
        expected = "a record that is too large to be read [truncated]"
    assert expected == found.text


def test_record_without_message_or_severity_is_a_record() -> None:
    found = read_record(b'{"__CURSOR":"s=1;i=2"}', 1000)
    assert found is not None
    assert (None, 6, None, None, None, 2) == (
        found.text, found.severity, found.facility, found.when, found.app, found.sequence
    )  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [("PRIORITY", "9"), ("PRIORITY", ["3", "4"]), ("SYSLOG_FACILITY", "99")])
def test_number_out_of_range_is_not_believed(field: str, value: Any) -> None:
    found = read_record(line(**{field: value}), 1000)
    assert found is not None
    assert (3 if isinstance(value, list) else 6, None) == (found.severity, found.facility)


def test_long_message_is_cut_at_a_character_and_marked() -> None:
    found = read_record(line(MESSAGE="\N{SNOWMAN}" * 400), 1000)
    assert found is not None
    assert ("\N{SNOWMAN}" * 333 + MARK.decode(), True) == (found.text, found.truncated)


_values = (
    st.none() | st.text() | st.lists(st.integers(0, 255)) | st.lists(st.none() | st.text() | st.binary().map(list))
)


@given(st.dictionaries(st.sampled_from(FIELDS), _values))
def test_whatever_the_fields_hold_a_record_can_be_sent(fields: dict[str, Any]) -> None:
    found = read_record(json.dumps({"__CURSOR": cursor(1)} | fields).encode(), 1000)
    assert found is not None
    assert found.text is None or len(found.text.encode()) <= 1000 + len(MARK)  # and is UTF-8
    assert 0 <= found.severity <= 7


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b""))), st.integers(1, 9))
def test_lines_are_the_same_however_they_arrive(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    cutter = Lines(100)
    found = [one for at in range(0, len(data), size) for one in cutter.feed(data[at : at + size])]
    assert [(line, True) for line in lines] == found


def test_line_without_end_holds_little_memory_and_keeps_its_cursor() -> None:
    cutter = Lines(1000)
    for part in (b'{"MESSAGE":"', *[b"x" * 65536] * 100, b'","__CURSOR":"' + cursor(3).encode() + b'"}'):
        assert [] == list(cutter.feed(part))
        assert len(cutter._pending) < 100_000
    ((found, whole), after) = cutter.feed(b"\n{}\n")
    assert (False, (b"{}", True)) == (whole, after)
    record = oversized_record(found)
    assert (cursor(3), 3, "a record that is too large to be read [truncated]") == (
        record.cursor, record.sequence, record.text
    )  # fmt: skip


# -- journalctl as it may be --


def test_first_start_begins_with_the_newest_record_or_with_the_boot(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    for begin in ("now", "boot"):
        with fake.running(journald_begin=begin) as running:
            running.wait_for(lambda: len(fake.asked()) == (2 if begin == "now" else 4), "the start")  # noqa: B023
    now, _, boot, _ = fake.asked()
    assert ("--lines=1" in now, "--boot" in now) == (True, False)
    assert ("--lines=1" in boot, "--boot --no-tail" in boot) == (False, True)
    assert "--output-fields=" in now
    assert {"MESSAGE", "PRIORITY", "_SYSTEMD_UNIT"} <= set(FIELDS)


def test_position_goes_with_its_rows_in_one_unit(tmp_path: Path) -> None:
    with Fake(tmp_path, line(1), line(2)).running() as running:
        running.wait_for_rows(2)
    unit = running.units[0]
    assert [Position("journald", cursor(2))] == [item for item in unit if isinstance(item, Position)]


def test_resumed_reading_asks_for_the_last_record_and_does_not_take_it_twice(tmp_path: Path) -> None:
    fake = Fake(tmp_path, line(7), line(8))
    with fake.running({"journald": cursor(7)}) as running:
        running.wait_for_rows(1)
        assert 0 == running.counts("journald")["lost_total"]
    assert f"--cursor={cursor(7)} --no-tail" in fake.asked()[0]
    assert (["m8"], []) == (running.messages(), running.events())


def test_what_there_is_is_read_first_and_then_followed(tmp_path: Path) -> None:
    fake = Fake(tmp_path, line(1), line(2), follow=(line(3),))
    with fake.running() as running:
        running.wait_for_rows(3)
    first, second = fake.asked()
    assert (False, True) == ("--follow" in first, "--follow --output=json --all" in second)
    assert f"--cursor={cursor(2)} --no-tail" in second
    assert (["m1", "m2", "m3"], []) == (running.messages(), running.events())


def test_last_words_of_the_boot_before_are_read_and_no_gap_is_made_of_it(tmp_path: Path) -> None:
    """`--follow` begins with this boot whatever the cursor says (systemd 251 and later)."""
    fake = Fake(tmp_path, line(7), line(8))
    (tmp_path / "more").write_bytes(line(__CURSOR=cursor(9, boot="b2")) + b"\n")
    with fake.running({"journald": cursor(7)}) as running:
        running.wait_for_rows(2)
    assert (["m8", "m1"], []) == (running.messages(), running.events())


def test_record_that_went_between_reading_and_following_is_a_gap(tmp_path: Path) -> None:
    fake = Fake(tmp_path, line(7), line(8))
    (tmp_path / "more").write_bytes(line(12) + b"\n")
    with fake.running({"journald": cursor(7)}) as running:
        running.wait_for_rows(2)
    assert [3] == [event.detail["lost"] for event in running.events()]


def test_vacuumed_cursor_is_a_gap_that_is_counted(tmp_path: Path) -> None:
    with Fake(tmp_path, line(20), line(21)).running({"journald": cursor(7)}) as running:
        running.wait_for_rows(2)
        assert 12 == running.counts("journald")["lost_total"]
    (event,) = running.events()
    assert ("log.gap", {"source": "journald", "lost": 12, "after": cursor(7), "next": cursor(20)}) == (
        event.type, event.detail
    )  # fmt: skip
    assert "12 records of the journal were gone before they could be read: the journal was vacuumed" == event.message


def test_journal_that_did_not_outlive_a_boot_is_a_gap_of_nobody_knows_how_many(tmp_path: Path) -> None:
    first = line(__CURSOR=cursor(1, "a2", "b2"))
    with Fake(tmp_path, first).running({"journald": cursor(7)}) as running:
        running.wait_for_rows(1)
        assert "lost_total" not in running.counts("journald")
    (event,) = running.events()
    assert "lost" not in event.detail
    assert "did not outlive a boot" in event.message


def test_record_that_was_moved_to_another_file_is_known_again(tmp_path: Path) -> None:
    """What was in /run is flushed to /var: another file, other numbers, the same record."""
    moved = cursor(7).replace("s=a1;i=7;", "s=c3;i=2;")
    with Fake(tmp_path, line(__CURSOR=moved), line(8)).running({"journald": cursor(7)}) as running:
        running.wait_for_rows(1)
    assert (["m8"], []) == (running.messages(), running.events())


@pytest.mark.parametrize("kept", ["", "nonsense\n--vacuum-size=1", "--vacuum-files=1 x"])
def test_position_that_is_no_cursor_is_no_argument(tmp_path: Path, kept: str) -> None:
    fake = Fake(tmp_path, line(1))
    with fake.running({"journald": kept}) as running:
        running.wait_for_rows(1)
    assert "vacuum" not in fake.asked()[0]
    assert "--lines=1" in fake.asked()[0]


KERNEL = line(2, _TRANSPORT="kernel", _KERNEL_SUBSYSTEM="pci", _KERNEL_DEVICE="+pci:0000:3B:00.0", SYSLOG_FACILITY="0")


def test_kernel_records_come_with_their_device_where_kmsg_is_not_read(tmp_path: Path) -> None:
    with Fake(tmp_path, line(1), KERNEL).running() as running:
        running.wait_for_rows(2)
    assert [None, "pci:0000:3b:00.0"] == [row.get("device") for row in running.rows()]


def test_kernel_records_of_the_journal_become_events_as_those_of_kmsg_do(tmp_path: Path) -> None:
    text = "NVRM: Xid (PCI:0000:%s:00): 79, pid=1, GPU has fallen off the bus."
    xid = line(2, MESSAGE=text % "3b", _TRANSPORT="kernel", SYSLOG_FACILITY="0")
    forged = line(3, MESSAGE=text % "5e", _TRANSPORT="kernel", SYSLOG_FACILITY="1"), line(4, MESSAGE=text % "5f")
    with Fake(tmp_path, line(1), xid, *forged).running() as running:
        running.wait_for_rows(4)
        running.wait_for(lambda: bool(running.events()), "the event")
    assert ["pci:0000:3b:00.0"] == [event.device for event in running.events()]


def test_kernel_records_are_not_doubled_where_kmsg_is_read(tmp_path: Path) -> None:
    fake = Fake(machine(tmp_path, record(1)), line(1), KERNEL, line(3))
    with fake.running(kmsg=True) as running:
        running.wait_for_rows(3)
    assert [("journald", "m1"), ("journald", "m3"), ("kmsg", "x")] == sorted(
        (row["source"], row["message"]) for row in running.rows()
    )


def test_position_moves_over_records_that_are_passed_over(tmp_path: Path) -> None:
    with Fake(machine(tmp_path, record(1)), KERNEL).running(kmsg=True) as running:
        running.wait_for(lambda: running.counts("journald")["received_bytes_total"] > 0, "the record")
    assert cursor(2) == running.positions()["journald"]


def test_what_journald_suppressed_is_counted(tmp_path: Path) -> None:
    said = line(
        2, MESSAGE="Suppressed 1234 messages from chatty.service", MESSAGE_ID="a596d6fe7bfa4994828e72309e95d61e",
        N_DROPPED="1234", PRIORITY="4", _TRANSPORT="driver",
    )  # fmt: skip
    with Fake(tmp_path, line(1), said, line(3, N_DROPPED="5")).running() as running:
        running.wait_for_rows(3)
        assert 1234 == running.counts("journald")["suppressed_total"]
    assert "Suppressed 1234 messages from chatty.service" in running.messages()


def test_another_hosts_name_is_kept_and_this_ones_is_not(tmp_path: Path) -> None:
    with Fake(tmp_path, line(1, _HOSTNAME="here"), line(2, _HOSTNAME="there")).running() as running:
        running.wait_for_rows(2)
    assert [None, "there"] == [row.get("host") for row in running.rows()]


def test_line_that_is_no_record_is_kept_and_counted(tmp_path: Path) -> None:
    lines = (
        b"{garbage",
        b"\xc1",
        b"-- No entries --",
        b"[1]",
        b"[" * 5000,
        b'{"MESSAGE":"\xc1"}',
        b'{"MESSAGE":{"a":1}}',
        line(2),
    )
    with Fake(tmp_path, *lines).running(max_message_bytes=480) as running:
        running.wait_for_rows(7)
        assert 6 == running.counts("journald")["malformed_total"]
    assert [
        "{garbage",
        "\\xc1",
        "[1]",
        "[" * 480 + MARK.decode(),
        '{"MESSAGE":"\\xc1"}',
        '{"MESSAGE":{"a":1}}',
        "m2",
    ] == running.messages()


def test_record_of_megabytes_harms_no_other(tmp_path: Path) -> None:
    with Fake(tmp_path, line(1), line(2, MESSAGE="x" * 5_000_000), line(3)).running() as running:
        running.wait_for_rows(3)
        assert 1 == running.counts("journald")["truncated_total"]
    assert ["m1", "a record that is too large to be read [truncated]", "m3"] == running.messages()


def test_journalctl_that_is_killed_is_started_again_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.0)
    fake = Fake(tmp_path, line(1), line(2))
    with fake.running() as running:
        running.wait_for_rows(2)
        follower = follower_of(running)
        fake.say(line(2), line(3))
        follower.send_signal(signal.SIGTERM)
        running.wait_for_rows(3)
    assert f"--cursor={cursor(2)}" in fake.asked()[2]
    assert (["m1", "m2", "m3"], []) == (running.messages(), running.events())


def test_journalctl_that_fails_is_told_with_its_own_words_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_module, "_RETRY", 0.2)
    fake = Fake(
        tmp_path, line(1), then="echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1"
    )
    with fake.running() as running:
        running.wait_for(lambda: bool(running.events()), "the event")
        fake.say(line(1), line(2))
        running.wait_for_rows(2)
    down, up = running.events()
    assert ("syslog.listener.down", "syslog.listener.up") == (down.type, up.type)
    assert down.message.endswith(
        "journalctl ended with status 1: No journal files were opened due to insufficient permissions."
    )
    assert ["m1", "m2"] == running.messages()


def test_machine_without_journalctl_or_journal_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match=r"there is no journalctl under .*install systemd, or set journald = false"):
        Where(tmp_path).program()
    Fake(tmp_path)
    (tmp_path / "var/log/journal").rmdir()
    with pytest.raises(NoDataError, match="systemd-journald does not run here"):
        Where(tmp_path).program()


def test_journal_that_was_asked_for_and_is_not_there_is_told_beside_other_listeners(tmp_path: Path) -> None:
    config = SyslogConfig(journald=True)
    with Running(config, machine(tmp_path, record(1))) as running:
        running.wait_for_rows(1)
        running.wait_for(lambda: bool(running.events()), "the event")
    assert "there is no journalctl" in running.events()[0].message


def test_journal_alone_that_is_not_there_is_no_data(tmp_path: Path) -> None:
    running = Running(SyslogConfig(journald=True), tmp_path)
    with pytest.raises(NoDataError, match=r"no kernel log at .*; there is no journalctl"):
        running.collector.start()
    assert "there is no journalctl" in running.collector.probe()


def test_stopping_ends_the_child_at_once(tmp_path: Path) -> None:
    with Fake(tmp_path, line(1)).running() as running:
        running.wait_for_rows(1)
        process = follower_of(running)
        assert running.end_watch() < 1.0
    assert not process.is_running()


def test_directory_must_be_absolute() -> None:
    with pytest.raises(msgspec.ValidationError, match="not an absolute path"):
        msgspec.convert({"journald_directory": "x"}, SyslogConfig)


# -- the real thing --


def real(journald: Journald, positions: dict[str, str] | None = None) -> Running:
    config = SyslogConfig(kmsg=False, journald=True, journald_directory=str(journald.directory))
    return Running(config, Path("/"), positions)


def numbers(running: Running) -> list[int]:
    return [int(row["message"]) for row in running.rows() if row.get("message", "").isdigit()]


def test_real_journald_records_of_all_shapes(tmp_path: Path) -> None:
    with Journald(tmp_path) as journald, real(journald) as running:
        running.wait_for_rows(1)
        journald.syslog(f"{OLD}plain".encode())
        journald.native(
            {"MESSAGE": b"not \xff UTF-8\nand a line", "PRIORITY": b"3", "SYSLOG_IDENTIFIER": b"native"},
            {"MESSAGE": b"x" * 100_000, "PRIORITY": b"4"},
            {"MESSAGE": b"once", "MESSAGE+": b"again"},
            {"PRIORITY": b"2"},
        )
        running.wait_for_rows(6)
    plain, native, long, twice, bare = running.rows()[1:]
    assert ("plain", "app", "7", 5, 1) == tuple(
        plain[name] for name in ("message", "app", "process_id", "severity", "facility")
    )
    assert ("not \\xff UTF-8\nand a line", "native", 3, str(os.getpid())) == tuple(
        native[name] for name in ("message", "app", "severity", "process_id")
    )
    assert "x" * 65536 + MARK.decode() == long["message"]
    assert "once\nagain" == twice["message"]
    assert ("message" not in bare, 2) == (True, bare["severity"])
    assert all(abs(time.time_ns() - row["source_time_ns"]) < 60e9 for row in running.rows())
    assert [2, 3, 4, 5, 6, 7] == [row["sequence"] for row in running.rows()]


def test_real_journal_is_read_exactly_over_restarts_and_rotations(tmp_path: Path) -> None:
    """Numbers are written all the while; the reader stops and starts, and journald begins new files."""
    positions: dict[str, str] = {}
    found: list[int] = []
    total, stop = 3000, threading.Event()
    with Journald(tmp_path) as journald:

        def write() -> None:
            for number in range(total):
                journald.syslog(f"{OLD}{number}".encode())
                if number % 1000 == 500:
                    journald.rotate()
            stop.set()

        with real(journald) as running:  # a first start begins with the newest record: it must be before the first
            running.wait_for_rows(1)
        positions.update(running.positions())
        writer = threading.Thread(target=write)
        writer.start()
        while len(found) < total:
            goal = min(total, len(found) + (400 if not stop.is_set() else total))
            with real(journald, positions) as running:
                running.wait_for(lambda: len(found) + len(numbers(running)) >= goal, f"{goal} numbers")  # noqa: B023
            found += numbers(running)
            positions.update(running.positions())
            assert [] == running.events()
        writer.join()
    assert list(range(total)) == found


def test_real_journal_that_was_vacuumed_meanwhile_says_exactly_how_many_are_gone(tmp_path: Path) -> None:
    with Journald(tmp_path) as journald:
        with real(journald) as running:
            journald.syslog(f"{OLD}1".encode())
            running.wait_for(lambda: numbers(running) == [1], "the first")
        positions = running.positions()
        journald.syslog(*[f"{OLD}{number}".encode() for number in range(2, 12)])
        with real(journald, positions) as all_of_them:
            all_of_them.wait_for(lambda: len(numbers(all_of_them)) == 10, "the others, so that they are on disk")
        journald.rotate()
        journald.vacuum()
        journald.syslog(f"{OLD}12".encode())
        all_of_them.wait_for(lambda: b'"12"' in b"".join(journald.records()), "the last, on disk")
        with real(journald, positions) as running:
            running.wait_for(lambda: numbers(running) == [12], "the last")
    (event,) = running.events()
    assert ("log.gap", 10) == (event.type, event.detail["lost"])


def test_real_journalctl_ends_when_nobody_reads_it(tmp_path: Path) -> None:
    """An agent that is killed leaves no child behind."""
    with Journald(tmp_path) as journald:
        follower = Follower(
            Where(Path("/"), str(journald.directory)).command("", follow=True), logging.getLogger("test")
        )
        with contextlib.closing(follower):
            assert follower._process.stdout is not None
            follower._process.stdout.close()
            assert follower._process.wait(PATIENCE) is not None

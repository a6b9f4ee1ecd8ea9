"""What happens to what a program pushes, and what it is answered."""

import logging
import os
import pwd
import socket
import stat
import time
from pathlib import Path

import pytest

from collectors.push.connection import Connection
from collectors.push.counts import Pushers
from collectors.push.devices import Devices
from collectors.push.names import Names
from collectors.push.refusal import RefusedError
from collectors.push.tables import Budget, Tables
from schemas.errors import StartupError
from schemas.rows import Severity, Tally
from schemas.verbosity import Level, RowClass
from tests.collectors.push.harness import Running, line_of

ME = "user:" + str(os.getuid())


def error(answers: list[str]) -> str:
    """Give place and reason of the one error that was answered."""
    [found] = [answer for answer in answers if answer.startswith("error ")]
    return found.split(":", 2)[0] + ":" + found.split(":", 2)[1]


def test_line_becomes_a_row_of_the_one_who_pushed_it(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        assert ["accepted rows=1 refused=0 limited=0"] == running.push("my_app,worker=3 queue_depth=5i\n")
    expected = {"measurement": "my_app", "level": "standard", "device": ME, "worker": "3", "queue_depth": 5}
    assert [expected] == running.rows
    assert [False] == running.durable


def test_types_time_and_levels_are_kept(tmp_path: Path) -> None:
    with Running(tmp_path, levels={"debug_*": "debug", "shop": "essential"}) as running:
        running.push('shop a=1,b=2i,c=3u,d=t,e="x" 1700000000000000000\nshop,till=2 a=5\ndebug_shop a=1')
    who = {"device": ME}
    assert {"measurement": "debug_shop", "level": "debug", "a": 1.0} | who in running.rows
    assert {"measurement": "shop", "level": "essential", "till": "2", "a": 5.0} | who in running.rows
    values = {"a": 1.0, "b": 2, "c": 3, "d": True, "e": "x", "source_time_ns": 1700000000000000000}
    assert {"measurement": "shop", "level": "essential"} | who | values in running.rows


def test_comments_empty_lines_and_carriage_returns_are_no_rows(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        assert ["accepted rows=1 refused=0 limited=0"] == running.push("# hello\n\r\n\n   \nmy_app a=1\r\n")
        assert ["accepted rows=0 refused=0 limited=0"] == running.push("")
    assert 1 == len(running.rows)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("my_app a=x", "error 2:10 value"),
        ("cpu usage=1", "error 2:1 name"),
        ("  push rows=1", "error 2:3 name"),
        ("MyApp a=1", "error 2:1 name"),
        ("my_app queueDepth=1", "error 2:8 name"),
        ("my_app,Worker=1 a=1", "error 2:8 name"),
        ("my_app,node=other a=1", "error 2:8 name"),
        ("my_app,device=roof a=1", "error 2:8 name"),
        ("my_app time=1", "error 2:8 name"),
        ("my_app source_time_ns=5i", "error 2:8 name"),
        ("my_app good=1i", "error 2:8 type"),
        ("my_app way=1", "error 2:8 type"),
        ("my_app,good=1 a=1", "error 2:8 type"),
        ("my_app,way=a\tb a=1", "error 2:8 value"),
        (f"my_app,way={'x' * 256} a=1", "error 2:8 value"),
        ("my_app a=1 1700000000", "error 2:12 value"),
        ("my_app a=1 1700000000000", "error 2:12 value"),
        (f"my_app {','.join(f'f{n}=1' for n in range(200))}", "error 2:8 cardinality"),
        (f"my_app,{','.join(f't{n}=1' for n in range(17))} a=1", "error 2:1 cardinality"),
        ("{", "error 2:1 syntax"),
        ("[1]", "error 2:4 syntax"),
        ('{"event": {"type": "x.y"}}', "error 2:2 value"),
        ('{"event": {"type": "x.y", "message": 5}}', "error 2:27 value"),
        ('{"event": {"type": "x.y", "message": "z", "severity": "bad"}}', "error 2:43 value"),
        ('{"event": {"type": "nvml.xid", "message": "z"}}', "error 2:1 name"),
        ('{"event": {"type": "failed", "message": "z"}}', "error 2:1 name"),
        ('{"event": {"type": "x.y", "message": "z", "detail": {"A B": 1}}}', "error 2:54 name"),
        ('{"event": {"type": "x.y", "message": "z", "detail": {"a": 1e999}}}', "error 2:43 value"),
        ('{"event": {"type": "x.y", "message": "z"}, "withdraw": "roof"}', "error 2:1 syntax"),
        ('{"device": {"id": "roof", "kind": "gpu"}}', "error 2:27 value"),
        ('{"device": {"id": "../roof"}}', "error 2:13 name"),
        ('{"device": {"id": "roof", "serial": "1"}}', "error 2:2 value"),
        ('{"device": {"id": "roof", "capabilities": {"channels": null}}}', "error 2:27 value"),
        ('{"device": {"id": "roof", "capabilities": {"Channels": 1}}}', "error 2:44 name"),
        ('{"withdraw": "roof"}', "error 2:1 name"),
    ],
)
def test_line_that_is_refused_is_answered_with_its_place_and_harms_no_other(
    tmp_path: Path, line: str, expected: str
) -> None:
    with Running(tmp_path) as running:
        answers = running.push(f"my_app,way=up good=2\n{line}\nmy_app,way=up good=3\n")
        assert "accepted rows=2 refused=1 limited=0" == answers[-1]
        assert [expected] == [answer.rpartition(expected)[1] for answer in answers[:-1]], answers
        reason = expected.rpartition(" ")[2]
        assert {"lines_total": 1} == running.counts()[reason]
    assert [2.0, 3.0] == [row["good"] for row in running.rows]
    [told] = [event for event in running.events if event.type == "push.refused"]
    assert (reason, 1, ME) == (told.detail["reason"], told.detail["lines"], told.detail["pusher"])


def test_line_that_is_too_long_or_no_text_costs_only_itself(tmp_path: Path) -> None:
    with Running(tmp_path, max_line_bytes=256) as running:
        long = b"my_app a=" + b"1" * 100_000 + b"\n"
        answers = running.push(b"my_app a=1\n" + long + b'my_app b="\xff"\n' + 'my_app c="ä\xff\n'.encode("latin-1"))
        assert ["error 2:257 length", "error 3:11 syntax", "error 4:11 syntax"] == [
            answer.rpartition(": ")[0].split(": ")[0]
            if "length" not in answer
            else answer.split(":")[0] + ":257 length"
            for answer in answers[:-1]
        ]
        assert "accepted rows=1 refused=3 limited=0" == answers[-1]


def test_sync_is_answered_once_the_rows_before_it_are_on_disk_and_not_before(tmp_path: Path) -> None:
    with Running(tmp_path) as running, running.connect() as sock:
        running.disk.clear()
        sock.sendall(b"my_app a=1\nmy_app a=2\nsync\n")
        running.until(lambda: running.durable)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(60)
        running.disk.set()
        assert "ok rows=2 refused=0 limited=0" == line_of(sock)
        sock.sendall(b"my_app a=bad\nsync\nmy_app b=bad\nsync\n")
        answers = [line_of(sock) for _ in range(4)]
    assert ["error 4:10 value", "ok rows=0 refused=1 limited=0"] == [answers[0].split(": ")[0], answers[1]]
    assert ["error 6:10 value", "ok rows=0 refused=1 limited=0"] == [answers[2].split(": ")[0], answers[3]]
    assert running.durable[0]


def test_rows_over_the_limit_are_left_out_answered_told_and_counted_as_filtered(tmp_path: Path) -> None:
    with Running(tmp_path, max_rows_per_second=0.5, max_events_per_second=0.1) as running:
        event = '{"event": {"type": "x.y", "message": "z"}}\n'
        assert ["accepted rows=6 refused=0 limited=4"] == running.push("my_app a=1\n" * 7 + event * 3)
        assert 4 == running.counts()[""]["limited_total"]
        running.until(lambda: any(event.type == "push.limited" for event in running.events))
    assert 5 == len(running.rows)
    assert {
        Tally(RowClass.TELEMETRY, Level.STANDARD, filtered=2),
        Tally(RowClass.EVENT, Level.ESSENTIAL, filtered=2),
    } == set(running.tallies)


def test_series_measurements_and_fields_are_bounded(tmp_path: Path) -> None:
    with Running(tmp_path, max_series=3) as running:
        answers = running.push("".join(f"my_app,worker={number} a=1\n" for number in range(5)))
        assert "accepted rows=3 refused=2 limited=0" == answers[-1]
        assert ["accepted rows=2 refused=0 limited=0"] == running.push("my_app,worker=0 a=1\nmy_app,worker=2 a=1\n")
    with Running(tmp_path) as running:
        answers = running.push("".join(f"my_app_{number} a=1\n" for number in range(70)))
        assert "accepted rows=64 refused=6 limited=0" == answers[-1]


def test_event_is_one_of_its_pusher_with_its_facts(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        text = (
            '{"event": {"type": "backup.failed", "message": "no room", "severity": "error",'
            ' "detail": {"bytes": 5, "host": "db1", "retry": true, "user": "mallory"}, "time_ns": 1700000000000000000}}'
        )
        assert ["accepted rows=1 refused=0 limited=0"] == running.push(text)
    [event] = running.events
    assert ("backup.failed", "no room", Severity.ERROR) == (event.type, event.message, event.severity)
    assert {"bytes": 5, "host": "db1", "retry": True, "user": ME.removeprefix("user:")} == event.detail
    assert (ME, 1700000000000000000) == (event.device, event.source_time_ns)


def test_pusher_that_never_reads_its_answers_is_served_all_the_same(tmp_path: Path) -> None:
    with Running(tmp_path) as running, running.connect() as sock:
        for _ in range(40):
            sock.sendall(b"nonsense\nsync\n" * 2000)
        assert ["accepted rows=1 refused=0 limited=0"] == running.push("my_app a=1\n")
        running.until(lambda: running.counts()["syntax"]["lines_total"] == 80_000)


def test_pusher_of_very_many_lines_that_are_not_taken_waits_and_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.push.tables.LOST_LINES_PER_SECOND", 4000.0)
    monkeypatch.setattr("collectors.push.limits.BURST_SECONDS", 0.1)
    with Running(tmp_path) as running, running.connect() as sock:
        began = time.monotonic()
        sock.sendall(b"nonsense\n" * 10_000 + b"my_app a=1\nsync\n")
        answers = [line_of(sock) for _ in range(101)]
        assert "ok rows=1 refused=10000 limited=0" == answers[-1]
        assert time.monotonic() - began > 0.5, "what is beyond 64 KiB was not read at once"
    assert 1 == len(running.rows)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("my_app a=1", "my_app a=1i", "the field 'a' was before (by service:one) a number: write 5 or 5.0"),
        ("my_app,way=x a=1", "my_app way=1", "'way' was a tag of this measurement before (by service:one)"),
        ("my_app way=1", "my_app,way=x a=1", "'way' was a field of this measurement before (by service:one)"),
    ],
)
def test_refusal_of_another_type_says_who_was_first(tmp_path: Path, first: str, second: str, text: str) -> None:
    devices = Devices(tmp_path / "devices.json", lambda: 10**18, logging.getLogger("test"))
    tables = Tables(Names(), devices, {}, clock=lambda: 0.0, wall_ns=lambda: 10**18)
    one, two = (Budget(10, 10, 10, lambda: 0.0) for _ in range(2))
    tables.add("service:one", one, first)
    with pytest.raises(RefusedError) as caught:
        tables.add("service:two", two, second)
    assert text == caught.value.text
    with pytest.raises(RefusedError) as caught:
        tables.add("service:one", one, second)
    assert text.replace(" (by service:one)", "") == caught.value.text


def test_answers_that_wait_for_a_disk_that_takes_nothing_are_bounded_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, Pushers(lambda: Budget(1, 1, 10, lambda: 0.0)).of(ME, "me"), 4096, 0.0)
        for _ in range(200):
            connection.sync()
            for _ in range(100):
                connection.refuse(RefusedError("syntax", "x" * 300), 1)
        assert 64 << 10 <= sum(len(answer) for answer in connection.syncs) < 65 << 10
        connection.synced()
        connection.sync()
        assert 1 == len(connection.syncs), "there is room again"
        connection.write()
        assert theirs.recv(45).startswith(b"ok rows=0 refused=0 limited=0\nerror 1:1 ")


def test_pusher_that_goes_away_without_waiting_loses_nothing(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        for number in range(20):
            with running.connect() as sock:
                sock.sendall(b"my_app a=%d" % number)
        running.until(lambda: len(running.rows) == 20)
        running.until(lambda: running.counts()[""]["connections"] == 0)


def test_one_user_cannot_take_all_connections_and_who_is_idle_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Running(tmp_path, max_connections=6) as running:
        held = [running.connect() for _ in range(3)]
        running.until(lambda: running.counts().get("", {}).get("connections") == 3)
        with running.connect() as sock:
            assert line_of(sock).startswith("error 0:0 connections: 3 are open already")
        monkeypatch.setattr("collectors.push.server._IDLE_SECONDS", 0.0)
        assert ["accepted rows=1 refused=0 limited=0"] == running.push("my_app a=1\n")
        assert b"" == held[0].recv(1)
        for sock in held:
            sock.close()


def test_what_was_pushed_when_it_stops_is_handed_on(tmp_path: Path) -> None:
    with Running(tmp_path) as running, running.connect() as sock:
        sock.sendall(b"my_app a=1\n")
        running.until(lambda: running.counts() and running.counts()[""]["rows_total"] == 1)
    assert 1 == len(running.rows)
    assert not running.path.exists()


def test_socket_has_the_mode_and_group_that_were_asked_for(tmp_path: Path) -> None:
    with Running(tmp_path, mode=0o606, group=str(os.getgid())) as running:
        status = running.path.stat()
        assert (0o606, os.getgid()) == (stat.S_IMODE(status.st_mode), status.st_gid)
        assert stat.S_ISSOCK(status.st_mode)
    with pytest.raises(StartupError, match="no group 'nobody-has-this'"), Running(tmp_path, group="nobody-has-this"):
        pass


def test_socket_that_was_left_behind_is_replaced_and_a_file_never(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "push.sock"))
    with Running(tmp_path) as running:
        assert ["accepted rows=1 refused=0 limited=0"] == running.push("my_app a=1\n")
    (tmp_path / "push.sock").write_text("precious")
    with pytest.raises(StartupError, match="no socket"), Running(tmp_path):
        pass
    assert "precious" == (tmp_path / "push.sock").read_text()


def test_user_is_called_by_name_where_this_machine_knows_it(tmp_path: Path) -> None:
    with Running(tmp_path, root=Path("/")) as running:
        running.push("my_app a=1\n")
        readings = list(running.collector.collect())
    assert {pwd.getpwuid(os.getuid()).pw_name} == {reading.attributes["user"] for reading in readings}


def test_flood_of_one_turn_never_grows_beyond_what_the_host_takes_at_once(tmp_path: Path) -> None:
    with Running(tmp_path, max_rows_per_second=100_000) as running:
        answers = running.push("a b=1\n" * 50_000)
    assert ["accepted rows=50000 refused=0 limited=0"] == answers
    assert 50_000 == len(running.rows)

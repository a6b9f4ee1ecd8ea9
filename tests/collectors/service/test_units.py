"""Services up, down, new, failed and restarted, as systemd tells them over its private socket."""

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from collectors._dbus import Connection, DBusError, decode, encode_call, message_size, split_signature
from collectors._names import NameFilter
from collectors.contract import Context
from collectors.service import ServiceCollector, ServiceConfig
from collectors.service_manager import Manager, object_name, unit_name
from collectors.service_units import UnitStates
from schemas.errors import NoDataError
from schemas.rows import Event, FieldValue, Item, Reading
from schemas.verbosity import Level
from tests.collectors.service.fake_systemd import FakeSystemd


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _states(clock: Clock | None = None) -> UnitStates:
    return UnitStates(NameFilter(), clock or Clock())


def _manager(root: Path) -> Manager:
    return Manager(root, NameFilter(("*.service",)), Clock())


def _collector(root: Path, level: Level = Level.DEBUG, clock: Callable[[], float] = time.monotonic) -> ServiceCollector:
    context = Context(subject="node-1", log=logging.getLogger("test"), root=root, level=lambda: level)
    return ServiceCollector(ServiceConfig(), context, clock)


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.01)


def _polled(section: Manager, count: int) -> list[Event]:
    """Poll until there are that many events."""
    events: list[Event] = []

    def enough() -> bool:
        events.extend(section.poll())
        return len(events) >= count

    _wait(enough)
    return events


def _types(events: Iterable[Event]) -> list[tuple[str, object]]:
    return [(event.type, event.detail["unit"]) for event in events]


def test_first_list_is_where_changes_are_counted_from() -> None:
    states = _states()
    assert [] == list(states.listed([("a.service", "active", ""), ("b.service", "failed", "")]))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("active", "failed", ["failed"]),
        ("active", "deactivating", ["down"]),
        ("activating", "active", ["up"]),
        ("active", "reloading", []),
        ("reloading", "active", []),
        ("inactive", "activating", []),
        ("activating", "failed", ["failed"]),
        ("failed", "failed", []),
    ],
)
def test_change_of_state_gives_its_event(before: str, after: str, expected: list[str]) -> None:
    """R001-13: service up, down."""
    states = _states()
    list(states.listed([("a.service", before, "")]))
    assert [f"systemd.unit.{word}" for word in expected] == [event.type for event in states.changed("a.service", after)]


def test_unit_never_seen_is_new_once() -> None:
    """R001-13: service new."""
    states = _states()
    list(states.listed([]))
    assert ["systemd.unit.new", "systemd.unit.up"] == [
        event.type for event in states.changed("n.service", "active", "")
    ]
    assert ["systemd.unit.down"] == [event.type for event in states.removed("n.service")]
    assert ["systemd.unit.up"] == [event.type for event in states.changed("n.service", "active", "")]


def test_units_changed_while_nobody_listened_are_found_by_the_next_list() -> None:
    states = _states()
    list(states.listed([("a.service", "active", ""), ("b.service", "active", "")]))
    events = states.listed([("a.service", "failed", ""), ("c.service", "active", "")])
    assert {
        ("systemd.unit.down", "b.service"),
        ("systemd.unit.failed", "a.service"),
        ("systemd.unit.new", "c.service"),
        ("systemd.unit.up", "c.service"),
    } == set(_types(events))


def test_excluded_unit_says_nothing() -> None:
    states = UnitStates(NameFilter(("*.service",), ("user@*",)), Clock())
    list(states.listed([]))
    assert [] == list(states.changed("user@0.service", "active"))
    assert [] == list(states.changed("tmp.mount", "active"))


def test_counts_are_absent_until_systemd_has_answered() -> None:
    states = _states()
    assert states.summary() is None
    list(states.listed([("a.service", "failed", ""), ("b.service", "active", "")]))
    reading = states.summary()
    assert reading is not None
    assert {"units": 2, "units_active": 1, "units_failed": 1, "failed": "a.service"} == dict(reading.fields)


def test_changes_come_over_the_private_socket(tmp_path: Path) -> None:
    with FakeSystemd(tmp_path, {"a.service": "active", "b-c@1.service": "active"}) as systemd:
        section = _manager(tmp_path)
        assert [] == section.poll()
        systemd.change("b-c@1.service", "inactive")
        events = _polled(section, 1)
        assert [("systemd.unit.down", "b-c@1.service")] == _types(events)
        section.close()


def test_failure_says_why(tmp_path: Path) -> None:
    with FakeSystemd(tmp_path, {"a.service": "active"}) as systemd:
        section = _manager(tmp_path)
        section.poll()
        systemd.change("a.service", "failed")
        events = _polled(section, 1)
        assert {
            "unit": "a.service",
            "active_state": "failed",
            "result": "oom-kill",
            "exit_status": 137,
            "restarts": 3,
        } == dict(events[0].detail)
        section.close()


def test_reload_and_removal_are_followed(tmp_path: Path) -> None:
    with FakeSystemd(tmp_path, {"a.service": "active", "b.service": "active"}) as systemd:
        section = _manager(tmp_path)
        section.poll()
        systemd.signal("UnitRemoved", "so", "a.service", "/u")
        del systemd.units["a.service"]
        systemd.units["n.service"] = "active"
        systemd.signal("Reloading", "b", 0)
        events = _polled(section, 3)
        assert [
            ("systemd.unit.down", "a.service"),
            ("systemd.unit.new", "n.service"),
            ("systemd.unit.up", "n.service"),
        ] == _types(events)
        section.close()


def test_connection_lost_is_an_error_and_the_next_poll_connects_again(tmp_path: Path) -> None:
    with FakeSystemd(tmp_path, {"a.service": "active"}) as systemd:
        section = _manager(tmp_path)
        section.poll()
        systemd.hang_up()
        with pytest.raises(DBusError):
            _wait(lambda: section.poll() and None)
        assert section.fileno is None
        systemd.units["a.service"] = "failed"
        assert [("systemd.unit.failed", "a.service")] == _types(section.poll())
        section.close()


def test_machine_without_systemd_has_nothing_for_it(tmp_path: Path) -> None:
    collector = _collector(tmp_path)
    with pytest.raises(NoDataError, match="systemd does not run this machine"):
        collector.start()
    assert [] == list(collector.collect())
    collector.stop()


def test_watch_emits_within_the_moment_and_ends_when_asked(tmp_path: Path) -> None:
    """R001-13: events as they happen."""
    with FakeSystemd(tmp_path, {"a.service": "active"}) as systemd:
        collector = _collector(tmp_path)
        collector.start()
        emitted: list[Item] = []
        stopping = threading.Event()
        thread = threading.Thread(target=collector.watch, args=(emitted.extend, stopping))
        thread.start()
        try:
            _wait(lambda: "ListUnits" in systemd.calls)
            before = time.monotonic()
            systemd.change("a.service", "failed")
            _wait(lambda: emitted)
            assert time.monotonic() - before < 0.4  # the wait is for the socket, not for the next look
        finally:
            stopping.set()
            thread.join(60)
        assert not thread.is_alive()
        assert ["systemd.unit.failed"] == [item.type for item in emitted if isinstance(item, Event)]
        collector.stop()


def test_service_that_systemd_starts_again_is_restarted_and_neither_down_nor_up() -> None:
    """R001-11: what happens to services; a crash is one event, not three."""
    states = _states()
    list(states.listed([("a.service", "active", "running")]))
    assert [] == list(states.restarts("a.service", 2))  # what it was before anybody looked
    assert [] == list(states.changed("a.service", "activating", "auto-restart"))
    assert ("a.service", {"state": "auto-restart", "up": True, "restarts_total": 2}) in list(states.readings())
    assert [] == list(states.changed("a.service", "active", "running"))
    [event] = states.restarts("a.service", 3)
    assert ("systemd.unit.restarted", 3, 1) == (event.type, event.detail["restarts"], event.detail["times"])
    assert "systemd started a.service again" == event.message


def test_service_that_is_given_up_or_stopped_while_it_waits_is_failed_or_down() -> None:
    states = _states()
    list(states.listed([("a.service", "active", "running"), ("b.service", "activating", "auto-restart")]))
    list(states.changed("a.service", "activating", "auto-restart"))
    assert ["systemd.unit.failed"] == [event.type for event in states.changed("a.service", "failed", "failed")]
    assert ["systemd.unit.down"] == [event.type for event in states.changed("b.service", "inactive", "dead")]


def test_service_that_crashes_all_the_time_is_told_once_a_minute_with_how_often() -> None:
    clock = Clock()
    states = _states(clock)
    list(states.listed([("a.service", "active", "running")]))
    told = [event for count in range(601) for event in _one_second_later(states, clock, count)]
    assert [1, *[60] * 9] == [event.detail["times"] for event in told]
    clock.now += 60
    assert [59] == [event.detail["times"] for event in states.due()]
    assert [] == list(states.due())


def _one_second_later(states: UnitStates, clock: Clock, count: int) -> list[Event]:
    clock.now += 1.0
    return [*states.restarts("a.service", count), *states.due()]


def test_service_that_somebody_restarts_too_fast_to_see_it_down_is_told() -> None:
    states = _states()
    list(states.listed([("a.service", "active", "running")]))
    assert [] == list(states.changed("a.service", "active", "running", "0a"))
    assert [] == list(states.changed("a.service", "active", "running", "0a"))
    assert [] == list(states.due())
    assert [] == list(states.changed("a.service", "active", "running", "0b"))
    [event] = states.due()
    assert ("systemd.unit.restarted", "a.service was started again") == (event.type, event.message)


def test_restarts_come_over_the_socket_once_each(tmp_path: Path) -> None:
    with FakeSystemd(tmp_path, {"a.service": "active", "old.service": "active"}) as systemd:
        systemd.restarts = {"a.service": 4}
        manager = _manager(tmp_path)
        assert [] == manager.poll()
        assert [4, None] == [fields["restarts_total"] for _, fields in manager.states.readings()]
        systemd.change("a.service", "active", run=b"\x01")
        systemd.change("a.service", "activating", "auto-restart")
        systemd.change("a.service", "active", run=b"\x02")
        systemd.count("a.service", 5)
        [event] = _polled(manager, 1)
        assert ("systemd.unit.restarted", 5) == (event.type, event.detail["restarts"])
        manager.close()


def test_rows_come_once_a_minute_with_what_the_control_groups_say(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/system.slice/system-b.slice/b@1.service"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("4096\n")
    (group / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (group / "pids.current").write_text("3\n")
    clock = Clock()
    with FakeSystemd(tmp_path, {"a.service": "active", "b@1.service": "active", "c.service": "failed"}):
        collector = _collector(tmp_path, clock=clock)
        collector.start()
        assert [] == list(collector.collect())
        collector._manager.poll()
        rows = _rows(collector)
        assert {"state": "active", "up": True, "memory_bytes": 4096, "cpu_seconds_total": 1.5, "processes": 3} == {
            name: value for name, value in rows["b@1.service"].items() if value is not None
        }
        assert {"state": "active", "up": True} == {k: v for k, v in rows["a.service"].items() if v is not None}
        assert ("failed", False) == (rows["c.service"]["state"], rows["c.service"]["up"])
        assert {} == _rows(collector)
        clock.now += 60
        assert {"a.service", "b@1.service", "c.service"} == _rows(collector).keys()
        collector.stop()
        quiet = _collector(tmp_path, Level.STANDARD, clock)
        quiet.start()
        quiet._manager.poll()
        assert "memory_bytes" not in _rows(quiet)["b@1.service"]
        quiet.stop()


def _rows(collector: ServiceCollector) -> dict[str, dict[str, FieldValue]]:
    readings = [item for item in collector.collect() if isinstance(item, Reading) and item.measurement == "service"]
    return {reading.attributes["unit"]: dict(reading.fields) for reading in readings}


@pytest.mark.parametrize("name", ["ssh.service", "b-c@1.service", "9p.service", "ü.service"])
def test_object_name_comes_back_as_the_unit_name(name: str) -> None:
    assert name == unit_name("/org/freedesktop/systemd1/unit/" + object_name(name))


@pytest.mark.parametrize("data", [b"x" * 16, b"l\1\0\1" + b"\xff" * 12, b"l\1\0\2" + bytes(12)])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(DBusError):
        message_size(data)


def test_message_cut_or_changed_anywhere_is_read_or_refused() -> None:
    whole = encode_call(1, "/a", "b.c", "D", ("one", "two"), "e.f")
    assert ["one", "two"] == decode(whole).body
    for at in range(16, len(whole)):
        for other in (whole[:at], whole[:at] + b"\xff" + whole[at + 1 :]):
            try:
                decode(other)
            except DBusError:
                continue


@pytest.mark.parametrize("signature", ["(", "a", "z", "(s", "a" * 40 + "s"])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        split_signature(signature)


@pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed")
def test_a_real_broker_understands_us(tmp_path: Path) -> None:
    """The client against the reference implementation: authentication, greeting, match rules, errors."""
    path = tmp_path / "bus"
    (tmp_path / "bus.conf").write_text(
        f"<busconfig><listen>unix:path={path}</listen><auth>EXTERNAL</auth><policy context='default'>"
        "<allow send_destination='*'/><allow own='*'/><allow user='*'/><allow receive_sender='*'/></policy></busconfig>"
    )
    daemon = subprocess.Popen(["dbus-daemon", f"--config-file={tmp_path}/bus.conf", "--nofork", "--nopidfile"])
    try:
        _wait(path.exists)
        connection = Connection(path, bus=True)
        connection.match("type='signal',sender='org.freedesktop.DBus'")
        broker = "org.freedesktop.DBus"
        (names,) = connection.call("/org/freedesktop/DBus", broker, "ListNames", destination=broker)
        assert broker in names
        with pytest.raises(DBusError, match="ServiceUnknown"):
            connection.call("/x", "org.freedesktop.systemd1.Manager", "ListUnits")
        connection.close()
    finally:
        daemon.terminate()
        daemon.wait(60)

"""Services up, down, new and failed, as systemd tells them over its private socket."""

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from collectors._dbus import Connection, DBusError, decode, encode_call, message_size, split_signature
from collectors._names import NameFilter
from collectors.host_section import HostConfig, HostPart, Look
from collectors.host_systemd import SystemdSection, UnitStates, object_name, unit_name
from schemas.rows import Event, Item
from schemas.verbosity import Level
from tests.collectors.host.fake_systemd import FakeSystemd
from tests.collectors.host.replay import collector_of


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.01)


def _polled(section: SystemdSection, count: int) -> list[Event]:
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
    states = UnitStates(NameFilter())
    assert [] == list(states.listed([("a.service", "active"), ("b.service", "failed")]))


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
    states = UnitStates(NameFilter())
    list(states.listed([("a.service", before)]))
    assert [f"systemd.unit.{word}" for word in expected] == [event.type for event in states.changed("a.service", after)]


def test_unit_never_seen_is_new_once() -> None:
    """R001-13: service new."""
    states = UnitStates(NameFilter())
    list(states.listed([]))
    assert ["systemd.unit.new", "systemd.unit.up"] == [event.type for event in states.changed("n.service", "active")]
    assert ["systemd.unit.down"] == [event.type for event in states.removed("n.service")]
    assert ["systemd.unit.up"] == [event.type for event in states.changed("n.service", "active")]


def test_units_changed_while_nobody_listened_are_found_by_the_next_list() -> None:
    states = UnitStates(NameFilter())
    list(states.listed([("a.service", "active"), ("b.service", "active")]))
    events = states.listed([("a.service", "failed"), ("c.service", "active")])
    assert {
        ("systemd.unit.down", "b.service"),
        ("systemd.unit.failed", "a.service"),
        ("systemd.unit.new", "c.service"),
        ("systemd.unit.up", "c.service"),
    } == set(_types(events))


def test_excluded_unit_says_nothing() -> None:
    states = UnitStates(NameFilter(("*.service",), ("user@*",)))
    list(states.listed([]))
    assert [] == list(states.changed("user@0.service", "active"))
    assert [] == list(states.changed("tmp.mount", "active"))


def test_counts_are_absent_until_systemd_has_answered() -> None:
    states = UnitStates(NameFilter())
    assert states.summary() is None
    list(states.listed([("a.service", "failed"), ("b.service", "active")]))
    reading = states.summary()
    assert reading is not None
    assert {"units": 2, "units_active": 1, "units_failed": 1, "failed": "a.service"} == dict(reading.fields)


def test_changes_come_over_the_private_socket(tmp_path: Path) -> None:
    with FakeSystemd(tmp_path, {"a.service": "active", "b-c@1.service": "active"}) as systemd:
        section = SystemdSection(tmp_path, HostConfig())
        assert [] == section.poll()
        systemd.change("b-c@1.service", "inactive")
        events = _polled(section, 1)
        assert [("systemd.unit.down", "b-c@1.service")] == _types(events)
        section.close()


def test_failure_says_why(tmp_path: Path) -> None:
    with FakeSystemd(tmp_path, {"a.service": "active"}) as systemd:
        section = SystemdSection(tmp_path, HostConfig())
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
        section = SystemdSection(tmp_path, HostConfig())
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
        section = SystemdSection(tmp_path, HostConfig())
        section.poll()
        systemd.hang_up()
        with pytest.raises(DBusError):
            _wait(lambda: section.poll() and None)
        assert section.fileno is None
        systemd.units["a.service"] = "failed"
        assert [("systemd.unit.failed", "a.service")] == _types(section.poll())
        section.close()


def test_machine_without_systemd_is_silent(tmp_path: Path) -> None:
    section = SystemdSection(tmp_path, HostConfig())
    section.start()
    assert [] == list(section.read(Look(Level.DEBUG, slow=True)))
    section.close()


def test_watch_emits_within_the_moment_and_ends_when_asked(tmp_path: Path) -> None:
    """R001-13: events as they happen."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu 1 2 3 4\n")
    with FakeSystemd(tmp_path, {"a.service": "active"}) as systemd:
        collector = collector_of(tmp_path, config=HostConfig(parts=frozenset({HostPart.SYSTEMD})))
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

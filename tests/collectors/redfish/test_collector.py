"""Many BMCs, each a subject of its own: what happens to one is told of it, and harms no other."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from collectors.redfish.config import Bmc as Address
from collectors.redfish.config import RedfishConfig
from schemas.device import DeviceKind
from schemas.errors import NoDataError, PartialCollectError, StartupError
from schemas.rows import Severity
from tests.collectors.redfish.running import Running, address
from tests.fakes.redfish import Garbage, Huge, Options, Raw, Rewrite, Simulator, Slow, Stall, Status, made
from tests.ports import free_port

SENSORS = "/redfish/v1/Chassis/Box/Sensors"


def test_every_bmc_is_a_subject_of_its_own_with_its_own_documents(simulator: Simulator) -> None:
    bmcs = [simulator.add(made("made")) for _ in range(3)]
    with Running(*[address(bmc, f"b{index}") for index, bmc in enumerate(bmcs)]) as running:
        for index in range(3):
            running.until(lambda index=index: running.described(f"bmc:b{index}"), f"documents of b{index}")  # type: ignore[misc]
            running.until(lambda index=index: running.rows("bmc_temperature", f"bmc:b{index}"))  # type: ignore[misc]
        [told] = running.described("bmc:b1")
        assert "bmc:b1" == told.documents[0].device
        assert all("b1" in one.device for one in told.documents)
        assert {DeviceKind.BMC, DeviceKind.PSU, DeviceKind.FAN} <= {one.kind for one in told.documents}
        assert [] == list(running.collector.describe())


def test_its_own_bmc_speaks_of_the_node_itself(simulator: Simulator) -> None:
    with Running(address(simulator.add(made("made")), "b", own=True)) as running:
        found = running.until(lambda: list(running.collector.describe()), "documents")
        assert "bmc:b" in {one.device for one in found}
        rows = running.until(lambda: running.rows("bmc_temperature"))
        assert {""} == {row.subject for row in rows}
        assert [] == running.described("bmc:b")


def test_one_session_serves_all_readings_and_is_used_again_after_a_restart(
    simulator: Simulator, tmp_path: Path
) -> None:
    bmc = simulator.add(made("made"))
    for _ in range(2):
        with Running(address(bmc, "b"), state_dir=tmp_path) as running:
            running.until(lambda: len(running.states("bmc:b")) >= 3)
            assert {"ok"} == set(running.states("bmc:b"))
    assert 1 == bmc.sessions.made


def test_without_a_folder_the_session_is_ended(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b")) as running:
        running.until(lambda: running.states("bmc:b"))
    assert any(method == "DELETE" for method, _, _ in bmc.requests)


def test_what_was_described_before_a_restart_is_not_gone(simulator: Simulator, tmp_path: Path) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), state_dir=tmp_path) as running:
        [before] = running.until(lambda: running.described("bmc:b"))
    simulator.disappear(bmc)
    with Running(address(bmc, "b"), state_dir=tmp_path) as running:
        [after] = running.until(lambda: running.described("bmc:b"))
        assert before == after


def test_an_expired_session_is_made_again_without_a_reading_lost(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b")) as running:
        running.until(lambda: running.states("bmc:b"))
        bmc.sessions.expire()
        seen = len(running.states("bmc:b"))
        running.until(lambda: len(running.states("bmc:b")) > seen + 1)
        assert {"ok"} == set(running.states("bmc:b"))
        assert 2 == bmc.sessions.made


def test_a_bmc_without_sessions_is_read_with_name_and_password(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"), Options(sessions=False))
    with Running(address(bmc, "b")) as running:
        running.until(lambda: "ok" in running.states("bmc:b"))


def test_the_wrong_password_is_told_once_and_not_tried_again_soon(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b", password="guess")) as running:
        [event] = running.until(lambda: running.events("redfish.bmc.denied"))
        assert (Severity.ERROR, "bmc:b", "bmc:b") == (event.severity, event.subject, event.device)
        with pytest.raises(PartialCollectError, match="password is refused"):
            list(running.collector.collect())
        assert ["denied"] == running.states("bmc:b")
        attempts = len([one for one in bmc.requests if one[0] == "POST"])
    assert 1 == attempts


def test_a_dead_bmc_is_told_lost_and_back_and_the_others_go_on(simulator: Simulator) -> None:
    bmc, other = simulator.add(made("made")), simulator.add(made("made"))
    with Running(address(bmc, "b"), address(other, "o")) as running:
        running.until(lambda: "ok" in running.states("bmc:b"))
        simulator.disappear(bmc)
        [lost] = running.until(lambda: running.events("redfish.bmc.lost"))
        assert ("bmc:b", Severity.ERROR) == (lost.subject, lost.severity)
        assert "unreachable" == running.states("bmc:b")[-1]
        simulator.reappear(bmc)
        running.until(lambda: running.events("redfish.bmc.back"))
        seen = len(running.states("bmc:o"))
        running.until(lambda: len(running.states("bmc:o")) > seen)
        assert {"ok"} == set(running.states("bmc:o"))


def test_a_bmc_that_hangs_is_given_up_in_time_and_does_not_delay_the_end(simulator: Simulator) -> None:
    silent = Address(address=simulator.silent(), name="s")
    with Running(silent, address(simulator.add(made("made")), "o"), answer_seconds=0.3) as running:
        running.until(lambda: "unreachable" in running.states("bmc:s"))
        running.until(lambda: len(running.states("bmc:o")) > 2)
    with Running(silent, answer_seconds=60.0) as running:
        before = threading.active_count()
        assert before  # it waits for an answer that does not come, and ends all the same


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        (Garbage(), "faults"),
        (Status(500), "faults"),
        (Huge(100_000), "faults"),
        (Raw(b"SSH-2.0-dropbear\r\n"), "faults"),
        (Stall(after_bytes=20), "faults"),
        (Rewrite(lambda _: []), "faults"),
        (Rewrite(lambda resource: {**resource, "Members": {"a": 1}, "Status": [], "Reading": {}}), ""),
    ],
    ids=["garbage", "error", "huge", "not HTTP", "stall", "a list", "wrong types"],
)
def test_what_is_not_as_it_should_be_is_counted_and_the_next_reading_is_sound(
    simulator: Simulator, fault: object, counted: str
) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), answer_seconds=0.5, max_answer_bytes=60_000) as running:
        running.until(lambda: "ok" in running.states("bmc:b"))
        bmc.faults.add(fault, path=f"{SENSORS}*", times=1)  # type: ignore[arg-type]
        seen = len(running.rows("bmc_reader"))
        running.until(lambda: len(running.rows("bmc_reader")) > seen + 3)
        rows = running.rows("bmc_reader")[seen:]
        if counted:
            assert rows[-1].fields["faults_total"] > 0  # type: ignore[operator]
        running.until(lambda: running.states("bmc:b")[-1] == "ok")
        fresh = len(running.rows("bmc_temperature"))
        running.until(lambda: len(running.rows("bmc_temperature")) > fresh)


def test_a_resource_that_always_hangs_is_left_out_and_the_rest_is_read(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    for path in ("/redfish/v1/UpdateService", f"{SENSORS}*"):
        bmc.faults.add(Stall(), path=path)
    with Running(address(bmc, "b"), answer_seconds=0.3) as running:
        running.until(lambda: "ok" in running.states("bmc:b"), "a reading in spite of it")
        running.until(lambda: running.rows("bmc_psu"), "rows of the supplies")
        assert [] == running.rows("bmc_temperature")


@pytest.mark.parametrize(
    ("path", "missing"), [(f"{SENSORS}/Airflow", 0), ("/redfish/v1/Systems/System/Memory/DIMM_A", 1)]
)
def test_a_bmc_that_is_always_too_busy_for_one_resource_is_read_but_for_that(
    simulator: Simulator, path: str, missing: int
) -> None:
    sound, bmc = simulator.add(made("made")), simulator.add(made("made"))
    bmc.faults.add(Status(503), path=path)
    with Running(address(sound, "s"), address(bmc, "b"), expand=False) as running:
        running.until(lambda: running.described("bmc:b") and running.described("bmc:s"))
        whole, found = running.described("bmc:s")[-1], running.described("bmc:b")[-1]
        assert (missing, not missing) == (len(whole.documents) - len(found.documents), found.whole)
        running.until(lambda: ["ok"] * 3 == running.states("bmc:b")[-3:])
        assert [] == running.events("redfish.bmc.lost")


def test_a_busy_bmc_is_left_alone_for_as_long_as_it_asks(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    bmc.faults.add(Status(503, retry_after="3600"))
    with Running(address(bmc, "b")) as running:
        running.until(lambda: "occupied" in running.states("bmc:b"))
        [unit] = running.collector._poller.units  # type: ignore[union-attr]
        running.until(lambda: unit.due - unit.began > 3000)


def test_what_cannot_be_kept_for_the_next_start_is_said(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "bmcs").write_bytes(b"")  # no folder can be made there
    with Running(address(simulator.add(made("made")), "b"), state_dir=tmp_path) as running:
        running.until(lambda: "ok" in running.states("bmc:b"))
        with pytest.raises(PartialCollectError, match=r"such as b: .*bmcs"):
            list(running.collector.collect())


def test_what_the_user_may_not_read_is_said(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    bmc.faults.add(Status(403), path="/redfish/v1/UpdateService*")
    with Running(address(bmc, "b")) as running:
        [event] = running.until(lambda: running.events("redfish.bmc.restricted"))
        assert "/redfish/v1/UpdateService" == event.detail["first"]
        assert "ReadOnly" in event.message
        running.until(lambda: "partial" in running.states("bmc:b"))
        with pytest.raises(PartialCollectError, match="UpdateService"):
            list(running.collector.collect())


def test_its_events_are_heard_at_once_and_what_they_are_about_is_read_again(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), every_seconds=3600.0, logs_every_seconds=3600.0) as running:
        running.until(lambda: bmc.events.streams == 1, "a stream")
        origin = "/redfish/v1/Chassis/Box/PowerSubsystem/PowerSupplies/PSU_1"
        bmc.events.emit("Power.1.0.PowerSupplyFailed", "Power supply 1 failed.", "Critical", origin)
        event = running.until(lambda: [one for one in running.events() if "failed" in one.message], "the event")[0]
        assert "bmc:b" == event.subject
        assert event.device.startswith("psu:b/")
        running.until(lambda: len(running.states("bmc:b")) >= 2, "another reading")


def test_a_stream_of_garbage_harms_nothing_and_one_that_ends_is_opened_again_later(simulator: Simulator) -> None:
    bmc, other = simulator.add(made("made")), simulator.add(made("made"))
    with Running(address(bmc, "b"), address(other, "o")) as running:
        running.until(lambda: bmc.events.streams == 1 and other.events.streams == 1, "streams")
        bmc.events.send(b"data: {]\n\n" * 10 + b"\xff" * 10_000 + b"\n")
        bmc.events.cut()
        other.events.emit("Power.1.0.PowerSupplyFailed", "Power supply 1 failed.", "Critical")
        running.until(lambda: [one for one in running.events() if one.subject == "bmc:o"], "the event of the other")
        running.until(lambda: running.states("bmc:b")[-1] == "ok")


def test_the_list_is_read_anew_when_it_changes(simulator: Simulator, tmp_path: Path) -> None:
    one, two = simulator.add(made("made")), simulator.add(made("made"))
    file = tmp_path / "bmcs.toml"

    def write(*named: tuple[str, str]) -> None:
        file.write_text("".join(f'[[bmcs]]\nname = "{name}"\naddress = "{url}"\n' for name, url in named))

    write(("one", one.url))
    with Running(file=str(file), user=one.user, password=one.password, state_dir=tmp_path) as running:
        running.until(lambda: running.described("bmc:one"))
        write(("two", two.url), ("three", simulator.silent()))
        list(running.collector.collect())
        running.until(lambda: "ok" in running.states("bmc:two"))
        running.until(lambda: () == running.described("bmc:one")[-1].documents, "what is gone")
        file.write_text("[[bmcs]\n")
        with pytest.raises(PartialCollectError, match="goes on"):
            list(running.collector.collect())
        seen = len(running.states("bmc:two"))
        running.until(lambda: len(running.states("bmc:two")) > seen)


def test_nothing_is_left_behind_at_a_bmc_that_is_read_no_more(simulator: Simulator, tmp_path: Path) -> None:
    heard, mute = simulator.add(made("made")), simulator.add(made("made"))
    mute.change("/redfish/v1/EventService", ServerSentEventUri=None)
    file = tmp_path / "bmcs.toml"
    file.write_text("".join(f'[[bmcs]]\nname = "{one.url[-5:]}"\naddress = "{one.url}"\n' for one in (heard, mute)))
    with Running(
        file=str(file),
        callback_listen=f"127.0.0.1:{free_port()}",
        user=mute.user,
        password=mute.password,
        state_dir=tmp_path,
    ) as running:
        running.until(lambda: heard.events.streams and mute.events.subscriptions)
        file.write_text(f'[[bmcs]]\nname = "other"\naddress = "{simulator.silent()}"\n')
        list(running.collector.collect())
        running.until(lambda: not mute.events.subscriptions, "the end of the subscription")
        running.until(lambda: not heard.events.streams, "the end of the stream")
        running.until(lambda: not (heard.sessions.open() or mute.sessions.open()), "the end of the sessions")


@pytest.mark.parametrize("kept", [True, False])
def test_nothing_is_left_behind_where_another_bmc_takes_a_name(
    simulator: Simulator, tmp_path: Path, *, kept: bool
) -> None:
    before, after = simulator.add(made("made")), simulator.add(made("made"))
    for bmc in (before, after):
        bmc.change("/redfish/v1/EventService", ServerSentEventUri=None)
    file = tmp_path / "bmcs.toml"
    options: dict[str, Any] = {"file": str(file), "user": before.user, "password": before.password}
    state_dir = tmp_path if kept else None
    file.write_text(f'[[bmcs]]\nname = "b"\naddress = "{before.url}"\n')
    with Running(callback_listen=f"127.0.0.1:{free_port()}", state_dir=state_dir, **options) as running:
        running.until(lambda: before.events.subscriptions)
        seen = len(running.states("bmc:b"))
        running.until(lambda: len(running.states("bmc:b")) > seen + 1, "a reading after its answer")
        file.write_text(f'[[bmcs]]\nname = "b"\naddress = "{after.url}" # another\n')
        list(running.collector.collect())
        running.until(lambda: not before.events.subscriptions, "the end of the subscription")
        running.until(lambda: not before.sessions.open(), "the end of the session")
        running.until(lambda: after.events.subscriptions)
    with Running(state_dir=state_dir, **options) as running:  # what is kept is the new one's, untouched by the old one
        running.until(lambda: "ok" in running.states("bmc:b"))
    assert (1 if kept else 2) == after.sessions.made


def test_a_bmc_that_is_read_no_more_in_the_middle_of_a_reading_keeps_no_session(
    simulator: Simulator, tmp_path: Path
) -> None:
    bmc, file = simulator.add(made("made")), tmp_path / "bmcs.toml"
    bmc.faults.add(Slow(0.2))
    file.write_text(f'[[bmcs]]\nname = "b"\naddress = "{bmc.url}"\n')
    options: dict[str, Any] = {"user": bmc.user, "password": bmc.password, "events": False}
    with Running(file=str(file), state_dir=tmp_path, **options) as running:
        running.until(lambda: running.rows("bmc_temperature"), "rows of a reading that is not over")
        assert [] == running.states("bmc:b")
        bmc.sessions.expire()  # so that the next request makes a new one
        file.write_text(f'[[bmcs]]\nname = "other"\naddress = "{simulator.silent()}"\n')
        list(running.collector.collect())
        asked = -1
        while asked < (asked := len(bmc.requests)):  # until nobody asks it any more
            time.sleep(1.0)
        assert [] == bmc.sessions.open()
        kept = [path.read_bytes() for path in (tmp_path / "bmcs").glob("*.json")]
        assert not any(bmc.url.encode() in one for one in kept)


def test_a_session_goes_on_where_nothing_but_the_password_changed(simulator: Simulator, tmp_path: Path) -> None:
    bmc, file = simulator.add(made("made")), tmp_path / "bmcs.toml"
    file.write_text(f'[[bmcs]]\nname = "b"\naddress = "{bmc.url}"\n')
    with Running(file=str(file), state_dir=tmp_path, user=bmc.user, password=bmc.password) as running:
        running.until(lambda: "ok" in running.states("bmc:b"))
        file.write_text(f'[[bmcs]]\nname = "b"\naddress = "{bmc.url}"\npassword = "another"\n')
        list(running.collector.collect())
        seen = len(running.states("bmc:b"))
        running.until(lambda: len(running.states("bmc:b")) > seen + 1)
        assert (1, {"ok"}) == (bmc.sessions.made, set(running.states("bmc:b")))


def test_where_no_bmc_is_named_nothing_is_started(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(NoDataError):
        Running().collector.start()
    with pytest.raises(StartupError, match=r"none\.toml"):
        Running(file=str(tmp_path / "none.toml")).collector.start()
    assert before == threading.active_count()


@pytest.mark.parametrize("wrong", ["ftp://b", "https://b/redfish", "https://user@b", "", "https://b:99999", "a b"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"address|port|Port|name"):
        Address(address=wrong)


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = (Address(address="10.0.0.1"), Address(address="https://10.0.0.1"))
    found = list(Running(*twice).collector.check_options(attempt=False))
    assert ["bmcs"] == [one.option for one in found]
    assert "10.0.0.1" in found[0].text
    plain = Running(Address(address="http://10.0.0.1", user="u", password="p"))
    assert "http sends its password" in next(iter(plain.collector.check_options(attempt=False))).text
    assert RedfishConfig().bmcs == ()

"""The scheduler drives collectors in real helper processes: states, counts, deliveries, and what others may ask."""

import logging
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.scheduler import Scheduler
from collectors.status import State
from collectors.zygote import exec_zygote
from schemas.device import decode_document
from schemas.rows import Position
from schemas.verbosity import Level, RowClass
from tests.collectors.runtime.rig import FAST, Intake, Rig, running, setup


def test_rows_come_with_subject_level_and_increasing_times() -> None:
    with running(setup("good", "Good")) as rig:
        rig.until(lambda: len(rig.intake.values("good", "calls")) >= 3)
    assert rig.intake.values("good", "calls")[:3] == [1, 2, 3]
    blocks = [parcel.block for parcel in rig.intake.parcels("good") if parcel.level is Level.STANDARD]
    assert {block.subject for block in blocks} == {"node-1"}
    assert [block.start for block in blocks] == sorted({block.start for block in blocks})


def test_collectors_of_one_group_share_a_helper_and_others_do_not() -> None:
    setups = [setup("a", "Good"), setup("b", "Good"), setup("c", "Alone"), setup("d", "Good", isolation="own")]
    with running(*setups, setup("e", "Alone", isolation="node")) as rig:
        rig.until(lambda: all(status.runs for status in rig.scheduler.status()))
        pids = {status.name: status.helper_pid for status in rig.scheduler.status()}
    assert pids["a"] == pids["b"] == pids["e"]
    assert len({pids["a"], pids["c"], pids["d"]}) == 3


@pytest.mark.parametrize(
    ("fleet_class", "errors"),
    [
        ("Raiser", {"ZeroDivisionError"}),
        ("SysExiter", {"SystemExit"}),
        ("Flooder", {"flooding"}),
        ("Garbage", {"not_an_item", "type", "undeclared", "garbage", "attributes"}),
        ("Partial", {"PartialCollectError"}),
    ],
)
def test_errors_of_a_collection_are_counted_by_type_and_what_came_before_stands(
    fleet_class: str, errors: set[str]
) -> None:
    """Promise 5: one bad value or collector harms only itself."""
    with running(setup("bad", fleet_class)) as rig:
        rig.until(lambda: rig.status("bad").runs >= 2)
        status = rig.status("bad")
    assert set(status.errors) == errors
    assert status.last_error
    assert bool(rig.intake.values("bad", "began_ns")) == (fleet_class != "SysExiter")


def test_flood_is_cut_at_the_limit() -> None:
    with running(setup("bad", "Flooder", interval=5.0)) as rig:
        rig.until(lambda: rig.status("bad").runs)
    assert len(rig.intake.values("bad", "began_ns")) == FAST.max_rows


def test_watch_that_floods_waits_for_its_turn() -> None:
    """Only one of its deliveries is in the agent, and about `max_rows` a second get in."""
    with running(setup("bad", "WatchFlooder", interval=5.0)) as rig:
        rig.until(lambda: rig.status("bad").rows)
        began, before = time.monotonic(), rig.status("bad").rows
        rig.until(lambda: rig.status("bad").rows > before + FAST.max_rows)
        rows, took = rig.status("bad").rows - before, time.monotonic() - began
    assert rows <= (took + 3) * FAST.max_rows


@pytest.mark.parametrize(
    ("fleet_class", "kind"), [("Sleeper", "timeout"), ("GilHolder", "timeout"), ("Exiter", "crash")]
)
def test_helper_that_hangs_or_dies_is_replaced(fleet_class: str, kind: str) -> None:
    with running(setup("bad", fleet_class, timeout=0.4)) as rig:
        rig.until(lambda: rig.status("bad").errors.get(kind, 0) >= 2)
        status = rig.status("bad")
    assert (status.timeouts if kind == "timeout" else status.crashes) == status.errors[kind]


@pytest.mark.parametrize(
    ("fleet_class", "kind"),
    [("Segfaulter", "crash"), ("Closer", "crash"), ("Liar", "garbage"), ("Glutton", "memory")],
)
def test_helper_that_cannot_be_trusted_any_more_is_replaced(fleet_class: str, kind: str) -> None:
    options = msgspec.structs.replace(FAST, memory_bytes=128 << 20)
    with running(setup("bad", fleet_class), setup("good", "Good"), options=options) as rig:
        rig.until(lambda: rig.status("bad").errors.get(kind, 0) >= 2)
        assert not rig.status("good").errors


def test_neighbours_of_a_hung_collector_go_on_in_a_new_helper() -> None:
    """The one that hangs twice is given a helper of its own, and then harms nobody."""
    with running(setup("bad", "SharedGilHolder", timeout=0.4), setup("good", "Good")) as rig:
        rig.until(lambda: rig.status("bad").timeouts >= 3)
        assert rig.status("bad").group == "own:bad"
        runs = rig.status("good").runs
        rig.until(lambda: rig.status("good").runs > runs + 5)
        assert rig.status("good").errors == {}


def test_processes_that_a_collector_forks_off_neither_speak_for_it_nor_stay() -> None:
    with running(setup("bad", "Forker")) as rig:
        rig.until(lambda: rig.status("bad").runs >= 3)
        pid = rig.status("bad").helper_pid
        assert set(rig.intake.values("bad", "began_ns")) == {pid}
        assert rig.status("bad").errors == {}


def test_killed_zygote_is_replaced_and_who_kills_it_again_has_to_wait() -> None:
    options = msgspec.structs.replace(FAST, backoff_first=60.0, backoff_most=60.0, first_within=2.0)
    with running(setup("killer", "ZygoteKiller", interval=2.0), setup("good", "Alone"), options=options) as rig:
        rig.until(lambda: rig.scheduler.pool.zygotes_lost == 2)
        rig.until(lambda: rig.status("killer").state is State.BACKING_OFF)
        runs = rig.status("good").runs
        rig.until(lambda: rig.status("good").runs > runs + 2)
        assert rig.status("good").errors == {}
        assert rig.scheduler.pool.zygotes_lost == 2
        assert ["collector.zygote.lost"] * 2 == [kind for kind, _ in rig.told if "zygote" in kind]
        assert all(facts["helpers"] and facts["reason"] for kind, facts in rig.told if "zygote" in kind)


def test_nothing_here_is_no_failure_and_is_looked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    with running(setup("none", "NoHardware")) as rig:
        rig.until(lambda: rig.status("none").state is State.NO_DATA)
        status = rig.status("none")
        assert (status.errors, status.last_error, status.helper_pid) == ({}, "no such device here", None)
        assert status.next_try_seconds is not None
        rig.until(lambda: rig.status("none").state is State.STARTING)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("call", ["start", "collect", "describe", "watch"])
def test_collector_whose_process_is_spent_goes_on_in_a_new_one_without_being_killed(call: str, tmp_path: Path) -> None:
    """A driver's library is never unloaded: after a reload of the driver only a new process can use it."""
    options = msgspec.structs.replace(FAST, state_dir=tmp_path)
    with running(setup("spent", "Spent", config={"word": call}), options=options) as rig:
        rig.until((tmp_path / "spent" / "found").exists)
        before = rig.status("spent").helper_pid
        rig.until(lambda: rig.status("spent").errors.get("NewProcessError"))
        rig.until(lambda: rig.status("spent").state is State.RUNNING)
        rig.until(lambda: rig.status("spent").helper_pid not in (None, before))
        pid = rig.status("spent").helper_pid
        rig.until(lambda: pid in rig.intake.values("spent", "pid"))
        assert {"NewProcessError": 1} == rig.status("spent").errors
        assert [] == rig.told


def test_what_can_never_run_here_is_not_tried_again() -> None:
    with running(setup("never", "NoPlatform")) as rig:
        rig.until(lambda: rig.status("never").state is State.UNSUPPORTED)
        assert rig.status("never").next_try_seconds is None
        time.sleep(0.5)
        assert rig.status("never").errors == {"StartupError": 1}


def test_start_is_tried_again_until_it_works() -> None:
    with running(setup("shy", "Shy")) as rig:
        rig.until(lambda: rig.status("shy").runs)
        assert rig.status("shy").errors == {"StartupError": 2}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"config": {"worb": "x"}}, "Did you mean 'word'?"),
        ({"config": {"number": "x"}}, "must be a whole number, such as number = 5; this is a text"),
        ({"factory": "sislog"}, "no collector of this name"),
        ({"factory": "tests.collectors.runtime.fleet:FAST"}, "does not name a class"),
    ],
)
def test_wrong_configuration_is_told_and_waits_for_another(fields: dict[str, Any], text: str) -> None:
    wrong = msgspec.structs.replace(setup("fan", "Good"), **fields)
    with running(wrong) as rig:
        rig.until(lambda: rig.status("fan").state is State.MISCONFIGURED)
        assert text in rig.status("fan").last_error
        rig.scheduler.reload([setup("fan", "Good")])
        rig.until(lambda: rig.status("fan").runs)


def test_module_that_cannot_be_imported_is_backed_off() -> None:
    with running(msgspec.structs.replace(setup("fan", "Good"), factory="no_such_module:Fan")) as rig:
        rig.until(lambda: rig.status("fan").errors.get("ModuleNotFoundError", 0) >= 2)


def test_watch_resumes_after_the_position_that_was_taken() -> None:
    """Rows and the position that covers them are one delivery; a restart reads on from there."""
    intake = Intake()
    with running(setup("tape", "Watcher"), intake=intake) as rig:
        rig.until(lambda: len(intake.values("tape", "in_force")) >= 3)
        rig.scheduler.reload([setup("tape", "Watcher", interval=0.3)])
        rig.until(lambda: len(intake.values("tape", "position")) >= 2)
    assert intake.values("tape", "position")[0] == "none"
    read = [int(each.value) for name, delivery in intake.taken for each in delivery.positions]
    assert read == list(range(1, len(read) + 1))
    rows = [delivery for _, delivery in intake.taken if delivery.positions]
    assert all(len(delivery.parcels) == 1 for delivery in rows)


def test_what_a_watch_emits_when_it_is_asked_to_stop_is_taken() -> None:
    """What was read from a socket cannot be read again: an ordinary stop must not lose it."""
    intake = Intake()
    with running(setup("tape", "LastWords"), intake=intake) as rig:
        rig.until(lambda: intake.values("tape", "position") == ["first"])
    assert intake.values("tape", "position") == ["first", "last"]


def test_watch_that_ends_is_started_again() -> None:
    with running(setup("dying", "Dying")) as rig:
        rig.until(lambda: rig.status("dying").errors.get("ConnectionResetError", 0) >= 3)


def test_watch_that_does_not_end_costs_its_helper() -> None:
    with running(setup("stuck", "Unstoppable")) as rig:
        rig.until(lambda: rig.status("stuck").rows)
        pid = rig.status("stuck").helper_pid
        rig.scheduler.reload([setup("stuck", "Alone")])
        rig.until(lambda: rig.status("stuck").runs)
        assert rig.status("stuck").helper_pid != pid


@pytest.mark.alone
def test_level_in_force_reaches_a_watch_within_a_second() -> None:
    """R001-12, promise 6."""
    intake = Intake()
    with running(setup("tape", "Watcher", interval=60.0), intake=intake) as rig:
        rig.until(lambda: Level.DEBUG in intake.values("tape", "in_force"))
        intake.in_force = Level.ESSENTIAL
        rig.scheduler.levels_changed()
        rig.until(lambda: Level.ESSENTIAL in intake.values("tape", "in_force"), 1.0)


def test_event_of_a_device_is_followed_by_a_reading_at_once() -> None:
    with running(
        setup("tape", "Watcher", interval=60.0), options=msgspec.structs.replace(FAST, first_within=60)
    ) as rig:
        rig.until(lambda: rig.status("tape").runs == 1)
        assert any(parcel.row_class is RowClass.EVENT for parcel in rig.intake.parcels("tape"))


def test_who_is_asked_to_read_again_does_so_now_and_others_do_not() -> None:
    setups = (setup("one", "Printer", interval=60.0), setup("other", "Printer", interval=60.0))
    with running(*setups) as rig:
        rig.until(lambda: [1, 1] == [rig.status(name).runs for name in ("one", "other")])
        rig.scheduler.read_again({"one", "nobody"})
        rig.until(lambda: rig.status("one").runs == 2)
        assert 1 == rig.status("other").runs


def test_documents_travel_when_they_change_and_not_otherwise() -> None:
    options = msgspec.structs.replace(FAST, describe_every=0.1)
    with running(setup("tape", "Watcher", config={"word": "a"}), options=options) as rig:
        rig.until(lambda: rig.intake.documents("tape"))
        time.sleep(0.6)
    (documents,) = rig.intake.documents("tape")
    assert [decode_document(text).device for text in documents] == ["gpu:a"]


def test_intake_that_is_behind_holds_watch_and_ticks_back_and_nothing_is_lost() -> None:
    intake = Intake()
    with running(setup("tape", "Watcher", interval=0.1), intake=intake) as rig:
        rig.until(lambda: len(intake.values("tape", "in_force")) >= 2 and rig.status("tape").runs)
        intake.open = False
        time.sleep(0.3)
        before, runs = len(intake.taken), rig.status("tape").runs
        time.sleep(0.7)
        assert (len(intake.taken), rig.status("tape").runs) == (before, runs)
        intake.open = True
        rig.until(lambda: len(intake.taken) > before + 2)
        assert rig.status("tape").skipped > 0
        assert rig.status("tape").errors == {}
    read = [int(each.value) for _, delivery in intake.taken for each in delivery.positions]
    assert read == list(range(1, len(read) + 1))


def test_log_lines_and_prints_of_a_collector_are_the_agents(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with running(setup("printer", "Printer")) as rig:
        rig.until(lambda: rig.status("printer").runs >= 2)
    assert ("muster.collector.printer", logging.WARNING, "fan stuck rpm=0") in caplog.record_tuples
    assert "I was here" not in capfd.readouterr().out


def test_reload_stops_what_is_gone_and_leaves_what_is_not_changed() -> None:
    with running(setup("a", "Good"), setup("b", "Alone")) as rig:
        rig.until(lambda: all(status.runs for status in rig.scheduler.status()))
        pid = rig.status("a").helper_pid
        rig.scheduler.reload([setup("a", "Good"), setup("c", "Alone", enabled=False)])
        rig.until(lambda: {status.name for status in rig.scheduler.status()} == {"a", "c"})
        assert rig.status("c").state is State.DISABLED
        runs = rig.status("a").runs
        rig.until(lambda: rig.status("a").runs > runs)
        assert (rig.status("a").helper_pid, rig.status("a").errors) == (pid, {})


def test_once_collects_from_each_and_ends() -> None:
    """`--test` and `--once`: every collector once, watches for a moment, failures told."""
    intake = Intake()
    setups = [setup("good", "Good", interval=600.0), setup("tape", "Watcher", interval=600.0), setup("bad", "Raiser")]
    scheduler = Scheduler([*setups, setup("none", "NoHardware")], intake, exec_zygote(), FAST)
    results = {result.status.name: result for result in scheduler.once(test_wait=0.5)}
    assert {name: result.status.state for name, result in results.items()} == {
        "good": State.RUNNING,
        "tape": State.RUNNING,
        "bad": State.RUNNING,
        "none": State.NO_DATA,
    }
    assert results["bad"].status.last_error == "ZeroDivisionError: a bug"
    assert [len(results[name].deliveries) > 0 for name in ("good", "tape", "none")] == [True, True, False]
    assert sum(len(result.deliveries) for result in results.values()) <= len(intake.taken)
    assert any(Position("tape", "1") in delivery.positions for delivery in results["tape"].deliveries)


def test_stopping_ends_every_process(tmp_path: Any) -> None:
    with running(setup("good", "Good"), setup("bad", "GilHolder", timeout=60.0), setup("tape", "Watcher")) as rig:
        rig.until(lambda: rig.status("good").runs and rig.status("tape").rows)
        time.sleep(0.3)
        pids = [status.helper_pid for status in rig.scheduler.status()] + [rig.zygote.pid]
    assert_gone(rig, [pid for pid in pids if pid is not None])


def assert_gone(rig: Rig, pids: list[int]) -> None:
    import os

    assert len(pids) == 4
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

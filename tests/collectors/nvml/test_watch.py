"""What the driver tells by itself becomes typed events, and a wait that fails takes no core."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from collectors._untold import Untold
from collectors.nvml.watch import Watch
from collectors.xids import XIDS, Cause
from schemas.errors import NewProcessError
from schemas.events import check_events
from schemas.rows import Reading, Severity
from tests.collectors.nvml.help import Watching, machine, watching
from tests.fakes.nvml import Answer, FakeNvml, MigInstance


def _until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def _listening(fake: FakeNvml, watch: Watching, times: int = 1) -> None:
    """Wait until the event set is there and waited for."""
    _until(lambda: fake.calls("nvmlEventSetWait_v2") >= times)


@pytest.mark.parametrize(
    ("code", "severity", "cause"),
    [(79, Severity.CRITICAL, "hardware"), (13, Severity.NOTICE, "program"), (48, Severity.ERROR, "memory"),
     (999, Severity.ERROR, "driver")],
)  # fmt: skip
def test_xid_is_an_event_with_its_cause_and_a_count(
    fake_nvml: FakeNvml, code: int, severity: Severity, cause: str
) -> None:
    """A program's own mistake is no sign of a bad GPU."""
    with machine(fake_nvml) as made, watching(made) as watch:
        _listening(fake_nvml, watch)
        fake_nvml.xid(4, code)
        fake_nvml.xid(4, code)
        _until(lambda: len(watch.events) == 2)
        told = watch.events[0]
        assert ("nvml.xid", made.device(4), severity) == (told.type, told.device, told.severity)
        assert (code, cause, "0000:5b:00.0") == tuple(told.detail[name] for name in ("xid", "cause", "address"))
        assert "gpu_instance" not in told.detail
        counts = [item for item in watch.items if isinstance(item, Reading)]
        assert [(str(code), 1), (str(code), 2)] == [
            (row.attributes["code"], row.fields["seen_total"]) for row in counts
        ]


def test_xid_of_a_partition_names_it(fake_nvml: FakeNvml) -> None:
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    with machine(fake_nvml) as made, watching(made) as watch:
        _listening(fake_nvml, watch)
        fake_nvml.xid(0, 94, gi=1, ci=0)
        _until(lambda: watch.events)
        assert (1, 0) == (watch.events[0].detail["gpu_instance"], watch.events[0].detail["compute_instance"])


@pytest.mark.parametrize(
    ("kind", "type_"),
    [(0x200, "nvml.ecc.storm"), (0x400, "nvml.memory.retired"), (0x800, "nvml.memory.retirement_failed"),
     (0x1000, "nvml.memory.poisoned"), (0x2000, "nvml.memory.poisoned"), (0x4000, "nvml.gpu.unavailable")],
)  # fmt: skip
def test_each_kind_of_event_has_its_type(fake_nvml: FakeNvml, kind: int, type_: str) -> None:
    with machine(fake_nvml) as made, watching(made) as watch:
        _listening(fake_nvml, watch)
        fake_nvml.event(1, kind)
        _until(lambda: watch.events)
        assert [(type_, made.device(1))] == [(event.type, event.device) for event in watch.events]


def test_gpu_of_an_event_is_read_whole_at_the_next_turn_and_others_are_not(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made, watching(made) as watch:
        made.items()
        _listening(fake_nvml, watch)
        fake_nvml.gpus[6].remap_pending = True
        fake_nvml.xid(6, 63)
        _until(lambda: watch.events)
        rows = {row.device: row.fields for row in made.rows()}
        assert rows[made.device(6)]["row_remap_pending"] is True
        assert "row_remap_pending" not in rows[made.device(5)]
        _until(lambda: "nvml.row_remap.pending" in [event.type for event in watch.events])


@pytest.mark.parametrize("kind", [0x2, 0x100, 0x8000])
def test_what_a_reading_tells_better_is_only_read(fake_nvml: FakeNvml, kind: int) -> None:
    with machine(fake_nvml) as made, watching(made) as watch:
        made.items()
        _listening(fake_nvml, watch)
        fake_nvml.gpus[2].recovery_action = 1
        fake_nvml.event(2, kind)
        _until(lambda: made.collector._gpus[2].urgent)
        made.items()
        _until(lambda: watch.events)
        assert ["nvml.gpu.recovery_action"] == [event.type for event in watch.events]


def test_wait_that_fails_at_once_does_not_become_a_busy_loop(fake_nvml: FakeNvml) -> None:
    """A lost GPU has every wait come back at once, for ever."""
    fake_nvml.returns("nvmlEventSetWait_v2", 15)
    with machine(fake_nvml) as made, watching(made) as watch:
        _listening(fake_nvml, watch)
        before = time.process_time()
        time.sleep(1.6)
        assert fake_nvml.calls("nvmlEventSetWait_v2") <= 9  # each time one, and two to hear a set to its end
        assert time.process_time() - before < 0.5
        fake_nvml.heal("nvmlEventSetWait_v2")
        _listening(fake_nvml, watch, fake_nvml.calls("nvmlEventSetWait_v2") + 1)
        fake_nvml.xid(0, 31)
        _until(lambda: watch.events)


def test_time_out_that_comes_at_once_does_not_become_a_busy_loop(fake_nvml: FakeNvml) -> None:
    fake_nvml.returns("nvmlEventSetWait_v2", 10)
    with machine(fake_nvml) as made, watching(made) as watch:
        _listening(fake_nvml, watch)
        time.sleep(1.2)
        assert fake_nvml.calls("nvmlEventSetWait_v2") <= 9  # each time one, and two to hear a set to its end


def test_others_are_listened_to_after_one_is_lost(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made, watching(made) as watch:
        made.items()
        _listening(fake_nvml, watch)
        fake_nvml.lose(0)
        _until(lambda: made.collector._gpus[0].urgent)
        made.items()
        _until(lambda: "nvml.gpu.lost" in [event.type for event in watch.events])
        calls = fake_nvml.calls("nvmlEventSetWait_v2")
        _listening(fake_nvml, watch, calls + 1)
        fake_nvml.xid(7, 43)
        _until(lambda: ("nvml.xid", made.device(7)) in [(event.type, event.device) for event in watch.events])


@pytest.mark.parametrize(
    "function", ["nvmlEventSetCreate", "nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents"]
)
def test_driver_that_tells_nothing_by_itself_is_read_all_the_same(fake_nvml: FakeNvml, function: str) -> None:
    fake_nvml.returns(function, 3)
    with machine(fake_nvml) as made, watching(made) as watch:
        made.items()
        fake_nvml.gpus[0].remap_pending = True
        made.later()
        made.items()
        _until(lambda: watch.events)
        assert ["nvml.row_remap.pending"] == [event.type for event in watch.events]


@pytest.mark.parametrize("code", [1, 9, 18])
def test_driver_that_goes_ends_the_watch_with_an_event(fake_nvml: FakeNvml, code: int) -> None:
    with machine(fake_nvml) as made, watching(made) as watch:
        _listening(fake_nvml, watch)
        fake_nvml.all_return(code)
        assert watch.ended(10.0)
        assert isinstance(watch.error, NewProcessError)
        assert ["nvml.driver.gone"] == [event.type for event in watch.events]
        fake_nvml.all_return(0)


def test_watch_ends_within_a_second_and_hands_on_what_is_left(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made, watching(made) as watch:
        _listening(fake_nvml, watch)
        fake_nvml.gpus[0].set_field(83, Answer(15))
        made.items()
        began = time.monotonic()
        watch.stop()
        assert time.monotonic() - began < 1.0
        assert ["nvml.gpu.lost"] == [event.type for event in watch.events]


def test_event_set_is_given_back(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made, watching(made) as watch:
        _listening(fake_nvml, watch)
    assert fake_nvml.calls("nvmlEventSetCreate") == fake_nvml.calls("nvmlEventSetFree") >= 1


def test_every_event_that_is_told_is_declared_with_its_facts(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made, watching(made) as watch:
        made.items()
        _listening(fake_nvml, watch)
        fake_nvml.xid(0, 79)
        fake_nvml.lose(1)

        def both() -> bool:
            made.items()  # a look that comes before the news of a loss finds nothing: look again
            return len(watch.events) >= 2

        _until(both)
        declared = check_events(made.collector.EVENTS)
        for event in watch.events:
            assert event.detail.keys() <= set(declared[event.type].detail)
            assert event.severity in declared[event.type].severities


def test_what_comes_while_the_set_is_made_anew_is_told_once(fake_nvml: FakeNvml) -> None:
    """A GPU that is lost ends every wait: what others have to say before there is a set without it is not lost."""
    with machine(fake_nvml) as made, watching(made) as watch:
        made.items()
        _listening(fake_nvml, watch)
        fake_nvml.lose(1)
        _until(lambda: made.collector._gpus[0].urgent)  # the wait failed, and is paused after
        for code in (79, 48):
            fake_nvml.xid(0, code)
        made.items()
        sets = fake_nvml.calls("nvmlEventSetCreate")
        _until(lambda: fake_nvml.calls("nvmlEventSetCreate") > sets)
        fake_nvml.xid(0, 31)
        _until(lambda: 31 in [event.detail["xid"] for event in watch.events if event.type == "nvml.xid"])
        told = [event.detail["xid"] for event in watch.events if event.type == "nvml.xid"]
        assert [79, 48, 31] == told


def test_catalogue_calls_mistakes_of_programs_notices() -> None:
    assert {Severity.NOTICE} == {xid.severity for xid in XIDS.values() if xid.cause is Cause.PROGRAM}
    assert {13, 31, 43, 45, 68, 109} <= {code for code, xid in XIDS.items() if xid.cause is Cause.PROGRAM}


def test_gpu_that_hung_is_not_registered_for_events_either(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    boot = tmp_path / "root/proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("this-boot")
    uuid = str(fake_nvml.gpus[5].uuid)
    (tmp_path / "seen.json").write_text(f'{{"boot": "this-boot", "gpus": {{"{uuid}": ""}}}}')
    (tmp_path / "asked").write_text(uuid)
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path) as made:
        watch = Watch(made.collector._nvml, lambda: made.collector._gpus, Untold(None), lambda: None)
        assert watch._ready(lambda _items: None)
        registered = watch._registered
        watch._free()
        assert (7, False) == (len(registered), uuid in registered)

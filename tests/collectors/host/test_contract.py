"""The orders that must be safe, and that nothing is yielded that was not declared."""

import threading
import time
from pathlib import Path

import msgspec
import pytest

from collectors.contract import Collector, DescribesDevices, Probes, Watches
from collectors.host import HostCollector
from collectors.host_section import HostConfig, HostPart
from schemas.errors import NoDataError, PartialCollectError
from schemas.metrics import Catalogue, Category, ValueType
from schemas.rows import Item, Reading
from schemas.verbosity import Level
from tests.collectors.host.replay import CASES, Clock, collector_of
from tests.collectors.host.test_machine_documents import numa_server

_MACHINE = CASES / "virtual_machine" / "root"
_TYPES: dict[ValueType, tuple[type, ...]] = {
    ValueType.FLOAT: (float,),
    ValueType.INT: (int,),
    ValueType.BOOL: (bool,),
    ValueType.STR: (str,),
}


def test_host_is_a_collector_with_all_abilities() -> None:
    collector: Collector = collector_of(_MACHINE)
    assert isinstance(collector, DescribesDevices)
    assert isinstance(collector, Watches)
    assert isinstance(collector, Probes)


def test_orders_of_the_contract_are_safe() -> None:
    collector_of(_MACHINE).stop()  # never started
    collector = collector_of(_MACHINE)
    collector.start()
    first = list(collector.collect())
    second = list(collector.collect())
    collector.stop()
    collector.stop()
    collector.start()
    assert len(first) == len(list(collector.collect()))
    assert second
    collector.stop()


def test_start_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    assert "mount proc" in collector.probe()
    with pytest.raises(NoDataError):
        collector.start()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  1 2 3 4\n")
    assert "" == collector.probe()
    collector.start()
    assert ["cpu"] == [item.measurement for item in collector.collect() if isinstance(item, Reading) and item.fields][
        :1
    ]
    collector.stop()


def test_no_file_stays_open_after_stop() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    collector = collector_of(_MACHINE)
    for _ in range(3):
        collector.start()
        list(collector.collect())
        collector.stop()
    assert before == len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
@pytest.mark.parametrize("level", list(Level))
def test_every_value_is_declared_with_its_type_and_attributes(name: str, level: Level) -> None:
    _check(collector_of(CASES / name / "root", level=level))


def test_this_machine_gives_what_is_declared() -> None:
    _check(collector_of(Path("/"), level=Level.DEBUG))


def _check(collector: HostCollector) -> None:
    catalogue = Catalogue(HostCollector.METRICS)
    collector.start()
    list(collector.collect())
    seen = set()
    for item in collector.collect():
        if not isinstance(item, Reading):
            continue
        assert catalogue.attributes(item.measurement) == tuple(item.attributes)
        key = (item.measurement, *item.attributes.values())
        assert key not in seen
        seen.add(key)
        for field, value in item.fields.items():
            spec = catalogue.get(item.measurement, field)
            assert spec is not None, f"{item.measurement}.{field} is not declared"
            if value is not None:
                assert type(value) in _TYPES[spec.type], f"{spec.name}: {value!r}"
                assert not field.endswith("_ratio") or (isinstance(value, float) and 0 <= value <= 1)
    collector.stop()


def test_every_part_can_be_switched_off_alone() -> None:
    for part in HostPart:
        collector = collector_of(_MACHINE, config=HostConfig(parts=frozenset(HostPart) - {part}))
        collector.start()
        assert list(collector.collect())
        collector.stop()


def test_essential_level_is_what_an_alert_needs() -> None:
    collector = collector_of(_MACHINE, level=Level.ESSENTIAL)
    collector.start()
    measurements = {item.measurement for item in collector.collect() if isinstance(item, Reading)}
    collector.stop()
    assert {"cpu", "kernel", "load", "system", "memory", "swap", "file_system", "network"} == measurements


def test_error_counts_and_states_are_essential() -> None:
    essential = {spec.name for spec in HostCollector.METRICS if spec.level is Level.ESSENTIAL}
    assert {
        "cpu.usage_ratio",
        "memory.used_ratio",
        "memory.oom_kills_total",
        "memory_module.uncorrected_errors_total",
        "file_system.read_only",
        "file_system.used_ratio",
        "network.up",
        "system.uptime_seconds",
    } <= essential
    assert {"cpu_core"} == {
        spec.measurement
        for spec in HostCollector.METRICS
        if spec.level is Level.DETAILED and spec.measurement.endswith("_core")
    }
    assert Category.ERROR is next(s.category for s in HostCollector.METRICS if s.name == "network.receive_errors_total")


def test_what_changes_slowly_is_read_when_it_is_due() -> None:
    clock = Clock()
    collector = collector_of(
        _MACHINE, clock=clock, config=HostConfig(slow_every_seconds=10, processes_every_seconds=60)
    )
    collector.start()

    def has() -> tuple[bool, bool]:
        rows = [item for item in collector.collect() if isinstance(item, Reading)]
        return (
            any("boot_id" in row.fields for row in rows),
            any(row.measurement == "processes" for row in rows),
        )

    found = []
    for _ in range(7):
        found.append(has())
        clock.now += 9.9
    collector.stop()
    assert [(True, True), *[(False, False), (True, False)] * 3] == found


def test_big_server_gives_one_row_a_core_at_detailed(tmp_path: Path) -> None:
    collector = collector_of(numa_server(tmp_path), level=Level.DETAILED)
    collector.start()
    cores = [i for i in collector.collect() if isinstance(i, Reading) and i.measurement == "cpu_core"]
    (cpu,) = [i for i in collector.collect() if isinstance(i, Reading) and i.measurement == "cpu"]
    collector.stop()
    assert [str(number) for number in range(128)] == [row.attributes["cpu"] for row in cores]
    assert 2_800_127_000.0 == cores[127].fields["frequency_hertz"]
    assert 128 == cpu.fields["cores"]


def test_part_that_fails_harms_no_other(tmp_path: Path) -> None:
    """Promise 5: one bad source harms only itself."""

    def statvfs(path: str) -> None:
        raise RuntimeError(path)

    collector = collector_of(_MACHINE, statvfs=statvfs)
    collector.start()
    items: list[Item] = []
    with pytest.raises(PartialCollectError, match="file_system: RuntimeError") as caught:
        items.extend(collector.collect())
    collector.stop()
    assert 1 == caught.value.failed


def test_watch_on_a_recorded_machine_waits_until_asked_to_end() -> None:
    collector = collector_of(_MACHINE)
    collector.start()
    stopping = threading.Event()
    emitted: list[Item] = []
    thread = threading.Thread(target=collector.watch, args=(emitted.extend, stopping))
    thread.start()
    time.sleep(0.1)
    assert thread.is_alive()
    stopping.set()
    thread.join(60)
    assert not thread.is_alive()
    assert [] == emitted
    collector.stop()


def test_configuration_names_parts_by_their_words() -> None:
    config = msgspec.convert({"parts": ["cpu", "disk"], "disks_exclude": ["sd*"]}, HostConfig)
    assert frozenset({HostPart.CPU, HostPart.DISK}) == config.parts
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"parts": ["gpu"]}, HostConfig)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"slow_every_seconds": 0}, HostConfig)

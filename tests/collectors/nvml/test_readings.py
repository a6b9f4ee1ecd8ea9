"""What is read of a GPU: units, tiers, levels, and what is absent."""

import pytest

from collectors.blocks import Packer
from collectors.nvml import NvmlCollector
from schemas.rows import Reading
from schemas.verbosity import Level
from tests.collectors.nvml.help import machine
from tests.fakes.nvml import Answer, FakeNvml, Process


def test_row_has_the_drivers_values_in_base_units(fake_nvml: FakeNvml) -> None:
    gpu = fake_nvml.gpus[3]
    with fake_nvml.change():
        gpu.temperature, gpu.memory_temperature, gpu.temperature_margin = 61, 70, 26
        gpu.set_power(456_789)
        gpu.energy = 123_456_789
        gpu.utilization, gpu.memory_utilization = 87, 41
        gpu.memory_used, gpu.sm_clock, gpu.memory_clock = 12 << 30, 1755, 2619
        gpu.clock_reasons, gpu.pstate, gpu.power_limit = 4, 2, 650_000
        gpu.pcie_generation, gpu.pcie_width, gpu.pcie_replay = 5, 8, 7
    with machine(fake_nvml) as made:
        row = made.row(3)
    expected = {
        "temperature_celsius": 61.0,
        "memory_temperature_celsius": 70.0,
        "temperature_margin_celsius": 26.0,
        "power_watts": pytest.approx(456.789),
        "power_average_watts": pytest.approx(456.789),
        "energy_joules_total": pytest.approx(123_456.789),
        "utilization_ratio": 0.87,
        "memory_utilization_ratio": 0.41,
        "memory_used_bytes": 12 << 30,
        "sm_clock_hertz": 1_755_000_000,
        "memory_clock_hertz": 2_619_000_000,
        "throttle_reasons": 4,
        "performance_state": 2,
        "power_limit_watts": 650.0,
        "pcie_generation": 5,
        "pcie_width": 8,
        "pcie_replays_total": 7,
        "processes": 0,
        "nvlinks_active": 18,
        "recovery_action": 0,
        "row_remap_pending": False,
    }
    assert expected == {name: row[name] for name in expected}


def test_every_value_fits_what_is_declared(fake_nvml: FakeNvml) -> None:
    packer = Packer(NvmlCollector.METRICS, "node-a")
    with machine(fake_nvml) as made:
        for item in made.items():
            packer.add(item)
    assert ({}, "") == (packer.faults, packer.note)


@pytest.mark.parametrize(
    ("key", "column"),
    [
        ("temperature.memory", "memory_temperature_celsius"),
        ("energy", "energy_joules_total"),
        ("utilization.gpu", "utilization_ratio"),
        ("remapped.pending", "row_remap_pending"),
        ("temperature.margin", "temperature_margin_celsius"),
    ],
)
def test_what_a_gpu_cannot_tell_is_absent_and_stands_as_unsupported_in_its_document(
    fake_nvml: FakeNvml, key: str, column: str
) -> None:
    """Absent is not zero."""
    fake_nvml.gpus[0].set(key, None)
    with machine(fake_nvml) as made:
        unsupported = made.document().unsupported
        assert column not in made.row(0)
        made.later()
        assert column in made.row(1)
    assert f"gpu.{column}" in unsupported


def test_what_is_not_supported_is_not_asked_again(fake_nvml: FakeNvml) -> None:
    for gpu in fake_nvml.gpus:
        gpu.temperature_margin = None
    with machine(fake_nvml) as made:
        made.items()
        fake_nvml.forget_calls()
        made.items()
        assert 0 == fake_nvml.calls("nvmlDeviceGetMarginTemperature")
        assert 8 == fake_nvml.calls("nvmlDeviceGetUtilizationRates")


def test_what_is_not_there_for_the_moment_is_asked_again(fake_nvml: FakeNvml) -> None:
    fake_nvml.returns("nvmlDeviceGetUtilizationRates", 999)
    with machine(fake_nvml) as made:
        assert "utilization_ratio" not in made.row()
        fake_nvml.heal("nvmlDeviceGetUtilizationRates")
        assert 0.0 == made.row()["utilization_ratio"]


@pytest.mark.parametrize("value", [0xFFFFFFFF])
def test_all_bits_set_is_not_a_number(fake_nvml: FakeNvml, value: int) -> None:
    fake_nvml.gpus[0].set_field(82, value, kind="uint")
    with machine(fake_nvml) as made:
        assert "memory_temperature_celsius" not in made.row()


def test_negative_and_fractional_fields_keep_their_sign_and_fraction(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[0].set_field(82, -5, kind="int")
    fake_nvml.gpus[0].set_field(83, 1500.5, kind="double")
    with machine(fake_nvml) as made:
        row = made.row()
    assert -5.0 == row["memory_temperature_celsius"]
    assert pytest.approx(1.5005) == row["energy_joules_total"]


def test_fast_tier_is_one_call_for_fields_and_few_others_for_each_gpu(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        made.level = Level.STANDARD
        made.items()
        fake_nvml.forget_calls()
        made.later(5.0)
        made.items()
        assert 8 == fake_nvml.calls("nvmlDeviceGetFieldValues")
        assert 0 == fake_nvml.calls("nvmlDeviceGetNvLinkState")
        assert 0 == fake_nvml.calls("nvmlDeviceGetPcieThroughput"), "it waits for 20 ms"


def test_slow_tiers_come_when_they_are_due(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        seen = []
        for _ in range(13):
            row = made.row()
            seen.append(("pcie_width" in row, "row_remap_pending" in row))
            made.later(5.0)
    assert [at for at, (medium, _) in enumerate(seen) if medium] == [0, 3, 6, 9, 12]
    assert [at for at, (_, slow) in enumerate(seen) if slow] == [0, 12]


def test_what_is_above_the_level_in_force_is_not_read(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        made.level = Level.ESSENTIAL
        row = made.row()
        assert 0 == fake_nvml.calls("nvmlDeviceGetUtilizationRates")
        assert {"temperature_celsius", "ecc_uncorrected_total", "row_remap_pending", "nvlinks_active"} <= row.keys()
        assert 0 == fake_nvml.calls("nvmlDeviceGetEncoderUtilization")


def test_ecc_is_told_by_location(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[2].set_ecc(location="l2", uncorrected=True, volatile=3, aggregate=9)
    with machine(fake_nvml) as made:
        rows = {row.attributes["location"]: row.fields for row in made.rows("gpu_ecc") if row.device == made.device(2)}
        made.later()
        total = made.row(2)
    assert (3, 9) == (rows["l2"]["uncorrected_total"], rows["l2"]["uncorrected_lifetime_total"])
    assert (3, 9) == (total["ecc_uncorrected_total"], total["ecc_uncorrected_lifetime_total"])
    assert 0 == rows["device_memory"]["uncorrected_total"]


def test_each_link_has_its_own_counters(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[1].set_field(162, 505, scope=3)
    fake_nvml.gpus[1].set_field(139, 7, scope=3)
    with machine(fake_nvml) as made:
        rows = {row.attributes["link"]: row.fields for row in made.rows("nvlink") if row.device == made.device(1)}
    assert 18 == len(rows)
    assert (True, 505, 7 * 1024) == tuple(
        rows["3"][name] for name in ("active", "recoveries_total", "receive_bytes_total")
    )
    assert 0 == rows["4"]["recoveries_total"]


def test_counters_that_moved_with_the_generation_fill_the_same_column(fake_nvml: FakeNvml) -> None:
    """Blackwell answers 215, where Hopper answers 162."""
    gpu = fake_nvml.gpus[0]
    gpu.set_field(162, Answer(3))
    gpu.set_field(215, 11, scope=0)
    with machine(fake_nvml) as made:
        (row,) = [r for r in made.rows("nvlink") if (r.device, r.attributes["link"]) == (made.device(0), "0")]
    assert 11 == row.fields["recoveries_total"]


def test_throttling_is_told_in_seconds(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[0].set_field(74, 2_500_000_000)
    with machine(fake_nvml) as made:
        assert 2.5 == made.row()["throttled_power_seconds_total"]


def test_programs_are_rows_and_a_count(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[4].set_processes("compute", [Process(41, 5 << 30), Process(42, None)])
    fake_nvml.gpus[4].set_processes("graphics", [Process(41, 1 << 20)])
    with machine(fake_nvml) as made:
        items = [item for item in made.items() if isinstance(item, Reading) and item.device == made.device(4)]
    users = {item.attributes["process"]: item.fields for item in items if item.measurement == "gpu_process"}
    assert {"41": {"memory_used_bytes": 5 << 30}, "42": {"memory_used_bytes": None}} == users
    assert [2] == [item.fields["processes"] for item in items if item.measurement == "gpu"]

"""What a simulated GPU measures obeys physics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.metrics_gpu import THROTTLE_POWER_CAP, THROTTLE_THERMAL_HARDWARE, THROTTLE_THERMAL_SOFTWARE
from collectors.simulated import physics_gpu
from collectors.simulated.effects import Effects
from collectors.simulated.models import GPU_MODELS
from schemas.rows import Parcel
from tests.collectors.simulated.help import SECOND, START, break_it, column, one_node, run


def plan(model: str = "H100", seed: int = 1) -> physics_gpu.GpuPlan:
    return physics_gpu.plan_gpus(GPU_MODELS[model], 8, (), seed, "sim-0001")


@given(st.lists(st.integers(0, 100 * SECOND), min_size=1, max_size=50), st.sampled_from(sorted(GPU_MODELS)))
def test_energy_is_exactly_the_sum_of_power_times_time(steps: list[int], model: str) -> None:
    gpus, now, expected = plan(model), START, [0] * 8
    state = physics_gpu.cold_gpus(gpus)
    for dt in steps:
        now += dt
        state = physics_gpu.advance_gpus(state, gpus, Effects(), now, dt)
        expected = [had + power * dt for had, power in zip(expected, state.power_milliwatts, strict=True)]
    assert expected == state.energy_picojoules


def test_reported_energy_is_the_integral_of_reported_power() -> None:
    node, expected = one_node(), [0] * 8
    for second in range(1, 200):
        parcels = run(node, 1, second)
        milliwatts = [round(watts * 1000) for watts in column(parcels, "gpu", "power_watts")]
        expected = [had + power for had, power in zip(expected, milliwatts, strict=True)]
        assert [total / 1000 for total in expected] == column(parcels, "gpu", "energy_joules_total")
    assert min(expected) > 0


def busy_at(gpus: physics_gpu.GpuPlan) -> int:
    """Give a moment at which the first GPU's job has just begun."""
    period, offset = gpus.period[0], gpus.offset[0]
    second = START // SECOND
    return (second + period - (second + offset) % period) * SECOND


def test_temperature_lags_behind_power() -> None:
    """After a jump of power, the temperature has gone 63 % of its way when one time constant has passed."""
    gpus = plan()
    begin, state = busy_at(gpus), physics_gpu.cold_gpus(gpus)
    cold, lag = state.temperature[0], int(GPU_MODELS["H100"].lag_seconds)
    first = physics_gpu.advance_gpus(state, gpus, Effects(), begin, SECOND)
    for second in range(lag):
        state = physics_gpu.advance_gpus(state, gpus, Effects(), begin + second * SECOND, SECOND)
    goal = physics_gpu.INLET_CELSIUS + gpus.rise[0] * state.power_milliwatts[0] / 1000
    assert first.power_milliwatts[0] > 0.8 * state.power_milliwatts[0], "power is there at once"
    assert first.temperature[0] - cold < 0.05 * (goal - cold), "temperature is not"
    assert (state.temperature[0] - cold) / (goal - cold) == pytest.approx(0.632, abs=0.03)


def test_one_long_step_warms_as_much_as_many_short_ones() -> None:
    gpus = plan()
    begin = busy_at(gpus)
    long = short = physics_gpu.cold_gpus(gpus)
    long = physics_gpu.advance_gpus(long, gpus, Effects(), begin + 20 * SECOND, 20 * SECOND)
    for second in range(1, 21):
        short = physics_gpu.advance_gpus(short, gpus, Effects(), begin + second * SECOND, SECOND)
    assert long.temperature[0] == pytest.approx(short.temperature[0], abs=1.5)


def test_heat_throttles_clock_and_power() -> None:
    gpus = plan()
    begin = busy_at(gpus)
    well = hot = physics_gpu.cold_gpus(gpus)
    seen = 0
    for second in range(50):
        now = begin + second * SECOND
        well = physics_gpu.advance_gpus(well, gpus, Effects(), now, SECOND)
        hot = physics_gpu.advance_gpus(hot, gpus, Effects(heat_celsius={0: 60.0}), now, SECOND)
        seen |= hot.reasons[0]
    assert well.reasons[0] == 0
    assert well.clock[0] == GPU_MODELS["H100"].max_clock_hertz
    assert hot.reasons[0] & (THROTTLE_THERMAL_SOFTWARE | THROTTLE_THERMAL_HARDWARE)
    assert seen & THROTTLE_THERMAL_SOFTWARE
    assert hot.clock[0] < 0.8 * well.clock[0]
    assert hot.power_milliwatts[0] < 0.8 * well.power_milliwatts[0]
    assert hot.temperature[0] < 100.0, "throttling keeps the GPU alive"


@pytest.mark.parametrize(
    ("degrees", "share", "reason"),
    [
        (86.9, 1.0, 0),
        (87.0, 0.94, THROTTLE_THERMAL_SOFTWARE),
        (92.0, 0.5, THROTTLE_THERMAL_HARDWARE),
        (200.0, 0.25, 64),
    ],
)
def test_throttling_goes_by_temperature(degrees: float, share: float, reason: int) -> None:
    allowed, why = physics_gpu.throttle(GPU_MODELS["H100"], degrees)
    assert allowed == pytest.approx(share)
    assert why == reason


def test_a_power_cap_holds_and_says_so() -> None:
    node = one_node()
    break_it(node, "power_cap", target=2, value=300.0)
    capped = set()
    for second in range(1, 400):
        parcels = run(node, 1, second)
        if second > 1:  # what was injected holds from the first step on
            assert column(parcels, "gpu", "power_watts")[2] <= 300.0
            assert column(parcels, "gpu", "power_limit_watts")[2] == 300.0
        if column(parcels, "gpu", "throttle_reasons")[2] & THROTTLE_POWER_CAP:
            capped.add(column(parcels, "gpu", "sm_clock_hertz")[2])
    assert capped, "the job wants more than the cap"
    assert max(capped) < GPU_MODELS["H100"].max_clock_hertz


@pytest.mark.parametrize("node_type", ["hgx-h100", "dgx-v100"])
def test_counters_never_fall_while_the_driver_stays(node_type: str) -> None:
    node, before = one_node(node_type), None
    fields = ["energy_joules_total", "pcie_receive_bytes_total", "pcie_transmit_bytes_total"]
    fields += ["nvlink_receive_bytes_total", "ecc_corrected_total"]
    for second in range(1, 120):
        parcels = run(node, 1, second)
        after = [column(parcels, "gpu", field) for field in fields]
        after += [column(parcels, "nvlink", "receive_bytes_total")]
        if before is not None:
            for old, new in zip(before, after, strict=True):
                assert all(a <= b for a, b in zip(old, new, strict=True))
        before = after
    assert before is not None
    assert all(min(values) > 0 for values in before[:4])


def test_a_reload_of_the_driver_resets_what_counts_since_then() -> None:
    node = one_node()
    break_it(node, "ecc_double_bit", target=1, value=3.0)
    before = run(node, 100)
    assert column(before, "gpu", "ecc_uncorrected_total")[1] == 3
    break_it(node, "driver_reload", duration_seconds=2.0)
    assert devices_gone(run(node, 1, 101))
    assert devices_gone(run(node, 1, 102))
    after = run(node, 1, 103)
    for field in ("energy_joules_total", "pcie_receive_bytes_total", "nvlink_receive_bytes_total"):
        assert max(column(after, "gpu", field)) < min(column(before, "gpu", field))
    assert column(after, "gpu", "ecc_uncorrected_total") == [0] * 8
    assert column(after, "gpu", "ecc_uncorrected_lifetime_total")[1] == 3, "the life of the GPU goes on"


def devices_gone(parcels: list[Parcel]) -> bool:
    """Tell whether no GPU could be read."""
    return not column(parcels, "gpu", "energy_joules_total")


def test_what_a_model_does_not_measure_is_absent_not_zero() -> None:
    parcels = run(one_node("v100-shared"), 5)
    assert column(parcels, "gpu", "fan_ratio") == []
    assert column(parcels, "gpu", "row_remap_pending") == []
    assert column(parcels, "gpu", "nvlink_receive_bytes_total") == []
    assert column(parcels, "nvlink", "active") == []
    assert 0.3 <= column(run(one_node("workstation"), 5), "gpu", "fan_ratio")[0] <= 1.0


def test_links_add_up_to_their_gpu() -> None:
    node = one_node("dgx-v100")
    break_it(node, "nvlink_down", target=3, link=2, after_seconds=20.0)
    parcels = run(node, 90)
    totals = column(parcels, "gpu", "nvlink_receive_bytes_total")
    links = column(parcels, "nvlink", "receive_bytes_total")
    assert totals == [sum(links[gpu * 6 : gpu * 6 + 6]) for gpu in range(8)]
    assert links[3 * 6 + 2] < links[3 * 6 + 1]

"""The physics of a node's GPUs: one pure step from state to state, in columns over the GPUs.

Over an interval the power is constant, and the state after it says which. Energy is kept in picojoules, that is
milliwatts times nanoseconds, as a whole number: it is exactly the sum of power times time, however long it runs.
Temperature follows power as a first-order lag; what is too hot when an interval begins is clocked down during it.
"""

from math import exp, sqrt
from typing import Final

import msgspec

from collectors.metrics_gpu import (
    THROTTLE_IDLE,
    THROTTLE_POWER_CAP,
    THROTTLE_THERMAL_HARDWARE,
    THROTTLE_THERMAL_SOFTWARE,
)
from collectors.simulated.effects import Effects
from collectors.simulated.identity import number, share
from collectors.simulated.models import GpuModel

INLET_CELSIUS: Final = 23.0
CONTEXT_BYTES: Final = 512 << 20
"""What an idle GPU holds for the driver's contexts."""
PICOJOULES: Final = 10**12
IDLE_BELOW: Final = 0.02
"""Utilisation below which the clocks drop."""
SOFT_STEP: Final = 0.06
"""Share of the clock that each degree above the slowdown temperature costs."""
LOWEST_CLOCK: Final = 0.25
"""Share of the highest clock that throttling leaves at least."""
CHECKPOINT_EVERY: Final = 60.0
CHECKPOINT_LASTS: Final = 5.0
PCIE_BYTES_PER_SECOND: Final = 6_000_000_000
NVLINK_LOAD: Final = 0.4
"""Share of the links' rate that a busy job uses."""

_NOISE: Final = tuple(share("noise", index) - 0.5 for index in range(1024))


class GpuPlan(msgspec.Struct, frozen=True):
    """What does not change: the GPUs, and the jobs that run on them."""

    model: GpuModel
    count: int
    links: tuple[int, ...]
    """NVLinks of each GPU that lead anywhere."""
    rise: tuple[float, ...]
    """Kelvin per watt; no two coolers are alike."""
    intensity: tuple[float, ...]
    """Utilisation of a running job."""
    period: tuple[int, ...]
    """Seconds from a job's start to the next one's."""
    offset: tuple[int, ...]
    fill: tuple[int, ...]
    """Bytes that a running job holds."""
    noise: tuple[int, ...]
    corrected_per_second: tuple[float, ...]


class GpuState(msgspec.Struct, frozen=True):
    """What changes, a list over the GPUs each. Lists are never changed in place, so that blocks may keep them."""

    power_milliwatts: list[int]
    """Over the interval that ended now."""
    energy_picojoules: list[int]
    temperature: list[float]
    memory_temperature: list[float]
    utilization: list[float]
    memory_utilization: list[float]
    memory_used: list[int]
    clock: list[int]
    reasons: list[int]
    pcie_receive: list[int]
    pcie_transmit: list[int]
    lane_bytes: list[int]
    """What each of the GPU's links carried in one direction, had it always been up."""
    corrected: list[int]
    uncorrected: list[int]
    lifetime_uncorrected: list[int]
    limit_watts: list[float]


def plan_gpus(model: GpuModel, count: int, links: tuple[int, ...], seed: int, node: str) -> GpuPlan:
    """Make the GPUs of one node. In about half of the nodes one job spans them all."""
    indexes = range(count)
    spans = number(seed, node, "spans") % 2 == 0
    job = [0 if spans else index for index in indexes]
    weak = number(seed, node, "weak") % 50
    return GpuPlan(
        model=model,
        count=count,
        links=links,
        rise=tuple(
            model.rise_celsius / model.limit_watts * (0.94 + 0.12 * share(seed, node, "rise", i)) for i in indexes
        ),
        intensity=tuple(0.80 + 0.18 * share(seed, node, "intensity", job[i]) for i in indexes),
        period=tuple(300 + number(seed, node, "period", job[i]) % 900 for i in indexes),
        offset=tuple(number(seed, node, "offset", job[i]) % 1200 for i in indexes),
        fill=tuple(int(model.memory_bytes * (0.5 + 0.45 * share(seed, node, "fill", job[i]))) for i in indexes),
        noise=tuple(number(seed, node, "noise", i) % len(_NOISE) for i in indexes),
        corrected_per_second=tuple(0.002 if i == weak else 0.0 for i in indexes),
    )


def cold_gpus(plan: GpuPlan) -> GpuState:
    """Give the state just after the driver was loaded: idle, at the temperature of that, all counters 0."""
    model, zeros = plan.model, [0] * plan.count
    idle = [INLET_CELSIUS + rise * model.idle_watts for rise in plan.rise]
    return GpuState(
        power_milliwatts=[round(model.idle_watts * 1000)] * plan.count,
        energy_picojoules=zeros,
        temperature=idle,
        memory_temperature=[value + 3.0 for value in idle],
        utilization=[0.0] * plan.count,
        memory_utilization=[0.0] * plan.count,
        memory_used=[CONTEXT_BYTES] * plan.count,
        clock=[model.idle_clock_hertz] * plan.count,
        reasons=[THROTTLE_IDLE] * plan.count,
        pcie_receive=zeros,
        pcie_transmit=zeros,
        lane_bytes=zeros,
        corrected=zeros,
        uncorrected=zeros,
        lifetime_uncorrected=zeros,
        limit_watts=[model.limit_watts] * plan.count,
    )


def reload_gpus(state: GpuState) -> GpuState:
    """Give the state after a reload of the driver: what counts since then is 0, the rest goes on."""
    zeros = [0] * len(state.clock)
    return msgspec.structs.replace(
        state,
        energy_picojoules=zeros,
        pcie_receive=zeros,
        pcie_transmit=zeros,
        lane_bytes=zeros,
        corrected=zeros,
        uncorrected=zeros,
    )


def add_uncorrected(state: GpuState, gpu: int, errors: int) -> GpuState:
    """Give the state after errors that ECC could not correct."""
    more = [errors if index == gpu else 0 for index in range(len(state.clock))]
    return msgspec.structs.replace(
        state,
        uncorrected=[a + b for a, b in zip(state.uncorrected, more, strict=True)],
        lifetime_uncorrected=[a + b for a, b in zip(state.lifetime_uncorrected, more, strict=True)],
    )


def job_load(plan: GpuPlan, gpu: int, second: float) -> float:
    """Give the utilisation that the job on a GPU wants, 0 to 1: it runs, saves its work now and then, and ends."""
    period = plan.period[gpu]
    phase = (second + plan.offset[gpu]) % period
    if phase > 0.85 * period:
        return 0.0
    if phase % CHECKPOINT_EVERY > CHECKPOINT_EVERY - CHECKPOINT_LASTS:
        return 0.12
    wanted = plan.intensity[gpu] + 0.06 * _NOISE[(int(second) + plan.noise[gpu]) & 1023]
    return min(wanted, 1.0)


def throttle(model: GpuModel, temperature: float) -> tuple[float, int]:
    """Give the share of the highest clock that heat allows, and why it is below 1."""
    above = temperature - model.slowdown_celsius
    if above < 0.0:
        return 1.0, 0
    if above < 5.0:
        return 1.0 - SOFT_STEP * (1.0 + above), THROTTLE_THERMAL_SOFTWARE
    return max(LOWEST_CLOCK, 0.5 - SOFT_STEP * (above - 5.0)), THROTTLE_THERMAL_HARDWARE


def advance_gpus(state: GpuState, plan: GpuPlan, effects: Effects, now_ns: int, dt_ns: int) -> GpuState:
    """Give the state `dt_ns` nanoseconds later, at `now_ns`. Depends on nothing but its arguments."""
    model = plan.model
    second, dt = now_ns / 1e9, dt_ns / 1e9
    decay = exp(-dt / model.lag_seconds)
    idle_watts, span, top = model.idle_watts, model.limit_watts - model.idle_watts, model.max_clock_hertz
    powers, utils, uses, clocks, reasons, heats, memory_heats, limits = [], [], [], [], [], [], [], []
    lost, capped, heated = effects.gpus_lost, effects.limit_watts, effects.heat_celsius
    for gpu, (heat, memory_heat) in enumerate(zip(state.temperature, state.memory_temperature, strict=True)):
        util = 0.0 if gpu in lost else job_load(plan, gpu, second)
        limit = capped.get(gpu, model.limit_watts)
        allowed, why = (1.0, 0) if heat < model.slowdown_celsius else throttle(model, heat)
        if util < IDLE_BELOW:
            watts, clock, why = idle_watts, model.idle_clock_hertz, why | THROTTLE_IDLE
        else:
            watts = idle_watts + span * util * allowed * allowed
            if watts > limit:
                allowed = max(LOWEST_CLOCK, sqrt(max(limit - idle_watts, 0.0) / (span * util)))
                watts = idle_watts + span * util * allowed * allowed
                why |= THROTTLE_POWER_CAP
            clock = int(top * allowed) // 15_000_000 * 15_000_000  # clocks come in steps of 15 MHz
        goal = INLET_CELSIUS + heated.get(gpu, 0.0) + plan.rise[gpu] * watts
        heats.append(goal + (heat - goal) * decay)
        goal += 3.0 + 8.0 * util
        memory_heats.append(goal + (memory_heat - goal) * decay)
        powers.append(round(watts * 1000.0))
        utils.append(util)
        uses.append(CONTEXT_BYTES if util < IDLE_BELOW else plan.fill[gpu])
        clocks.append(clock)
        reasons.append(why)
        limits.append(limit)
    work = [int(util * dt * PCIE_BYTES_PER_SECOND) for util in utils]
    lane = model.nvlink_bytes_per_second * NVLINK_LOAD * dt
    return GpuState(
        power_milliwatts=powers,
        energy_picojoules=[had + power * dt_ns for had, power in zip(state.energy_picojoules, powers, strict=True)],
        temperature=heats,
        memory_temperature=memory_heats,
        utilization=utils,
        memory_utilization=[util * 0.6 for util in utils],
        memory_used=uses,
        clock=clocks,
        reasons=reasons,
        pcie_receive=[had + more for had, more in zip(state.pcie_receive, work, strict=True)],
        pcie_transmit=[had + more // 3 for had, more in zip(state.pcie_transmit, work, strict=True)],
        lane_bytes=[had + int(util * lane) for had, util in zip(state.lane_bytes, utils, strict=True)]
        if plan.links
        else state.lane_bytes,
        corrected=_corrected(state, plan, second, dt),
        uncorrected=state.uncorrected,
        lifetime_uncorrected=state.lifetime_uncorrected,
        limit_watts=limits,
    )


def _corrected(state: GpuState, plan: GpuPlan, second: float, dt: float) -> list[int]:
    """Give the errors that ECC corrected so far; most nodes have no weak GPU."""
    if not any(plan.corrected_per_second):
        return state.corrected
    return [
        had + int(second * rate) - int((second - dt) * rate)
        for had, rate in zip(state.corrected, plan.corrected_per_second, strict=True)
    ]


def total_watts(state: GpuState) -> float:
    """Give the power of all GPUs together, those included that no driver can read."""
    return sum(state.power_milliwatts) / 1000.0

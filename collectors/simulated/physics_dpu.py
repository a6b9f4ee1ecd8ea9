"""The work of a node's DPUs: what they encrypt, what of their resources is consumed, how warm they get.

What is consumed swings slowly between a third and two thirds of what services of a node like this take; the hardware
encrypts what comes, the cores what they can. A DPU that does not run does nothing, and counts from 0 afterwards.
"""

from math import sin
from typing import Any, Final

import msgspec

from collectors.simulated.effects import Effects
from collectors.simulated.identity import share
from collectors.simulated.models import DpuModel

TRAFFIC_SHARE: Final = 0.3
"""Of the link's rate, the mean of what is encrypted."""
COOL_CELSIUS: Final = 48.0
WARM_CELSIUS: Final = 22.0
"""How much warmer it gets at full power."""
IDLE_SHARE: Final = 0.6
"""Of the power, what it takes without work."""
RESOURCES: Final = ("vfs", "subfunctions", "flows", "security_associations")
SERVICE_SUBFUNCTIONS: Final = 2
"""What a service takes when it is started."""


class DpuPlan(msgspec.Struct, frozen=True):
    """What does not change, a value for each DPU."""

    model: DpuModel
    phase: tuple[float, ...]
    load: tuple[float, ...]
    """How busy it is on the whole, 0.5 to 1."""


class DpuState(msgspec.Struct, frozen=True):
    """What changes. Lists are never changed in place."""

    encrypted: list[int]
    """Bytes since it was booted."""
    errors: list[int]


def plan_dpus(model: DpuModel, count: int, seed: int, node: str) -> DpuPlan:
    """Make the DPUs of one node."""
    return DpuPlan(
        model=model,
        phase=tuple(6.28 * share(seed, node, "dpu phase", index) for index in range(count)),
        load=tuple(0.5 + share(seed, node, "dpu load", index) / 2 for index in range(count)),
    )


def booted_dpus(plan: DpuPlan) -> DpuState:
    """Give the state after boot: all counters 0."""
    return DpuState([0] * len(plan.phase), [0] * len(plan.phase))


def running(effects: Effects, dpu: int) -> bool:
    """Tell whether a DPU runs."""
    return dpu not in effects.dpus_down and dpu not in effects.dpus_gone


def encryption_rate(model: DpuModel, *, software: bool) -> int:
    """Give the most bytes a second that a DPU encrypts: its link's rate, or what its cores reach."""
    rate = model.link_bytes_per_second
    return int(rate * model.software_share) if software else rate


def advance_dpus(state: DpuState, plan: DpuPlan, effects: Effects, now_ns: int, dt_ns: int) -> DpuState:
    """Give the state `dt_ns` nanoseconds later, at `now_ns`. Depends on nothing but its arguments."""
    if not plan.phase:
        return state
    encrypted, errors = state.encrypted.copy(), state.errors.copy()
    for dpu in range(len(encrypted)):
        if not running(effects, dpu):
            encrypted[dpu] = errors[dpu] = 0
            continue
        most = encryption_rate(plan.model, software=dpu in effects.dpus_in_software)
        wanted = TRAFFIC_SHARE * plan.model.link_bytes_per_second * _busy(plan, dpu, now_ns)
        done = min(wanted, most)
        encrypted[dpu] += int(done * dt_ns / 1e9)
        errors[dpu] += int((wanted - done) / plan.model.link_bytes_per_second * dt_ns / 1e6)
    return DpuState(encrypted, errors)


def dpu_columns(state: DpuState, plan: DpuPlan, effects: Effects, now_ns: int) -> dict[str, list[Any]]:
    """Give the columns of the measurement `dpu`; what only a running DPU tells is None for others."""
    dpus = range(len(plan.phase))
    up = [running(effects, dpu) for dpu in dpus]
    effort = [IDLE_SHARE + (1 - IDLE_SHARE) * _busy(plan, dpu, now_ns) if up[dpu] else IDLE_SHARE / 2 for dpu in dpus]
    return {
        "boot_progress": [boot_progress(effects, dpu) for dpu in dpus],
        "temperature_celsius": [round(COOL_CELSIUS + WARM_CELSIUS * amount, 1) for amount in effort],
        "power_watts": [round(plan.model.watts * amount, 1) for amount in effort],
        "encrypted_bytes_total": [amount if up[dpu] else None for dpu, amount in enumerate(state.encrypted)],
        "offload_errors_total": [amount if up[dpu] else None for dpu, amount in enumerate(state.errors)],
    }


def boot_progress(effects: Effects, dpu: int) -> str:
    """Give how far a DPU has booted, in Redfish's words."""
    stage = effects.dpus_down.get(dpu)
    return stage.boot_progress if stage else "OSRunning"


def resources(plan: DpuPlan, effects: Effects, dpu: int, now_ns: int) -> dict[str, tuple[int, int]]:
    """Give for each resource of a DPU how much is consumed, and how much there is."""
    model, busy = plan.model, _busy(plan, dpu, now_ns)
    services = SERVICE_SUBFUNCTIONS * (dpu in effects.dpu_services)
    return {
        "vfs": (0, model.functions),
        "subfunctions": (4 + services, model.subfunctions),
        "flows": (int(model.flows * 0.4 * busy), model.flows),
        "security_associations": (int(model.security_associations * 0.25 * busy), model.security_associations),
    }


def total_watts(plan: DpuPlan) -> float:
    """Give the power of all DPUs together, at a middling load."""
    return len(plan.phase) * plan.model.watts * (1 + IDLE_SHARE) / 2


def _busy(plan: DpuPlan, dpu: int, now_ns: int) -> float:
    """Give how busy a DPU is, 0 to 1: it swings within half an hour."""
    return plan.load[dpu] * (0.75 + 0.25 * sin(now_ns / 1e9 / 287.0 + plan.phase[dpu]))

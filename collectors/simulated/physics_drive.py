"""The life of a node's NVMe drives. Their counters are those of a life, so they follow from the date alone.

A drive keeps counting through restarts of everything: what it has read by a given moment is the integral of a load
that swings with the hour. Only what faults add is state.
"""

from math import cos, sin
from typing import Any, Final

import msgspec

from collectors.metrics_nvme import DATA_UNIT_BYTES, WARNING_RELIABILITY, WARNING_SPARE, WARNING_TEMPERATURE
from collectors.simulated.effects import Effects
from collectors.simulated.identity import number, share

SERVICE_START: Final = 1_704_067_200
"""All simulated drives were first powered on within a year from here: 2024-01-01, in seconds since 1970."""
SWING: Final = 2 * 3.141592653589793 / 3600.0
"""The load swings once an hour."""
SWING_SHARE: Final = 0.9
SPARE_THRESHOLD: Final = 0.10
RATED_WRITES: Final = 365 * 5
"""Drive writes over its rated life: one a day for five years."""
IDLE_WATTS: Final = 5.0
BUSY_WATTS: Final = 9.0
WARNING_CELSIUS: Final = 77.0


class DrivePlan(msgspec.Struct, frozen=True):
    """What does not change, a value for each drive."""

    count: int
    capacity_bytes: int
    since: tuple[int, ...]
    """When it was first powered on, seconds since 1970."""
    read_rate: tuple[float, ...]
    """Mean bytes a second over its life."""
    write_rate: tuple[float, ...]
    phase: tuple[float, ...]
    cycles: tuple[int, ...]


class DriveState(msgspec.Struct, frozen=True):
    """What faults added so far, a list over the drives each."""

    media_errors: list[float]


def plan_drives(count: int, capacity_bytes: int, seed: int, node: str) -> DrivePlan:
    """Make the drives of one node."""
    drives = range(count)
    return DrivePlan(
        count=count,
        capacity_bytes=capacity_bytes,
        since=tuple(SERVICE_START + number(seed, node, "since", i) % (365 * 86400) for i in drives),
        read_rate=tuple(40e6 * (0.5 + share(seed, node, "read", i)) for i in drives),
        write_rate=tuple(12e6 * (0.5 + share(seed, node, "write", i)) for i in drives),
        phase=tuple(6.28 * share(seed, node, "phase", i) for i in drives),
        cycles=tuple(3 + number(seed, node, "cycles", i) % 40 for i in drives),
    )


def healthy_drives(plan: DrivePlan) -> DriveState:
    """Give the state of drives that no fault ever touched."""
    return DriveState(media_errors=[0.0] * plan.count)


def advance_drives(state: DriveState, effects: Effects, dt_ns: int) -> DriveState:
    """Give the state `dt_ns` nanoseconds later."""
    rates = effects.media_errors_per_second
    if not rates:
        return state
    dt = dt_ns / 1e9
    return DriveState(media_errors=[had + rates.get(drive, 0.0) * dt for drive, had in enumerate(state.media_errors)])


def drive_columns(state: DriveState, plan: DrivePlan, effects: Effects, now_ns: int) -> dict[str, list[Any]]:
    """Give the drives' SMART values at a moment, by field of the measurement `nvme`."""
    second = now_ns / 1e9
    ages, loads, integrals = [], [], []
    for since, phase in zip(plan.since, plan.phase, strict=True):
        age = max(second - since, 0.0)
        ages.append(age)
        loads.append(1.0 + SWING_SHARE * sin(SWING * age + phase))
        integrals.append(age + SWING_SHARE / SWING * (cos(phase) - cos(SWING * age + phase)))
    read = [int(rate * load) for rate, load in zip(plan.read_rate, integrals, strict=True)]
    written = [int(rate * load) for rate, load in zip(plan.write_rate, integrals, strict=True)]
    media = [int(errors) for errors in state.media_errors]
    spare = [effects.spare_ratio.get(drive, 1.0) for drive in range(plan.count)]
    rated = plan.capacity_bytes * RATED_WRITES
    celsius = [float(int(31.0 + 11.0 * load)) for load in loads]
    return {
        "critical_warning": [
            (WARNING_SPARE if left < SPARE_THRESHOLD else 0)
            | (WARNING_TEMPERATURE if heat >= WARNING_CELSIUS else 0)
            | (WARNING_RELIABILITY if errors else 0)
            for left, heat, errors in zip(spare, celsius, media, strict=True)
        ],
        "media_errors_total": media,
        "available_spare_ratio": spare,
        "temperature_celsius": celsius,
        "used_ratio": [min(amount * 100 // rated, 255) / 100 for amount in written],
        "read_bytes_total": [amount // DATA_UNIT_BYTES * DATA_UNIT_BYTES for amount in read],
        "written_bytes_total": [amount // DATA_UNIT_BYTES * DATA_UNIT_BYTES for amount in written],
        "read_commands_total": [amount // 65536 for amount in read],
        "write_commands_total": [amount // 131072 for amount in written],
        "busy_seconds_total": [int(age * 0.2) // 60 * 60 for age in ages],
        "power_on_seconds_total": [int(age) // 3600 * 3600 for age in ages],
        "power_cycles_total": list(plan.cycles),
        "unsafe_shutdowns_total": [cycles // 3 for cycles in plan.cycles],
        "error_log_entries_total": [errors + 2 * cycles for errors, cycles in zip(media, plan.cycles, strict=True)],
    }


def total_watts(plan: DrivePlan) -> float:
    """Give the power of all drives together, at a middling load."""
    return plan.count * (IDLE_WATTS + BUSY_WATTS) / 2

"""What is measured of GPUs, whoever reads them: the declarations that `nvml` and `simulated` share.

`gpu` has one row for each GPU, `nvlink` one for each link of a GPU. Counters count since the driver was loaded,
unless their meaning says otherwise. Source: NVML API reference (field ids are NVML's `NVML_FI_*`).
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level

THROTTLE_IDLE: Final = 0x01
"""Bit of `gpu.throttle_reasons`: nothing runs, so the clocks are low."""
THROTTLE_POWER_CAP: Final = 0x04
"""Bit: the power limit holds the clocks down."""
THROTTLE_THERMAL_SOFTWARE: Final = 0x20
"""Bit: the driver lowers the clocks because the GPU, or its memory, is too hot."""
THROTTLE_THERMAL_HARDWARE: Final = 0x40
"""Bit: the hardware lowers the clocks by half or more because the GPU is too hot."""


def _metric(
    name: str,
    meaning: str,
    source: str,
    *,
    unit: Unit = Unit.COUNT,
    kind: Kind = Kind.GAUGE,
    value_type: ValueType = ValueType.FLOAT,
    level: Level = Level.STANDARD,
    category: Category = Category.LOAD,
    attributes: tuple[str, ...] = (),
) -> MetricSpec:
    return MetricSpec(
        name=name,
        unit=unit,
        kind=kind,
        type=value_type,
        level=level,
        category=category,
        meaning=meaning,
        source=source,
        attributes=attributes,
    )


_gauge: Callable[..., MetricSpec] = _metric
_count = partial(_metric, kind=Kind.COUNTER, value_type=ValueType.INT)
_bytes = partial(_count, unit=Unit.BYTES, category=Category.USAGE)
_errors = partial(_count, category=Category.ERROR)
_flag = partial(
    _metric, unit=Unit.NONE, kind=Kind.STATE, value_type=ValueType.BOOL, level=Level.ESSENTIAL, category=Category.ERROR
)
_environment = partial(_metric, category=Category.ENVIRONMENT)

GPU_METRICS: Final[tuple[MetricSpec, ...]] = (
    _environment(
        "gpu.temperature_celsius",
        "Temperature of the GPU's die.",
        "nvmlDeviceGetTemperatureV",
        unit=Unit.CELSIUS,
        level=Level.ESSENTIAL,
    ),
    _errors(
        "gpu.ecc_uncorrected_total",
        "Memory errors that ECC could not correct since the driver was loaded; absent without ECC.",
        "NVML field 4, ECC_DBE_VOL_TOTAL",
        level=Level.ESSENTIAL,
    ),
    _flag(
        "gpu.row_remap_pending",
        "A memory row waits for a reset to be replaced by a spare; absent before Ampere.",
        "NVML field 144, REMAPPED_PENDING",
    ),
    _flag(
        "gpu.row_remap_failed",
        "A memory row could not be replaced by a spare: the GPU must be exchanged; absent before Ampere.",
        "NVML field 145, REMAPPED_FAILURE",
    ),
    _environment(
        "gpu.power_watts",
        "Mean power of the GPU over the time since the row before (or the driver's own short window).",
        "NVML field 186, POWER_INSTANT",
        unit=Unit.WATTS,
    ),
    _count(
        "gpu.energy_joules_total",
        "Energy taken since the driver was loaded: the integral of the power.",
        "NVML field 83, TOTAL_ENERGY_CONSUMPTION",
        unit=Unit.JOULES,
        value_type=ValueType.FLOAT,
        category=Category.USAGE,
    ),
    _gauge(
        "gpu.utilization_ratio",
        "Share of the time in which a kernel ran, 0 to 1; absent on a GPU in MIG mode.",
        "nvmlDeviceGetUtilizationRates",
        unit=Unit.RATIO,
    ),
    _gauge(
        "gpu.memory_utilization_ratio",
        "Share of the time in which memory was read or written, 0 to 1; absent on a GPU in MIG mode.",
        "nvmlDeviceGetUtilizationRates",
        unit=Unit.RATIO,
    ),
    _gauge(
        "gpu.memory_used_bytes",
        "Memory that programs hold, without what the driver reserves.",
        "nvmlDeviceGetMemoryInfo_v2",
        unit=Unit.BYTES,
        value_type=ValueType.INT,
        category=Category.USAGE,
    ),
    _gauge(
        "gpu.sm_clock_hertz",
        "Clock of the multiprocessors.",
        "nvmlDeviceGetClockInfo",
        unit=Unit.HERTZ,
        value_type=ValueType.INT,
    ),
    _gauge(
        "gpu.memory_clock_hertz",
        "Clock of the memory.",
        "nvmlDeviceGetClockInfo",
        unit=Unit.HERTZ,
        value_type=ValueType.INT,
    ),
    _metric(
        "gpu.throttle_reasons",
        "Why the clocks are below their highest, as NVML's bits: 1 idle, 4 power cap, 32 and 64 thermal; 0 for none.",
        "nvmlDeviceGetCurrentClocksEventReasons",
        kind=Kind.STATE,
        value_type=ValueType.INT,
    ),
    _bytes("gpu.pcie_receive_bytes_total", "Bytes that the GPU received over PCIe.", "NVML field 198"),
    _bytes("gpu.pcie_transmit_bytes_total", "Bytes that the GPU sent over PCIe.", "NVML field 197"),
    _environment(
        "gpu.memory_temperature_celsius",
        "Temperature of the memory; absent where it has no sensor.",
        "NVML field 82, MEMORY_TEMP",
        unit=Unit.CELSIUS,
    ),
    _environment(
        "gpu.fan_ratio",
        "Speed of the GPU's own fan, as a share of its highest; absent on a passively cooled card.",
        "nvmlDeviceGetFanSpeed",
        unit=Unit.RATIO,
    ),
    _environment(
        "gpu.power_limit_watts",
        "The power limit in force.",
        "nvmlDeviceGetEnforcedPowerLimit",
        unit=Unit.WATTS,
    ),
    _errors(
        "gpu.ecc_corrected_total",
        "Memory errors that ECC corrected since the driver was loaded; absent without ECC.",
        "NVML field 3, ECC_SBE_VOL_TOTAL",
    ),
    _errors(
        "gpu.ecc_uncorrected_lifetime_total",
        "Memory errors that ECC could not correct over the life of the GPU; survives a reload of the driver.",
        "NVML field 6, ECC_DBE_AGG_TOTAL",
    ),
    _errors("gpu.pcie_replays_total", "PCIe packets that had to be sent again.", "NVML field 94"),
    _metric(
        "gpu.nvlinks_active",
        "NVLinks of the GPU that carry traffic; absent without NVLink.",
        "nvmlDeviceGetNvLinkState",
        kind=Kind.STATE,
        value_type=ValueType.INT,
        level=Level.ESSENTIAL,
        category=Category.ERROR,
    ),
    _bytes(
        "gpu.nvlink_receive_bytes_total", "Bytes received over all NVLinks; absent without NVLink.", "NVML field 139"
    ),
    _bytes("gpu.nvlink_transmit_bytes_total", "Bytes sent over all NVLinks; absent without NVLink.", "NVML field 138"),
)
"""The columns of the measurement `gpu`; the device is the GPU."""

_LINK: Final = ("link",)

NVLINK_METRICS: Final[tuple[MetricSpec, ...]] = (
    _flag(
        "nvlink.active",
        "The link carries traffic.",
        "nvmlDeviceGetNvLinkState",
        level=Level.STANDARD,
        attributes=_LINK,
    ),
    _bytes(
        "nvlink.receive_bytes_total", "Bytes received over the link.", "NVML field 139",
        level=Level.DETAILED, attributes=_LINK,
    ),
    _bytes(
        "nvlink.transmit_bytes_total", "Bytes sent over the link.", "NVML field 138",
        level=Level.DETAILED, attributes=_LINK,
    ),
    _errors(
        "nvlink.recoveries_total", "Times that the link had to be trained again; growth foretells its failure.",
        "NVML field 162 (Hopper), 213 to 215 (Blackwell)", level=Level.DETAILED, attributes=_LINK,
    ),
)  # fmt: skip
"""The columns of the measurement `nvlink`; the device is the GPU, the attribute `link` the number of its link."""

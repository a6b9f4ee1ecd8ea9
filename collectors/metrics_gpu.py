"""What is measured of GPUs, whoever reads them: the declarations that `nvml` and `simulated` share.

`gpu` has one row for each GPU, `nvlink` one for each link of a GPU. Counters count since the driver was loaded,
unless their meaning says otherwise. What only `nvml` reads is in `NVML_METRICS`.
Source: NVML API reference (field ids are NVML's `NVML_FI_*`).
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from collectors._declare import Declare
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
        "Memory that programs hold, without what the driver reserves (with it on drivers before 510).",
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


def _states(measurement: str, source: str, names: dict[str, tuple[str, Level]]) -> tuple[MetricSpec, ...]:
    """Declare numbers of which only the changes make sense."""
    return tuple(
        _metric(f"{measurement}.{field}", meaning, source, kind=Kind.STATE, value_type=ValueType.INT, level=level,
                category=Category.ERROR)
        for field, (meaning, level) in names.items()
    )  # fmt: skip


def _more_of_gpus() -> tuple[MetricSpec, ...]:
    heat = Declare("gpu", "nvmlDeviceGetMarginTemperature", Category.ENVIRONMENT)
    power = Declare("gpu", "NVML field 185, POWER_AVERAGE", Category.ENVIRONMENT, level=Level.DETAILED)
    load = Declare("gpu", "nvmlDeviceGet{Encoder,Decoder,Jpg,Ofa}Utilization", Category.LOAD, level=Level.DETAILED)
    clock = Declare("gpu", "nvmlDeviceGetClockInfo", Category.LOAD, level=Level.DETAILED)
    memory = Declare("gpu", "nvmlDeviceGetMemoryInfo_v2, nvmlDeviceGetBAR1MemoryInfo", level=Level.DETAILED)
    users = Declare("gpu", "nvmlDeviceGet{Compute,Graphics}RunningProcesses_v3")
    return (
        heat.gauge("temperature_margin_celsius", "Degrees left before the clocks are lowered; falls as the GPU heats."),
        power.gauge("power_average_watts", "Mean power over the driver's own window, about a second."),
        clock.gauge("graphics_clock_hertz", "Clock of the graphics engine.", column=ValueType.INT),
        clock.gauge("video_clock_hertz", "Clock of the video engines.", column=ValueType.INT),
        load.gauge("encoder_ratio", "Share of the time in which video was encoded, 0 to 1."),
        load.gauge("decoder_ratio", "Share of the time in which video was decoded, 0 to 1."),
        load.gauge("jpeg_ratio", "Share of the time in which the JPEG engine worked, 0 to 1."),
        load.gauge("optical_flow_ratio", "Share of the time in which the optical flow engine worked, 0 to 1."),
        memory.gauge("memory_free_bytes", "Memory that nobody holds.", Level.STANDARD),
        memory.gauge("memory_reserved_bytes", "Memory that driver and firmware keep for themselves."),
        memory.gauge("bar1_used_bytes", "Of the window through which the bus sees the memory, what is mapped."),
        users.gauge("processes", "Programs that have a context on the GPU, as the driver tells this node."),
        *_states("gpu", "nvmlDeviceGetPerformanceState", {
            "performance_state": ("Performance state, 0 (fastest) to 15.", Level.STANDARD),
        }),
        *_throttled(),
        *_bus_of_gpus(),
        *_health_of_gpus(),
        Declare("gpu", "nvmlFieldValue_t.latencyUsec", Category.USAGE, level=Level.DETAILED).gauge(
            "driver_seconds", "What the driver took for the fields of this row, by its own word."
        ),
    )  # fmt: skip


def _throttled() -> tuple[MetricSpec, ...]:
    """Declare for how long clocks were held down, by cause. Source: NVML, `NVML_FI_DEV_PERF_POLICY_*`, nanoseconds."""
    causes = {
        "power": ("the power limit", "74, PERF_POLICY_POWER"),
        "heat": ("the temperature, by the driver's old sum", "75, PERF_POLICY_THERMAL"),
        "sync_boost": ("the slowest of a group that is clocked together", "76, PERF_POLICY_SYNC_BOOST"),
        "board_limit": ("a limit of the board", "77, PERF_POLICY_BOARD_LIMIT"),
        "low_utilization": ("a lack of work", "78, PERF_POLICY_LOW_UTILIZATION"),
        "reliability": ("a limit of the voltage", "79, PERF_POLICY_RELIABILITY"),
        "software_heat": ("the temperature, by the driver", "269, CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN"),
        "hardware_heat": ("the temperature, by the hardware", "270, CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN"),
        "power_brake": ("the server's power brake", "271, CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN"),
    }
    return tuple(
        Declare("gpu", f"NVML field {source}", Category.LOAD).counter(
            f"throttled_{cause}_seconds_total", f"Time in which {what} held the clocks down."
        )
        for cause, (what, source) in causes.items()
    )


def _bus_of_gpus() -> tuple[MetricSpec, ...]:
    counters = {
        "replay_rollovers": ("Times that packets were sent again until the count ran over.", 95),
        "recoveries": ("Times that the link had to be trained again: growth foretells its failure.", 169),
        "corrected_errors": ("Errors that the link corrected by itself.", 173),
        "naks_received": ("Packets that the other end asked for again.", 174),
        "receiver_errors": ("Symbols received wrong.", 175),
        "bad_tlp": ("Transaction packets with a wrong checksum or number.", 176),
        "naks_sent": ("Packets that the GPU asked for again.", 177),
        "bad_dllp": ("Link packets with a wrong checksum.", 178),
        "nonfatal_errors": ("Uncorrectable errors after which the link still works.", 179),
        "fatal_errors": ("Uncorrectable errors that break the link.", 180),
        "unsupported_requests": ("Requests that nobody understood.", 181),
        "lcrc_errors": ("Packets with a wrong link checksum.", 182),
        "lane_errors": ("Errors of single lanes.", 183),
    }
    plain = ("recoveries", "nonfatal_errors", "fatal_errors")
    link = Declare("gpu", "nvmlDeviceGetCurrPcieLinkGeneration, nvmlDeviceGetCurrPcieLinkWidth", Category.ERROR)
    return (
        link.gauge("pcie_generation", "Generation of PCI Express that the link runs at, 1 to 6; falls while idle."),
        link.gauge("pcie_width", "Lanes that the link uses; below what GPU and slot can: badly seated or broken."),
        *(
            Declare("gpu", f"NVML field {field}", Category.ERROR).counter(
                f"pcie_{name}_total", meaning, Level.STANDARD if name in plain else Level.DETAILED
            )
            for name, (meaning, field) in counters.items()
        ),
    )


_RECOVERY: Final = (
    "What the driver says it needs: 0 nothing, 1 reset of the GPU, 2 or 7 reboot of the node, 3 drain of its peers, "
    "4 drain and reset, 5 a new IMEX domain, 6 reset of the bus."
)


def _health_of_gpus() -> tuple[MetricSpec, ...]:
    rows = Declare("gpu", "NVML fields 142, 143", Category.ERROR)
    banks = Declare("gpu", "nvmlDeviceGetRowRemapperHistogram", Category.ERROR, level=Level.DETAILED)
    pages = Declare("gpu", "NVML fields 29 to 31", Category.ERROR)
    state = Declare("gpu", "nvmlDeviceGetSramEccErrorStatus, nvmlDeviceGetRepairStatus", Category.ERROR)
    totals = Declare("gpu", "NVML field 5, ECC_SBE_AGG_TOTAL", Category.ERROR)
    return (
        totals.counter("ecc_corrected_lifetime_total", "Memory errors that ECC corrected over the life of the GPU."),
        rows.gauge("rows_remapped_corrected", "Memory rows replaced by spares after correctable errors."),
        rows.gauge("rows_remapped_uncorrected", "Memory rows replaced by spares after uncorrectable errors."),
        banks.gauge("banks_spare_full", "Memory banks with all their spare rows."),
        banks.gauge("banks_spare_none", "Memory banks without any spare row left: the next bad row there is the end."),
        pages.gauge("pages_retired_corrected", "Memory pages given up after corrected errors; before Ampere."),
        pages.gauge("pages_retired_uncorrected", "Memory pages given up after uncorrectable errors; before Ampere."),
        pages.flag("page_retirement_pending", "A page waits for a reset to be given up; before Ampere."),
        state.flag("sram_threshold_exceeded", "Uncorrectable errors in SRAM passed the limit for an exchange."),
        state.flag("channel_repair_pending", "A memory channel waits for a reset to be repaired."),
        state.flag("tpc_repair_pending", "A processing cluster waits for a reset to be repaired."),
        *_states("gpu", "NVML field 230, GET_GPU_RECOVERY_ACTION; nvmlDeviceGetGpuFabricInfoV", {
            "recovery_action": (_RECOVERY, Level.ESSENTIAL),
            "fabric_state": ("Registration with the NVLink fabric: 1 not begun, 2 under way, 3 done.",
                             Level.STANDARD),
            "fabric_health_mask": ("NVML's bits of the fabric's health: bandwidth, routes, timeouts, configuration.",
                                   Level.DETAILED),
        }),
    )  # fmt: skip


def _links() -> tuple[MetricSpec, ...]:
    counters = {
        "replays_total": ("Packets that had to be sent again.", "161; 52 before Hopper"),
        "failed_recoveries_total": ("Times that the link could not be trained again.", "214 (Blackwell)"),
        "crc_errors_total": ("Packets with a wrong checksum.", "163; 38 before Hopper"),
        "symbol_errors_total": ("Symbols received wrong.", "221 (Blackwell)"),
        "effective_errors_total": ("Errors that forward correction could not mend.", "219 (Blackwell)"),
        "receive_errors_total": ("Packets received with an error.", "208 (Blackwell)"),
        "integrity_errors_total": ("Times that the link's own integrity threshold was passed.", "211 (Blackwell)"),
        "transmit_discards_total": ("Packets that were given up before they were sent.", "212 (Blackwell)"),
    }
    rate = Declare("nvlink", "NVML field 164, NVLINK_GET_SPEED", Category.LOAD, _LINK, Level.DETAILED)
    return (
        rate.gauge("rate_bytes_per_second", "What the link can carry one way."),
        *(
            Declare("nvlink", f"NVML field {source}", Category.ERROR, _LINK, Level.DETAILED).counter(field, meaning)
            for field, (meaning, source) in counters.items()
        ),
    )


def _parts() -> tuple[MetricSpec, ...]:
    ecc = Declare("gpu_ecc", "NVML fields 7 to 28", Category.ERROR, ("location",), Level.DETAILED)
    xid = Declare("gpu_xid", "nvmlEventTypeXidCriticalError", Category.ERROR, ("code",), Level.ESSENTIAL)
    process = Declare("gpu_process", "nvmlDeviceGet*RunningProcesses_v3", Category.USAGE, ("process",), Level.DETAILED)
    fan = Declare("gpu_fan", "nvmlDeviceGetFanSpeed_v2", Category.ENVIRONMENT, ("fan",), Level.DETAILED)
    return (
        ecc.counter("corrected_total", "Errors that ECC corrected at this place since the driver was loaded."),
        ecc.counter("uncorrected_total", "Errors that ECC could not correct there since the driver was loaded."),
        ecc.counter("corrected_lifetime_total", "Errors that ECC corrected there over the life of the GPU."),
        ecc.counter("uncorrected_lifetime_total", "Errors that ECC could not correct there over its life."),
        xid.counter("seen_total", "Xid errors of this code since the collector started; each is an event as well."),
        process.gauge("memory_used_bytes", "Memory of the GPU that a program holds; absent when nobody may know."),
        fan.gauge("speed_ratio", "Speed of one fan of the GPU, as a share of its highest."),
    )


NVML_METRICS: Final[tuple[MetricSpec, ...]] = (*_more_of_gpus(), *_links(), *_parts())
"""What NVML tells beside `GPU_METRICS` and `NVLINK_METRICS`."""

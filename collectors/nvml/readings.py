"""What is read of one GPU, in three tiers: every time, every quarter of a minute, every minute.

Only the first is cheap for the driver. Nothing here blocks by definition: PCIe rates come from counters, for the call
that measures them waits 20 ms for each.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from collectors.metrics_gpu import GPU_METRICS, NVML_METRICS
from collectors.nvml.fields import Field, Fields
from collectors.nvml.library import Asker
from collectors.nvml.links import Links
from schemas.rows import FieldValue, Reading
from schemas.verbosity import Level

_LEVELS: Final = {spec.name: spec.level for spec in (*GPU_METRICS, *NVML_METRICS)}
_MEGA: Final = 1_000_000
_GRAPHICS, _SM, _MEMORY, _VIDEO = 0, 1, 2, 3
"""NVML's clocks."""
_MEMORY_V2: Final = 0x02000028
_UNKNOWN_STATE: Final = 32
_LOCATIONS: Final = {
    "l1": (7, 8, 18, 19),
    "l2": (9, 10, 20, 21),
    "device_memory": (11, 12, 22, 23),
    "registers": (13, 14, 24, 25),
    "texture": (15, 16, 26, 27),
    "cbu": (None, 17, None, 28),
}
"""Where ECC counts -> fields: corrected and not, since the driver was loaded; the same over the life of the GPU."""
_ECC_COLUMNS: Final = (
    "corrected_total", "uncorrected_total", "corrected_lifetime_total", "uncorrected_lifetime_total"
)  # fmt: skip


def _milli(value: Any) -> float:
    return float(value / 1000)


def _nano(value: Any) -> float:
    return float(value / 1e9)


def _field(name: str, number: int, made: Callable[[Any], FieldValue] = int) -> Field:
    return Field(name, number, _LEVELS[f"gpu.{name}"], made)


FAST: Final = (
    _field("energy_joules_total", 83, _milli),
    _field("power_watts", 186, _milli),
    _field("power_average_watts", 185, _milli),
    _field("memory_temperature_celsius", 82, float),
    _field("pcie_transmit_bytes_total", 197),
    _field("pcie_receive_bytes_total", 198),
)
MEDIUM: Final = (
    _field("throttled_power_seconds_total", 74, _nano),
    _field("throttled_heat_seconds_total", 75, _nano),
    _field("throttled_sync_boost_seconds_total", 76, _nano),
    _field("throttled_board_limit_seconds_total", 77, _nano),
    _field("throttled_low_utilization_seconds_total", 78, _nano),
    _field("throttled_reliability_seconds_total", 79, _nano),
    _field("throttled_software_heat_seconds_total", 269, _nano),
    _field("throttled_hardware_heat_seconds_total", 270, _nano),
    _field("throttled_power_brake_seconds_total", 271, _nano),
    _field("pcie_replays_total", 94),
    _field("pcie_replay_rollovers_total", 95),
    _field("pcie_recoveries_total", 169),
    _field("pcie_corrected_errors_total", 173),
    _field("pcie_naks_received_total", 174),
    _field("pcie_receiver_errors_total", 175),
    _field("pcie_bad_tlp_total", 176),
    _field("pcie_naks_sent_total", 177),
    _field("pcie_bad_dllp_total", 178),
    _field("pcie_nonfatal_errors_total", 179),
    _field("pcie_fatal_errors_total", 180),
    _field("pcie_unsupported_requests_total", 181),
    _field("pcie_lcrc_errors_total", 182),
    _field("pcie_lane_errors_total", 183),
)
SLOW: Final = (
    _field("ecc_corrected_total", 3),
    _field("ecc_uncorrected_total", 4),
    _field("ecc_corrected_lifetime_total", 5),
    _field("ecc_uncorrected_lifetime_total", 6),
    _field("rows_remapped_corrected", 142),
    _field("rows_remapped_uncorrected", 143),
    _field("row_remap_pending", 144, bool),
    _field("row_remap_failed", 145, bool),
    _field("pages_retired_corrected", 29),
    _field("pages_retired_uncorrected", 30),
    _field("page_retirement_pending", 31, bool),
    _field("recovery_action", 230),
)


class GpuReader:
    """Reads one GPU."""

    def __init__(self, asker: Asker, device: str) -> None:
        self._asker = asker
        self._device = device
        self._fast = Fields(asker, FAST)
        self._medium = Fields(asker, MEDIUM)
        self._slow = Fields(asker, SLOW)
        self._ecc = {
            location: Fields(
                asker,
                [
                    Field(column, number, Level.DETAILED)
                    for column, number in zip(_ECC_COLUMNS, numbers, strict=True)
                    if number is not None
                ],
            )
            for location, numbers in _LOCATIONS.items()
        }
        self._seen: set[str] = set()
        self.links = Links(asker, device)

    @property
    def unsupported(self) -> list[str]:
        """Names of the metrics of `gpu` that this GPU lastingly does not report; meaningful after a full reading."""
        lacking = self._fast.unsupported | self._medium.unsupported | self._slow.unsupported
        return sorted(f"gpu.{name}" for name in (lacking | _CALLED) - self._seen)

    def read(self, level: Level, *, medium: bool, slow: bool) -> Iterator[Reading]:
        """Give the rows that are due: one of `gpu`, and those of its links, fans and memories.

        Raises GpuLostError, NewProcessError.
        """
        fields: dict[str, FieldValue] = {}
        self._fast.read(fields, level)
        took = self._fast.microseconds
        _environment(self._asker, fields)
        if level >= Level.STANDARD:
            _load(self._asker, fields, level)
        if medium:
            self._medium.read(fields, level)
            took += self._medium.microseconds
            if level >= Level.STANDARD:
                _bus(self._asker, fields)
            if level >= Level.DETAILED:
                _engines(self._asker, fields)
            yield from self.links.read(level, fields)
        if slow:
            self._slow.read(fields, level)
            took += self._slow.microseconds
            _health(self._asker, fields, level)
        if level >= Level.DETAILED:
            fields["driver_seconds"] = took / 1e6
        self._seen.update(name for name, value in fields.items() if value is not None)
        yield Reading("gpu", fields, self._device)
        if level >= Level.DETAILED:
            if medium:
                yield from _fans(self._asker, self._device)
            if slow:
                yield from self._locations(level)

    def _locations(self, level: Level) -> Iterator[Reading]:
        for location, ecc in self._ecc.items():
            fields: dict[str, FieldValue] = {}
            ecc.read(fields, level)
            if fields:
                yield Reading("gpu_ecc", fields, self._device, {"location": location})


def _environment(asker: Asker, fields: dict[str, FieldValue]) -> None:
    heat = asker.first(("nvmlDeviceGetTemperatureV", 0), ("nvmlDeviceGetTemperature", 0))
    fields["temperature_celsius"] = None if heat is None else float(heat)
    if fields.get("power_watts") is None:  # before the fields 185 and 186
        power = asker.ask("nvmlDeviceGetPowerUsage")
        fields["power_watts"] = None if power is None else power / 1000


def _load(asker: Asker, fields: dict[str, FieldValue], level: Level) -> None:
    use = asker.ask("nvmlDeviceGetUtilizationRates")
    if use is not None:
        fields["utilization_ratio"], fields["memory_utilization_ratio"] = use.gpu / 100, use.memory / 100
    memory_of(asker, fields, level)
    for column, clock in (("sm_clock_hertz", _SM), ("memory_clock_hertz", _MEMORY)):
        fields[column] = _clock(asker, clock)
    fields["throttle_reasons"] = asker.first(
        ("nvmlDeviceGetCurrentClocksEventReasons",), ("nvmlDeviceGetCurrentClocksThrottleReasons",)
    )
    state = asker.first(("nvmlDeviceGetPerformanceState",), ("nvmlDeviceGetPowerState",))
    fields["performance_state"] = None if state == _UNKNOWN_STATE else state
    limit = asker.ask("nvmlDeviceGetEnforcedPowerLimit")
    fields["power_limit_watts"] = None if limit is None else limit / 1000
    margin = asker.ask("nvmlDeviceGetMarginTemperature")
    fields["temperature_margin_celsius"] = None if margin is None else float(margin)
    fan = asker.ask("nvmlDeviceGetFanSpeed")
    fields["fan_ratio"] = None if fan is None else fan / 100
    if level >= Level.DETAILED:
        fields["graphics_clock_hertz"] = _clock(asker, _GRAPHICS)
        fields["video_clock_hertz"] = _clock(asker, _VIDEO)


def memory_of(asker: Asker, fields: dict[str, FieldValue], level: Level) -> None:
    """Add how the memory of a GPU or partition is used. Raises GpuLostError, NewProcessError."""
    memory = asker.first(("nvmlDeviceGetMemoryInfo", _MEMORY_V2), ("nvmlDeviceGetMemoryInfo",))
    if memory is not None:
        fields["memory_used_bytes"], fields["memory_free_bytes"] = memory.used, memory.free
        fields["memory_reserved_bytes"] = getattr(memory, "reserved", None)
    if level >= Level.DETAILED:
        window = asker.ask("nvmlDeviceGetBAR1MemoryInfo")
        fields["bar1_used_bytes"] = None if window is None else window.bar1Used


def _clock(asker: Asker, which: int) -> int | None:
    megahertz = asker.ask("nvmlDeviceGetClockInfo", which)
    return None if megahertz is None else megahertz * _MEGA


def _bus(asker: Asker, fields: dict[str, FieldValue]) -> None:
    fields["pcie_generation"] = asker.ask("nvmlDeviceGetCurrPcieLinkGeneration") or None
    fields["pcie_width"] = asker.ask("nvmlDeviceGetCurrPcieLinkWidth") or None


def _engines(asker: Asker, fields: dict[str, FieldValue]) -> None:
    for column, name in (
        ("encoder_ratio", "nvmlDeviceGetEncoderUtilization"),
        ("decoder_ratio", "nvmlDeviceGetDecoderUtilization"),
        ("jpeg_ratio", "nvmlDeviceGetJpgUtilization"),
        ("optical_flow_ratio", "nvmlDeviceGetOfaUtilization"),
    ):
        answer = asker.ask(name)  # per cent, and microseconds over which it was sampled
        fields[column] = None if answer is None else answer[0] / 100


def _health(asker: Asker, fields: dict[str, FieldValue], level: Level) -> None:
    nvml = asker.nvml
    repair = asker.ask("nvmlDeviceGetRepairStatus")
    if repair is not None:
        fields["channel_repair_pending"], fields["tpc_repair_pending"] = bool(repair[0]), bool(repair[1])
    make = getattr(nvml, "c_nvmlEccSramErrorStatus_v1_t", None)
    memory = None if make is None else asker.fill("nvmlDeviceGetSramEccErrorStatus", make())
    if memory is not None:
        fields["sram_threshold_exceeded"] = bool(memory.bThresholdExceeded)
    fabric = fabric_of(asker)
    if fabric is not None and fabric.state:
        fields["fabric_state"] = int(fabric.state)
        fields["fabric_health_mask"] = getattr(fabric, "healthMask", None)
    if level >= Level.DETAILED:
        banks = asker.ask("nvmlDeviceGetRowRemapperHistogram")
        if banks is not None:
            fields["banks_spare_full"], fields["banks_spare_none"] = banks.max, banks.none


def fabric_of(asker: Asker) -> Any:
    """Give how the GPU stands in its NVLink fabric, `c_nvmlGpuFabricInfo_v2_t` or older; None where there is none."""
    nvml = asker.nvml
    for call, name in (
        ("nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t"),
        ("nvmlDeviceGetGpuFabricInfo", "c_nvmlGpuFabricInfo_t"),
    ):
        make = getattr(nvml, name, None)
        if make is not None:
            struct: Any = make()
            if asker.fill(call, struct) is not None:
                return struct
    return None


def _fans(asker: Asker, device: str) -> Iterator[Reading]:
    for fan in range(asker.ask("nvmlDeviceGetNumFans") or 0):
        speed = asker.ask("nvmlDeviceGetFanSpeed_v2", fan)
        if speed is not None:
            yield Reading("gpu_fan", {"speed_ratio": speed / 100}, device, {"fan": str(fan)})


_FIELD_COLUMNS: Final = {field.column for field in (*FAST, *MEDIUM, *SLOW)}
_CALLED: Final = frozenset(
    spec.field
    for spec in (*GPU_METRICS, *NVML_METRICS)
    if spec.measurement == "gpu" and spec.field not in _FIELD_COLUMNS and spec.field != "processes"
)
"""Columns of `gpu` that are made of calls, and so are lacking when no call ever gave them."""

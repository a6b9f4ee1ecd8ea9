"""Rows of processors, memory and ports, from what their metrics say. Pure: resources in, rows out.

Which part a resource is of is known from where its metrics were linked. A count of all ones is what is read of hardware
that does not answer, and is none; a speed of 0 or 65535 is one that nobody knows.

Source: DMTF schemas ProcessorMetrics 1.6, EnvironmentMetrics 1.3, MemoryMetrics 1.7, PortMetrics 1.5.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from collectors.metrics_bmc_parts import PCIE_ERRORS
from collectors.redfish.readings import Numbers, excerpt
from collectors.redfish.resource import Resource, member, number
from schemas.rows import FieldValue, Reading

_MEGA: Final = 1_000_000
_ALL_ONES: Final = frozenset({(1 << 32) - 1, (1 << 64) - 1})
_MOST: Final = 1 << 63
_UNKNOWN_MEGAHERTZ: Final = 65535
_DURATION: Final = re.compile(
    r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12}(?:\.\d{1,12})?)S)?)?\Z", re.ASCII
)
"""As DSP0266 9.5.6 writes it."""
_NO_REASONS: Final = frozenset({"", "na", "n/a", "none", "idle"})
_REASON: Final = re.compile(r"[A-Za-z0-9_. /-]{1,64}\Z", re.ASCII)
_MOST_REASONS: Final = 64
_CORES: Final = {
    "CorrectableCoreErrorCount": "core_errors_corrected_total",
    "UncorrectableCoreErrorCount": "core_errors_uncorrected_total",
}
_CACHES: Final = {
    "CorrectableECCErrorCount": "cache_ecc_corrected_total",
    "UncorrectableECCErrorCount": "cache_ecc_uncorrected_total",
}
_MEMORY: Final = {
    "CorrectableECCErrorCount": "ecc_corrected_total",
    "UncorrectableECCErrorCount": "ecc_uncorrected_total",
}
_REMAPPED: Final = {
    "CorrectableRowRemappingCount": "rows_remapped_corrected_total",
    "UncorrectableRowRemappingCount": "rows_remapped_uncorrected_total",
}
_ALARMS: Final = {
    "CorrectableECCError": "alarm_corrected",
    "UncorrectableECCError": "alarm_uncorrected",
    "Temperature": "alarm_temperature",
}
_PORT: Final = {
    "RXBytes": "rx_bytes_total",
    "TXBytes": "tx_bytes_total",
    "RXErrors": "rx_errors_total",
    "TXErrors": "tx_errors_total",
}
_NETWORK: Final = {
    "RXFrames": "rx_frames_total",
    "TXFrames": "tx_frames_total",
    "RXDiscards": "rx_discards_total",
    "TXDiscards": "tx_discards_total",
    "RXFCSErrors": "rx_fcs_errors_total",
}
_NVLINK: Final = {
    "DataCRCCount": "nvlink_data_crc_errors_total",
    "FlitCRCCount": "nvlink_flit_crc_errors_total",
    "RecoveryCount": "nvlink_recoveries_total",
    "ReplayCount": "nvlink_replays_total",
}
Fields = dict[str, FieldValue]


def processor_fields(metrics: Resource, environment: Resource, numbers: Numbers) -> Fields:
    """Give the columns of `bmc_processor`; {} when nothing is said.

    Args:
        metrics: Its ProcessorMetrics; {} when it has none, as of the next.
        environment: Its EnvironmentMetrics.
        numbers: What the sensors read.
    """
    power, heat = excerpt(environment, "PowerWatts", numbers), excerpt(environment, "TemperatureCelsius", numbers)
    reasons = _nvidia(metrics).get("ThrottleReasons")
    return _told(
        {
            "bandwidth_ratio": _share(metrics, "BandwidthPercent"),
            "frequency_hertz": _hertz(metrics),
            "temperature_celsius": _celsius(heat if heat is not None else number(metrics.get("TemperatureCelsius"))),
            "throttling_margin_celsius": _celsius(number(metrics.get("ThrottlingCelsius"))),
            "power_watts": _least(power if power is not None else number(metrics.get("ConsumedPowerWatt"))),
            "power_limit_watts": _least(number(member(environment, "PowerLimitWatts").get("SetPoint"))),
            "energy_joules_total": _least(excerpt(environment, "EnergyJoules", numbers)),
            "core_volts": _least(excerpt(metrics, "CoreVoltage", numbers)),
            "power_throttled_seconds_total": seconds(metrics.get("PowerLimitThrottleDuration")),
            "thermal_throttled_seconds_total": seconds(metrics.get("ThermalLimitThrottleDuration")),
            "throttle_reasons": _reasons(reasons) if isinstance(reasons, list) else None,
            **_counts(member(member(metrics, "CacheMetricsTotal"), "LifeTime"), _CACHES),
            **_counts(metrics, _CORES),
            **_counts(member(metrics, "PCIeErrors"), PCIE_ERRORS),
        }
    )


def memory_fields(metrics: Resource) -> Fields:
    """Give the columns of `bmc_memory`; {} when nothing is said."""
    alarms = member(member(metrics, "HealthData"), "AlarmTrips")
    raised = {field: alarms.get(name) for name, field in _ALARMS.items()}
    return _told(
        {
            "bandwidth_ratio": _share(metrics, "BandwidthPercent"),
            "used_ratio": _share(metrics, "CapacityUtilizationPercent"),
            "frequency_hertz": _hertz(metrics),
            "temperature_celsius": _celsius(number(metrics.get("TemperatureCelsius"))),
            **_counts(member(metrics, "LifeTime"), _MEMORY),
            **_counts(member(_nvidia(metrics), "RowRemapping"), _REMAPPED),
            **{field: value for field, value in raised.items() if isinstance(value, bool)},
        }
    )


def port_fields(metrics: Resource) -> Fields:
    """Give the columns of `bmc_port`; {} when nothing is said."""
    return _told(
        {
            **_counts(metrics, _PORT),
            **_counts(member(metrics, "Networking"), _NETWORK),
            **_counts(member(_nvidia(metrics), "NVLinkErrors"), _NVLINK),
            **_counts(member(metrics, "PCIeErrors"), PCIE_ERRORS),
        }
    )


def rows(measurement: str, fields: Fields, device: str, attribute: str, name: str) -> Iterator[Reading]:
    """Yield the row, if anything was said."""
    if fields:
        yield Reading(measurement, fields, device, {attribute: name})


def seconds(value: object) -> float | None:
    """Give the seconds of a duration (`PT0.5S`); None for what is none."""
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, rest = (float(one or 0) for one in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _counts(resource: Resource, names: Mapping[str, str]) -> Fields:
    return {field: _count(resource.get(name)) for name, field in names.items()}


def _count(value: object) -> int | None:
    found = value if isinstance(value, int) and not isinstance(value, bool) else number(value)
    if found is None or not 0 <= found < _MOST or found != int(found) or found in _ALL_ONES:
        return None
    return int(found)


def _share(resource: Resource, name: str) -> float | None:
    found = number(resource.get(name))
    return found / 100 if found is not None and 0 <= found <= 100 else None  # percent


def _hertz(resource: Resource) -> float | None:
    found = number(resource.get("OperatingSpeedMHz"))
    return found * _MEGA if found is not None and 0 < found < _UNKNOWN_MEGAHERTZ else None


def _celsius(found: float | None) -> float | None:
    return found if found is not None and -100 <= found <= 300 else None  # what no part outlives


def _least(found: float | None) -> float | None:
    return found if found is not None and found >= 0 else None


def _reasons(said: list[object]) -> str:
    words = {one.strip() for one in said[:_MOST_REASONS] if isinstance(one, str)}
    return ",".join(sorted(one for one in words if _REASON.match(one) and one.lower() not in _NO_REASONS)) or "none"


def _nvidia(resource: Resource) -> Resource:
    return member(member(resource, "Oem"), "Nvidia")


def _told(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}

"""Rows of a drive: its logs in base units."""

from collections.abc import Iterator, Mapping
from typing import Final

from collectors.metrics_nvme import DATA_UNIT_BYTES
from collectors.nvme import logs, ocp
from collectors.nvme.sysfs import Temperature
from schemas.rows import FieldValue, Reading

_BEYOND: Final = 1 << 64
"""What no column holds."""
_MINUTE, _HOUR = 60, 3600
_WARNINGS: Final = ("spare", "temperature", "reliability", "read_only", "backup", "persistent_memory")
"""By bit of the critical warning."""
COMPOSITE: Final = "Composite"


def smart_fields(smart: logs.Smart) -> dict[str, FieldValue]:
    """Give the fields of `nvme` that the SMART log tells. A counter beyond 64 bits is spelled out in a text."""
    counters: dict[str, int | None] = {
        "read_bytes_total": smart.data_units_read * DATA_UNIT_BYTES or None,
        "written_bytes_total": smart.data_units_written * DATA_UNIT_BYTES or None,
        "read_commands_total": smart.read_commands,
        "write_commands_total": smart.write_commands,
        "busy_seconds_total": smart.busy_minutes * _MINUTE,
        "power_on_seconds_total": smart.power_on_hours * _HOUR,
        "power_cycles_total": smart.power_cycles,
        "unsafe_shutdowns_total": smart.unsafe_shutdowns,
        "media_errors_total": smart.media_errors,
        "error_log_entries_total": smart.error_log_entries,
    }
    beyond = [f"{name}={count}" for name, count in counters.items() if count is not None and count >= _BEYOND]
    (lights, heavies), (light_seconds, heavy_seconds) = smart.throttles, smart.throttle_seconds
    return {
        "critical_warning": smart.critical_warning,
        **{f"warning_{name}": bool(smart.critical_warning >> bit & 1) for bit, name in enumerate(_WARNINGS)},
        "group_warning": smart.groups_warning,
        "temperature_celsius": smart.temperature_celsius,
        "available_spare_ratio": smart.spare_percent / 100,
        "spare_threshold_ratio": smart.threshold_percent / 100,
        "used_ratio": smart.used_percent / 100,
        **{name: count if count is not None and count < _BEYOND else None for name, count in counters.items()},
        "hot_seconds_total": smart.warning_minutes * _MINUTE,
        "critical_hot_seconds_total": smart.critical_minutes * _MINUTE,
        "light_throttles_total": lights,
        "heavy_throttles_total": heavies,
        "light_throttle_seconds_total": light_seconds,
        "heavy_throttle_seconds_total": heavy_seconds,
        "beyond_64_bits": " ".join(beyond) or None,
    }


def self_test_fields(log: logs.SelfTest) -> dict[str, FieldValue]:
    """Give the fields of `nvme` that the self-test log tells."""
    return {
        "self_test": log.running,
        "self_test_ratio": None if log.percent is None else log.percent / 100,
        "self_test_result": log.tests[0].result if log.tests else None,
    }


def sanitize_fields(log: logs.Sanitize) -> dict[str, FieldValue]:
    """Give the fields of `nvme` that the sanitize log tells."""
    return {"sanitize": log.status, "sanitize_ratio": log.progress}


def sensor_rows(device: str, smart: logs.Smart) -> Iterator[Reading]:
    """Give a row for each sensor that is there."""
    for number, celsius in enumerate(smart.sensors, 1):
        if celsius is not None:
            yield Reading("nvme_sensor", {"temperature_celsius": celsius}, device, {"sensor": str(number)})


def kernel_rows(device: str, state: str, found: list[Temperature]) -> Iterator[Reading]:
    """Give the rows of a drive that may not be asked: what the kernel shows to anybody."""
    composite = next((one.celsius for one in found if one.label in (COMPOSITE, "")), None)
    yield Reading("nvme", {"state": state or None, "temperature_celsius": composite}, device)
    for one in found:
        word, _, number = one.label.rpartition(" ")
        if word == "Sensor" and number.isdecimal():
            yield Reading("nvme_sensor", {"temperature_celsius": one.celsius}, device, {"sensor": number})


def ocp_row(device: str, page: bytes) -> Reading | None:
    """Give the row of the OCP log; None when the page is another maker's own."""
    fields = ocp.parse_ocp(page)
    return None if fields is None else Reading("nvme_ocp", _held(fields), device)


def _held(fields: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
    """Leave out what no column holds; no drive that tells the truth has that."""
    return {name: None if type(value) is int and value >= _BEYOND else value for name, value in fields.items()}

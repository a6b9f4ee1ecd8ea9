"""What is measured of NVMe drives, whoever reads them: the declarations that `nvme` and `simulated` share.

One row for each controller. Source: NVM Express Base Specification 2.0, 5.16.1.3 (SMART / Health Information log).
"""

from functools import partial
from typing import Final

from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level

DATA_UNIT_BYTES: Final = 512_000
"""Bytes of one data unit of the log: a thousand times 512, rounded up by the drive."""
WARNING_SPARE: Final = 0x01
"""Bit of `nvme.critical_warning`: the spare blocks fell below the drive's threshold."""
WARNING_TEMPERATURE: Final = 0x02
"""Bit: the temperature is outside of the drive's limits."""
WARNING_RELIABILITY: Final = 0x04
"""Bit: media errors or internal errors made the drive unreliable."""

_metric = partial(
    MetricSpec,
    unit=Unit.COUNT,
    kind=Kind.GAUGE,
    type=ValueType.INT,
    level=Level.STANDARD,
    category=Category.USAGE,
)
_count = partial(_metric, kind=Kind.COUNTER)
_errors = partial(_count, category=Category.ERROR)

NVME_METRICS: Final[tuple[MetricSpec, ...]] = (
    _metric(
        name="nvme.critical_warning",
        kind=Kind.STATE,
        level=Level.ESSENTIAL,
        category=Category.ERROR,
        meaning="The drive's warnings as bits: 1 spare, 2 temperature, 4 reliability, 8 read only, 16 backup; 0 none.",
        source="SMART log byte 0",
    ),
    _errors(
        name="nvme.media_errors_total",
        level=Level.ESSENTIAL,
        meaning="Times that data could not be read back intact, over the life of the drive.",
        source="SMART log bytes 160 to 175",
    ),
    _metric(
        name="nvme.available_spare_ratio",
        unit=Unit.RATIO,
        type=ValueType.FLOAT,
        level=Level.ESSENTIAL,
        category=Category.ERROR,
        meaning="Spare blocks that are left, 0 to 1.",
        source="SMART log byte 3",
    ),
    _metric(
        name="nvme.temperature_celsius",
        unit=Unit.CELSIUS,
        type=ValueType.FLOAT,
        category=Category.ENVIRONMENT,
        meaning="Composite temperature; absent when the drive reports 0 kelvin.",
        source="SMART log bytes 1 and 2",
    ),
    _metric(
        name="nvme.used_ratio",
        unit=Unit.RATIO,
        type=ValueType.FLOAT,
        meaning="Share of the drive's rated endurance that is used up; may exceed 1, and stops at 2.55.",
        source="SMART log byte 5",
    ),
    _count(
        name="nvme.read_bytes_total",
        unit=Unit.BYTES,
        meaning="Bytes that the host read, in steps of 512,000; absent when the drive reports 0.",
        source="SMART log bytes 32 to 47",
    ),
    _count(
        name="nvme.written_bytes_total",
        unit=Unit.BYTES,
        meaning="Bytes that the host wrote, in steps of 512,000; absent when the drive reports 0.",
        source="SMART log bytes 48 to 63",
    ),
    _count(
        name="nvme.read_commands_total",
        meaning="Read commands that the drive completed.",
        source="SMART log bytes 64 to 79",
    ),
    _count(
        name="nvme.write_commands_total",
        meaning="Write commands that the drive completed.",
        source="SMART log bytes 80 to 95",
    ),
    _count(
        name="nvme.busy_seconds_total",
        unit=Unit.SECONDS,
        meaning="Time that the controller was busy with commands, in steps of a minute.",
        source="SMART log bytes 96 to 111",
    ),
    _count(
        name="nvme.power_on_seconds_total",
        unit=Unit.SECONDS,
        meaning="Time that the drive was powered, in steps of an hour; may leave out time in low power states.",
        source="SMART log bytes 128 to 143",
    ),
    _count(
        name="nvme.power_cycles_total",
        meaning="Times that the drive was powered up.",
        source="SMART log bytes 112 to 127",
    ),
    _errors(
        name="nvme.unsafe_shutdowns_total",
        meaning="Times that power went away without notice.",
        source="SMART log bytes 144 to 159",
    ),
    _count(
        name="nvme.error_log_entries_total",
        level=Level.DETAILED,
        category=Category.ERROR,
        meaning="Entries ever made in the error log; grows from harmless probes as well.",
        source="SMART log bytes 176 to 191",
    ),
)
"""The columns of the measurement `nvme`; the device is the controller."""

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

_environment = partial(_metric, category=Category.ENVIRONMENT)
_word = partial(
    _metric, unit=Unit.NONE, kind=Kind.STATE, type=ValueType.STR, level=Level.DETAILED, category=Category.ERROR
)
_flag = partial(_word, type=ValueType.BOOL)


def _warning(name: str, bit: int, meaning: str) -> MetricSpec:
    return _flag(name=f"nvme.warning_{name}", meaning=meaning, source=f"SMART log byte 0, bit {bit}")


NVME_DRIVE_METRICS: Final[tuple[MetricSpec, ...]] = (
    _word(
        name="nvme.state",
        level=Level.ESSENTIAL,
        meaning="What the kernel can do with the controller: `live`, `resetting`, `connecting`, `deleting`, `dead`.",
        source="/sys/class/nvme/*/state",
    ),
    _metric(
        name="nvme.spare_threshold_ratio",
        unit=Unit.RATIO,
        type=ValueType.FLOAT,
        level=Level.DETAILED,
        category=Category.ERROR,
        meaning="Below this share of spare blocks the drive warns.",
        source="SMART log byte 4",
    ),
    _warning("spare", 0, "Whether the spare blocks fell below the threshold."),
    _warning("temperature", 1, "Whether a temperature is outside of its limits."),
    _warning("reliability", 2, "Whether media or internal errors made the drive unreliable."),
    _warning("read_only", 3, "Whether the drive takes no more writes."),
    _warning("backup", 4, "Whether what keeps volatile memory through a power loss has failed."),
    _warning("persistent_memory", 5, "Whether persistent memory became read only or unreliable."),
    _metric(
        name="nvme.group_warning",
        kind=Kind.STATE,
        level=Level.DETAILED,
        category=Category.ERROR,
        meaning="Warnings of all endurance groups together, bits as of `critical_warning` but for 2; 0 none.",
        source="SMART log byte 6",
    ),
    _count(
        name="nvme.hot_seconds_total",
        unit=Unit.SECONDS,
        category=Category.ENVIRONMENT,
        meaning="Time at or above the warning temperature, in steps of a minute.",
        source="SMART log bytes 192 to 195",
    ),
    _count(
        name="nvme.critical_hot_seconds_total",
        unit=Unit.SECONDS,
        category=Category.ENVIRONMENT,
        meaning="Time at or above the critical temperature, in steps of a minute.",
        source="SMART log bytes 196 to 199",
    ),
    *(
        _count(
            name=f"nvme.{word}_throttle{what}",
            unit=unit,
            level=Level.DETAILED,
            category=Category.ENVIRONMENT,
            meaning=meaning,
            source=f"SMART log bytes {at} to {at + 3}",
        )
        for word, what, unit, at, meaning in (
            ("light", "s_total", Unit.COUNT, 216, "Times that the drive slowed down a little because of heat."),
            ("heavy", "s_total", Unit.COUNT, 220, "Times that the drive slowed down at any cost because of heat."),
            ("light", "_seconds_total", Unit.SECONDS, 224, "Time slowed down a little because of heat."),
            ("heavy", "_seconds_total", Unit.SECONDS, 228, "Time slowed down at any cost because of heat."),
        )
    ),
    _word(
        name="nvme.self_test",
        category=Category.USAGE,
        meaning="The self-test that runs: `none`, `short`, `extended`, `vendor`; absent without such a log.",
        source="self-test log byte 0",
    ),
    _metric(
        name="nvme.self_test_ratio",
        unit=Unit.RATIO,
        type=ValueType.FLOAT,
        level=Level.DETAILED,
        meaning="How far the self-test is, 0 to 1; absent when none runs.",
        source="self-test log byte 1",
    ),
    _word(
        name="nvme.self_test_result",
        meaning="How the newest self-test ended: `passed`, `failed`, `aborted-by-reset` ...; absent: none ever ran.",
        source="self-test log byte 4",
    ),
    _word(
        name="nvme.sanitize",
        category=Category.USAGE,
        meaning="The last sanitize: `never`, `completed`, `running`, `failed`, `completed-no-deallocate`.",
        source="sanitize status log bytes 2 and 3",
    ),
    _metric(
        name="nvme.sanitize_ratio",
        unit=Unit.RATIO,
        type=ValueType.FLOAT,
        level=Level.DETAILED,
        meaning="How far the sanitize is, 0 to 1; absent when none runs.",
        source="sanitize status log bytes 0 and 1",
    ),
    _metric(
        name="nvme.firmware_slot",
        kind=Kind.STATE,
        level=Level.DETAILED,
        meaning="The firmware slot that runs, 1 to 7.",
        source="firmware slot log byte 0",
    ),
    _word(
        name="nvme.beyond_64_bits",
        category=Category.USAGE,
        meaning="Counters that 64 bits do not hold, exact: `read_commands_total=18446744073709551616 ...`; then the "
        "column of that name is absent. Absent on all drives that tell the truth.",
        source="SMART log bytes 32 to 191",
    ),
)
"""What only `nvme` reads of a controller, in the same measurement."""

NVME_SENSOR_METRICS: Final[tuple[MetricSpec, ...]] = (
    _environment(
        name="nvme_sensor.temperature_celsius",
        unit=Unit.CELSIUS,
        type=ValueType.FLOAT,
        level=Level.DETAILED,
        meaning="Temperature at one place in the drive; which, the maker knows.",
        source="SMART log bytes 200 to 215",
        attributes=("sensor",),
    ),
)
"""The columns of the measurement `nvme_sensor`; a row for each sensor, by number from 1."""

_ocp = partial(_metric, level=Level.DETAILED, source="OCP log C0h")
_ocp_count = partial(_ocp, kind=Kind.COUNTER)
_ocp_errors = partial(_ocp_count, category=Category.ERROR)
_ocp_ratio = partial(_ocp, unit=Unit.RATIO, type=ValueType.FLOAT)

NVME_OCP_METRICS: Final[tuple[MetricSpec, ...]] = (
    _ocp_count(
        name="nvme_ocp.physical_written_bytes_total",
        unit=Unit.BYTES,
        meaning="Bytes written to the flash; by `nvme.written_bytes_total` it is the write amplification.",
    ),
    _ocp_count(name="nvme_ocp.physical_read_bytes_total", unit=Unit.BYTES, meaning="Bytes read from the flash."),
    _ocp(name="nvme_ocp.bad_user_blocks", category=Category.ERROR, meaning="Bad blocks of the part for users."),
    _ocp(name="nvme_ocp.bad_system_blocks", category=Category.ERROR, meaning="Bad blocks of the drive's own part."),
    _ocp_errors(name="nvme_ocp.recovered_total", meaning="Times that data was recovered from its parity (XOR)."),
    _ocp_errors(name="nvme_ocp.uncorrectable_reads_total", meaning="Reads that no correction helped."),
    _ocp_errors(name="nvme_ocp.soft_ecc_errors_total", meaning="Reads that the first correction did not help."),
    _ocp_errors(name="nvme_ocp.end_to_end_detected_total", meaning="Errors that end-to-end protection found."),
    _ocp_errors(name="nvme_ocp.end_to_end_corrected_total", meaning="Those of them that were corrected."),
    _ocp_ratio(name="nvme_ocp.system_used_ratio", meaning="Endurance of the drive's own part that is used up."),
    _ocp_count(name="nvme_ocp.refreshes_total", meaning="Blocks rewritten to keep their data."),
    _ocp(name="nvme_ocp.most_erased", meaning="Erasures of the block that was erased most."),
    _ocp(name="nvme_ocp.least_erased", meaning="Erasures of the block that was erased least."),
    _ocp_count(
        name="nvme_ocp.throttles_total",
        category=Category.ENVIRONMENT,
        meaning="Times that the drive slowed down because of heat; stays at 255.",
    ),
    _ocp(
        name="nvme_ocp.throttle_state",
        kind=Kind.STATE,
        category=Category.ENVIRONMENT,
        meaning="How much it is slowed down: 0 not, 1 and 2 by its two limits, 3 it shuts down.",
    ),
    _ocp_errors(name="nvme_ocp.pcie_corrected_errors_total", meaning="PCIe errors that were corrected."),
    _ocp_errors(name="nvme_ocp.incomplete_shutdowns_total", meaning="Shutdowns that lost something."),
    _ocp_ratio(name="nvme_ocp.free_ratio", meaning="Blocks that are free, 0 to 1."),
    _ocp_ratio(
        name="nvme_ocp.capacitor_ratio",
        level=Level.STANDARD,
        category=Category.ERROR,
        meaning="Energy that is kept for a power loss by what is needed: below 1 data may be lost; absent without one.",
    ),
    _ocp_count(name="nvme_ocp.unaligned_total", meaning="Commands that were not aligned to the drive's pages."),
    _ocp_count(
        name="nvme_ocp.power_loss_protections_total", meaning="Times that the energy for a power loss was used."
    ),
    _ocp(name="nvme_ocp.endurance_bytes", unit=Unit.BYTES, meaning="Bytes that may be written over the drive's life."),
    _ocp_errors(name="nvme_ocp.link_retrainings_total", meaning="Times that the PCIe link was trained anew."),
)
"""The columns of the measurement `nvme_ocp`, of drives that follow the OCP specification."""

"""Log pages that the specification defines, decoded byte for byte.

Source: NVM Express Base Specification 2.0, 5.16.1: errors (01h), SMART (02h), firmware slots (03h), self-test (06h),
sanitize (81h).
"""

import struct
from typing import Final

import msgspec

from collectors.nvme.identify import celsius, text

ERRORS, SMART, FIRMWARE, SELF_TEST, SANITIZE = 0x01, 0x02, 0x03, 0x06, 0x81
SMART_BYTES: Final = 512
ERROR_BYTES: Final = 64
FIRMWARE_BYTES: Final = 512
SELF_TEST_BYTES: Final = 564
SANITIZE_BYTES: Final = 512
_SENSORS: Final = 8
_TESTS, _TEST_BYTES = 20, 28
_UNUSED: Final = 0xF
_UNKNOWN: Final = 0xFFFFFFFF
_PROGRESS: Final = 65536

OPERATIONS: Final = {0: "none", 1: "short", 2: "extended", 0xE: "vendor"}
"""Kinds of self-test, by code."""
RESULTS: Final = {
    0: "passed",
    1: "aborted-by-command",
    2: "aborted-by-reset",
    3: "aborted-by-namespace-removal",
    4: "aborted-by-format",
    5: "failed-fatally",
    6: "failed-unknown-segment",
    7: "failed",
    8: "aborted",
    9: "aborted-by-sanitize",
}
"""How a self-test ended, by code."""
FAILED: Final = frozenset({"failed-fatally", "failed-unknown-segment", "failed"})
_STATUS: Final = {0: "never", 1: "completed", 2: "running", 3: "failed", 4: "completed-no-deallocate"}
_METHODS: Final = {2: "block-erase", 3: "overwrite", 4: "crypto-erase"}


class Smart(msgspec.Struct, frozen=True, kw_only=True):
    """The SMART / health log, in the drive's own units. Counters are exact, to 128 bits."""

    critical_warning: int
    temperature_celsius: float | None
    spare_percent: int
    threshold_percent: int
    used_percent: int
    groups_warning: int
    """Bits of endurance groups together."""
    data_units_read: int
    data_units_written: int
    read_commands: int
    write_commands: int
    busy_minutes: int
    power_cycles: int
    power_on_hours: int
    unsafe_shutdowns: int
    media_errors: int
    error_log_entries: int
    warning_minutes: int
    critical_minutes: int
    sensors: tuple[float | None, ...]
    """In degrees Celsius; None for a sensor that is not there."""
    throttles: tuple[int, int]
    """Times that the drive went below its first and second thermal limit by itself."""
    throttle_seconds: tuple[int, int]


class ErrorEntry(msgspec.Struct, frozen=True):
    """One entry of the error log."""

    number: int
    """Counts over the life of the drive, from 1."""
    queue: int
    command: int
    status: int
    """Status code type and code, 11 bits."""
    location: int
    lba: int
    nsid: int


class Firmware(msgspec.Struct, frozen=True):
    """The firmware slots."""

    active: int
    next: int | None
    """The slot that a reset makes active; None when it changes nothing."""
    revisions: dict[int, str]
    """By slot, 1 to 7; empty slots are left out."""


class Test(msgspec.Struct, frozen=True):
    """One self-test that is over."""

    kind: str
    result: str
    power_on_hours: int
    nsid: int | None = None
    lba: int | None = None


class SelfTest(msgspec.Struct, frozen=True):
    """The self-test log."""

    running: str
    """Kind of the test that runs; `none`."""
    percent: int | None
    """How far it is; None when none runs."""
    tests: tuple[Test, ...]
    """Newest first."""


class Sanitize(msgspec.Struct, frozen=True):
    """The sanitize status log."""

    status: str
    """`never`, `completed`, `running`, `failed`, `completed-no-deallocate`; `unknown` for what no drive should say."""
    method: str
    """`block-erase`, `crypto-erase`, `overwrite`; "" when there was none."""
    progress: float | None
    """0 to 1 while it runs; None else."""
    data_written_since: bool
    seconds: dict[str, int]
    """By method, how long the drive thinks that it takes; methods of which it does not say so are left out."""


def parse_smart(data: bytes) -> Smart | None:
    """Read log 02h; None for less than one."""
    if len(data) < SMART_BYTES:
        return None
    warning, kelvin, spare, threshold, used, groups = struct.unpack_from("<BHBBBB", data, 0)
    long = [int.from_bytes(data[at : at + 16], "little") for at in range(32, 192, 16)]
    above = struct.unpack_from("<II", data, 192)
    kelvins = struct.unpack_from(f"<{_SENSORS}H", data, 200)
    light, heavy, light_seconds, heavy_seconds = struct.unpack_from("<IIII", data, 216)
    return Smart(
        critical_warning=warning,
        temperature_celsius=celsius(kelvin),
        spare_percent=spare,
        threshold_percent=threshold,
        used_percent=used,
        groups_warning=groups,
        data_units_read=long[0],
        data_units_written=long[1],
        read_commands=long[2],
        write_commands=long[3],
        busy_minutes=long[4],
        power_cycles=long[5],
        power_on_hours=long[6],
        unsafe_shutdowns=long[7],
        media_errors=long[8],
        error_log_entries=long[9],
        warning_minutes=above[0],
        critical_minutes=above[1],
        sensors=tuple(celsius(one) for one in kelvins),
        throttles=(light, heavy),
        throttle_seconds=(light_seconds, heavy_seconds),
    )


def parse_errors(data: bytes) -> list[ErrorEntry]:
    """Read log 01h, newest first; entries that were never made, and half ones, are left out."""
    found = []
    for at in range(0, len(data) - ERROR_BYTES + 1, ERROR_BYTES):
        number, queue, command, status, location, lba, nsid = struct.unpack_from("<QHHHHQI", data, at)
        if number:
            found.append(ErrorEntry(number, queue, command, status >> 1 & 0x7FF, location, lba, nsid))
    return sorted(found, key=lambda entry: -entry.number)


def parse_firmware(data: bytes) -> Firmware | None:
    """Read log 03h; None for less than its first 64 bytes."""
    if len(data) < 64:
        return None
    revisions = {slot: text(data[8 * slot : 8 * slot + 8]) for slot in range(1, 8)}
    active, later = data[0] & 7, data[0] >> 4 & 7
    return Firmware(active, later or None, {slot: words for slot, words in revisions.items() if words})


def parse_self_test(data: bytes) -> SelfTest | None:
    """Read log 06h; None for less than one."""
    if len(data) < SELF_TEST_BYTES:
        return None
    running = data[0] & 0xF
    tests = [_test(data[at : at + _TEST_BYTES]) for at in range(4, 4 + _TESTS * _TEST_BYTES, _TEST_BYTES)]
    percent = data[1] & 0x7F if running else None
    return SelfTest(OPERATIONS.get(running, "unknown"), percent, tuple(one for one in tests if one is not None))


def _test(data: bytes) -> Test | None:
    if data[0] & 0xF == _UNUSED or not data[0] >> 4:
        return None
    hours, nsid, lba = struct.unpack_from("<QIQ", data, 4)
    return Test(
        OPERATIONS.get(data[0] >> 4, "unknown"),
        RESULTS.get(data[0] & 0xF, "unknown"),
        hours,
        nsid if data[2] & 1 else None,
        lba if data[2] & 2 else None,
    )


def parse_sanitize(data: bytes) -> Sanitize | None:
    """Read log 81h; None for less than its first 32 bytes."""
    if len(data) < 32:
        return None
    progress, status, action, *seconds = struct.unpack_from("<HHIIII", data, 0)
    word = _STATUS.get(status & 7, "unknown")
    times = dict(zip(("overwrite", "block-erase", "crypto-erase"), seconds, strict=True))
    return Sanitize(
        word,
        "" if word == "never" else _METHODS.get(action & 7, ""),
        progress / _PROGRESS if word == "running" else None,
        not status & 0x100,
        {method: time for method, time in times.items() if time not in (0, _UNKNOWN)},
    )

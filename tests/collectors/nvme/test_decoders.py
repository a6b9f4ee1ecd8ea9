"""What drives answer, decoded: to the byte, exact to 128 bits, and never wrong on garbage."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.nvme import logs
from collectors.nvme.identify import parse_active_list, parse_controller, parse_namespace, parse_uuid
from collectors.nvme.ocp import parse_ocp
from collectors.nvme.readings import smart_fields
from tests.collectors.nvme import made
from tests.needs import recorded_data

RECORDED = (
    "INTEL_SSDPE2KE016T8-nvme0",
    "INTEL_SSDPF2KX038TZ-nvme4",
    "Micron_7300_MTFDHBE3T8TDF-nvme3",
    "Micron_7450_MTFDKCC3T2TFS-nvme1",
    "SAMSUNG_MZQL21T9HCJR-00A07-nvme0",
)
"""Drives of other people, as smartctl printed them."""
LONG = ("units_read", "units_written", "reads", "writes", "busy", "cycles", "hours", "unsafe", "media", "errors")


def test_seed_drive_is_its_sectors_by_its_format_and_not_by_512() -> None:
    """R000-4."""
    found = parse_namespace(made.namespace())
    assert found is not None
    assert (937_684_566, 3_840_755_982_336) == (found.sectors, found.capacity_bytes)
    assert ("4096+0", ["512+0", "4096+0", "4096+8"]) == (
        found.format and found.format.words,
        [one.words for one in found.formats],
    )


def test_formats_beyond_sixteen_are_numbered_by_more_bits() -> None:
    many = tuple((0, 9 if number != 18 else 12, 0) for number in range(20))
    found = parse_namespace(made.namespace(flbas=2 | 1 << 5, formats=many))
    assert found is not None
    assert found.format is not None
    assert 4096 == found.format.sector_bytes
    few = parse_namespace(made.namespace(flbas=1 | 1 << 5))
    assert few is not None
    assert few.format is not None
    assert "4096+0" == few.format.words, "with few formats the upper bits mean nothing"


def test_format_that_is_none_is_told_as_none() -> None:
    found = parse_namespace(made.namespace(flbas=3, formats=((0, 9, 0), (0, 0, 0), (0, 12, 0), (0, 0, 0))))
    assert found is not None
    assert (None, None, 2) == (found.format, found.capacity_bytes, len(found.formats))


@given(st.lists(st.integers(0, 2**128 - 1), min_size=10, max_size=10))
def test_counters_are_exact_to_128_bits(counts: list[int]) -> None:
    told = dict(zip(LONG, counts, strict=True))
    found = logs.parse_smart(made.smart(**told))
    assert found is not None
    assert counts == [
        *(found.data_units_read, found.data_units_written, found.read_commands, found.write_commands),
        *(found.busy_minutes, found.power_cycles, found.power_on_hours, found.unsafe_shutdowns),
        *(found.media_errors, found.error_log_entries),
    ]
    fields = smart_fields(found)
    spelled = dict(word.split("=") for word in str(fields["beyond_64_bits"] or "").split())
    for name, factor, count in (
        ("read_bytes_total", 512_000, told["units_read"]),
        ("read_commands_total", 1, told["reads"]),
        ("power_on_seconds_total", 3600, told["hours"]),
    ):
        value = count * factor
        if value >= 2**64:
            assert (None, str(value)) == (fields[name], spelled[name])
        elif value or factor != 512_000:
            assert value == fields[name]
        else:
            assert fields[name] is None, "0 data units are not reported"


def test_temperatures_are_whole_degrees_and_absent_at_0_kelvin() -> None:
    found = logs.parse_smart(made.smart(kelvin=323))
    assert found is not None
    assert (50.0, (38.0, None, 33.0)) == (found.temperature_celsius, found.sensors[:3])
    silent = logs.parse_smart(made.smart(kelvin=0))
    assert silent is not None
    assert silent.temperature_celsius is None


@pytest.mark.parametrize("name", RECORDED)
def test_values_of_recorded_drives_come_out_as_smartctl_printed_them(name: str) -> None:
    told = json.loads((recorded_data() / "nvme" / f"{name}.smartctl.json").read_text())[
        "nvme_smart_health_information_log"
    ]
    sensors = {f"sensor{at}": kelvin + 273 for at, kelvin in enumerate(told.get("temperature_sensors", [])[:3], 1)}
    sensors = {"sensor1": 0, "sensor2": 0, "sensor3": 0} | sensors
    page = made.smart(
        warning=told["critical_warning"],
        kelvin=told["temperature"] + 273,
        spare=told["available_spare"],
        threshold=told["available_spare_threshold"],
        used=told["percentage_used"],
        units_read=told["data_units_read"],
        units_written=told["data_units_written"],
        reads=told["host_reads"],
        writes=told["host_writes"],
        busy=told["controller_busy_time"],
        cycles=told["power_cycles"],
        hours=told["power_on_hours"],
        unsafe=told["unsafe_shutdowns"],
        media=told["media_errors"],
        errors=told["num_err_log_entries"],
        **sensors,
    )
    smart = logs.parse_smart(page)
    assert smart is not None
    fields = smart_fields(smart)
    assert told["temperature"] == fields["temperature_celsius"]
    assert told["data_units_written"] * 512_000 == (fields["written_bytes_total"] or 0)
    assert told["power_on_hours"] * 3600 == fields["power_on_seconds_total"]
    assert told["critical_warning"] == fields["critical_warning"]
    assert told.get("temperature_sensors", [])[:3] == [one for one in smart.sensors[:3] if one is not None]


def test_controller_tells_what_it_can_do() -> None:
    found = parse_controller(made.controller())
    assert found is not None
    assert ("144d", "S64HNE0", "GDC5302Q", "1.4", 6) == (
        *(found.vendor_id, found.serial, found.firmware, found.version, found.controller_id),
    )
    assert (("block-erase", "crypto-erase"), 77.0, 85.0) == (
        *(found.sanitize, found.warning_celsius, found.critical_celsius),
    )
    assert (3_840_755_982_336, 64, 3, True) == (
        *(found.capacity_bytes, found.error_log_entries, found.firmware_slots, found.format_crypto_erase),
    )


def test_logs_tell_what_happened() -> None:
    test = logs.parse_self_test(made.self_test_log((2, 7, 40), (1, 0, 30), running=1, percent=60))
    assert test is not None
    assert ("short", 60, ["failed", "passed"]) == (test.running, test.percent, [one.result for one in test.tests])
    assert (99, 1, None) == (test.tests[0].lba, test.tests[0].nsid, test.tests[1].lba)
    sanitize = logs.parse_sanitize(made.sanitize_log(1, 2, untouched=True))
    assert sanitize is not None
    assert ("completed", "block-erase", False) == (sanitize.status, sanitize.method, sanitize.data_written_since)
    assert {"overwrite": 3600, "block-erase": 60} == sanitize.seconds
    running = logs.parse_sanitize(made.sanitize_log(2, 4, 0x8000))
    assert running is not None
    assert ("running", "crypto-erase", 0.5, True) == (
        *(running.status, running.method, running.progress, running.data_written_since),
    )
    firmware = logs.parse_firmware(made.firmware_log(2, 3, s2="B1", s3="B2"))
    assert logs.Firmware(2, 3, {2: "B1", 3: "B2"}) == firmware
    errors = logs.parse_errors(made.error_log((7, 0x281), (6, 0x002)))
    assert [(7, 0x281, 4711, 1), (6, 0x002, 4711, 1)] == [(e.number, e.status, e.lba, e.nsid) for e in errors]


def test_ocp_page_is_told_by_its_number_alone() -> None:
    found = parse_ocp(made.ocp_log())
    assert found is not None
    assert (1 << 70, (1 << 48) - 1, (1 << 56) - 2) == (
        *(found["physical_written_bytes_total"], found["bad_user_blocks"], found["refreshes_total"]),
    )
    assert (11, 12, 0.97, 1.14, 9) == (
        *(found["end_to_end_detected_total"], found["end_to_end_corrected_total"], found["free_ratio"]),
        *(found["capacitor_ratio"], found["link_retrainings_total"]),
    )
    assert parse_ocp(made.ocp_log(guid=made.OCP_GUID[::-1])) is None
    old = parse_ocp(made.ocp_log(version=2, capacitor=0xFFFF))
    assert old is not None
    assert "link_retrainings_total" not in old
    assert old["capacitor_ratio"] is None


def test_uuid_is_found_among_other_descriptors() -> None:
    eui, uuid = bytes((1, 8, 0, 0)) + bytes(range(8)), bytes((3, 16, 0, 0)) + bytes(range(16))
    assert "00010203-0405-0607-0809-0a0b0c0d0e0f" == parse_uuid((eui + uuid).ljust(4096, b"\0"))
    assert "" == parse_uuid(eui.ljust(4096, b"\0"))
    assert "" == parse_uuid(uuid[:12]), "cut short"


READERS: tuple[Any, ...] = (
    *(parse_controller, parse_namespace, parse_active_list, parse_uuid, parse_ocp),
    *(logs.parse_smart, logs.parse_errors, logs.parse_firmware, logs.parse_self_test, logs.parse_sanitize),
)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@given(data=st.one_of(st.binary(max_size=700), st.integers(0, 255).map(lambda byte: bytes((byte,)) * 4096)))
def test_garbage_is_read_as_something_or_nothing(read: Any, data: bytes) -> None:
    read(data)

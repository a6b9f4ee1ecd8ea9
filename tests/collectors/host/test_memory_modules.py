"""Memory modules out of SMBIOS type 17, or out of EDAC where there is none."""

import struct
from pathlib import Path

import pytest

from collectors.host_modules import parse_module, read_modules
from schemas.device import Part


def _raw(
    size: int = 0x7FFF,
    extended: int = 65536,
    speed: int = 4800,
    configured: int = 4400,
    strings: tuple[str, ...] = ("DIMM_A1", "P0 CHANNEL A", "Samsung", "12AB34CD", "", "M321R8GA0BB0-CQKZJ"),
    length: int = 0x5C,
) -> bytes:
    body = bytearray(0x5C)
    struct.pack_into("<BBHHHHHH", body, 0, 17, length, 0x1100, 0x1000, 0xFFFE, 80, 64, size)
    body[0x0E], body[0x10], body[0x11], body[0x12] = 0x09, 1, 2, 0x22
    struct.pack_into("<HH", body, 0x13, 1 << 13, speed)
    body[0x17], body[0x18], body[0x1A], body[0x1B] = 3, 4, 6, 2
    struct.pack_into("<IHHHH", body, 0x1C, extended, configured, 1100, 1100, 1100)
    struct.pack_into("<II", body, 0x54, 70000, 68000)
    return bytes(body[:length]) + b"\0".join(text.encode() or b" " for text in strings) + b"\0\0"


def test_module_tells_size_speed_and_part() -> None:
    """R001-2: memory of a machine, module by module."""
    module = parse_module(_raw())
    assert module is not None
    assert ("DIMM_A1", "P0 CHANNEL A") == (module.locator, module.bank)
    assert Part(vendor="Samsung", serial="12AB34CD", part_number="M321R8GA0BB0-CQKZJ") == module.part
    assert {
        "size_bytes": 64 << 30,
        "type": "DDR5",
        "form_factor": "DIMM",
        "data_width_bits": 64,
        "total_width_bits": 80,
        "error_correction": True,
        "transfers_hertz": 4_800_000_000,
        "configured_transfers_hertz": 4_400_000_000,
        "ranks": 2,
        "configured_volts": 1.1,
        "registers": "registered",
    } == module.facts


@pytest.mark.parametrize(
    ("size", "expected"), [(16384, 16 << 30), (0x8000 | 512, 512 << 10), (0, 0), (0xFFFF, None), (0x7FFF, 64 << 30)]
)
def test_size_in_each_of_its_forms(size: int, expected: int | None) -> None:
    module = parse_module(_raw(size=size))
    assert module is not None
    assert expected == module.size_bytes


def test_speed_beyond_16_bits_is_in_the_wider_field() -> None:
    module = parse_module(_raw(speed=0xFFFF, configured=0xFFFF))
    assert module is not None
    assert (70_000_000_000, 68_000_000_000) == (
        module.facts["transfers_hertz"],
        module.facts["configured_transfers_hertz"],
    )


def test_unknown_speed_is_absent_not_zero() -> None:
    module = parse_module(_raw(speed=0, configured=0))
    assert module is not None
    assert not {"transfers_hertz", "configured_transfers_hertz"} & module.facts.keys()


def test_old_firmware_with_a_short_structure_leaves_the_rest_absent() -> None:
    module = parse_module(_raw(size=4096, length=0x15))
    assert module is not None
    assert 4 << 30 == module.size_bytes
    assert Part() == module.part


@pytest.mark.parametrize("cut", range(0, 0x5C, 7))
def test_structure_cut_short_is_none_and_no_crash(cut: int) -> None:
    assert parse_module(_raw()[:cut]) is None


def test_string_number_beyond_the_strings_is_absent() -> None:
    module = parse_module(_raw(strings=("DIMM_A1",)))
    assert module is not None
    assert ("DIMM_A1", "", Part()) == (module.locator, module.bank, module.part)


def _write(root: Path, modules: list[bytes]) -> None:
    for at, raw in enumerate(modules):
        folder = root / f"sys/firmware/dmi/entries/17-{at}"
        folder.mkdir(parents=True)
        (folder / "raw").write_bytes(raw)


def test_empty_slots_are_counted_and_not_devices(tmp_path: Path) -> None:
    _write(tmp_path, [_raw(), _raw(size=0, strings=("DIMM_A2", "P0 CHANNEL A", "NO DIMM", "Unknown"))])
    modules = read_modules(tmp_path)
    assert (2, 1) == (modules.slots, modules.used)
    (document,) = modules.documents
    assert ("memory-module:DIMM_A1", ["serial:12AB34CD"]) == (document.device, document.merge_keys)
    assert "DIMM_A1 P0 CHANNEL A" == document.slot.location


def test_slots_of_one_name_are_told_apart(tmp_path: Path) -> None:
    same = [_raw(strings=("DIMM 0", bank, "", f"S{at}")) for at, bank in enumerate(("P0 A", "P0 B", "P1 A", "P1 A"))]
    _write(tmp_path, same)
    names = [document.device for document in read_modules(tmp_path).documents]
    assert [
        "memory-module:P0 A DIMM 0",
        "memory-module:P0 B DIMM 0",
        "memory-module:P1 A DIMM 0 2",
        "memory-module:P1 A DIMM 0 3",
    ] == names


def test_placeholder_serial_gives_no_merge_key(tmp_path: Path) -> None:
    _write(tmp_path, [_raw(strings=("A", "B", "Unknown", "00000000"))])
    (document,) = read_modules(tmp_path).documents
    assert ([], Part()) == (document.merge_keys, document.part)


def test_memory_controllers_tell_where_firmware_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/edac/mc/mc0"
    for name, size in (("dimm0", "65536"), ("dimm1", "0"), ("rank2", "16384")):
        (folder / name).mkdir(parents=True)
        (folder / name / "size").write_text(size)
        (folder / name / "dimm_label").write_text("CPU_SrcID#0_MC#0_Chan#0_DIMM#0\n")
        (folder / name / "dimm_mem_type").write_text("Registered-DDR5\n")
        (folder / name / "dimm_edac_mode").write_text("S8ECD8ED\n")
    modules = read_modules(tmp_path)
    assert ["memory-module:mc0/dimm0", "memory-module:mc0/rank2"] == [found.device for found in modules.documents]
    assert {"size_bytes": 64 << 30, "type": "Registered-DDR5", "error_correction": True} == modules.documents[
        0
    ].capabilities
    assert (None, 2) == (modules.slots, modules.used)


def test_machine_that_tells_nothing_has_no_modules(tmp_path: Path) -> None:
    modules = read_modules(tmp_path)
    assert ([], None, None) == (modules.documents, modules.slots, modules.used)

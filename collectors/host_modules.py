"""Memory modules: what the firmware says of each slot, else what the memory controllers say of each module."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from collectors._dmi import usable
from collectors._procfs import names, read_bytes, read_integer, read_text
from collectors._smbios import parse_structure
from schemas.device import DeviceKind, Document, Part, Slot, Value

_MEMORY_DEVICE: Final = 17
_TYPES: Final = {
    0x0F: "SDRAM",
    0x12: "DDR",
    0x13: "DDR2",
    0x14: "DDR2 FB-DIMM",
    0x18: "DDR3",
    0x1A: "DDR4",
    0x1B: "LPDDR",
    0x1C: "LPDDR2",
    0x1D: "LPDDR3",
    0x1E: "LPDDR4",
    0x1F: "logical non-volatile",
    0x20: "HBM",
    0x21: "HBM2",
    0x22: "DDR5",
    0x23: "LPDDR5",
    0x24: "HBM3",
}
"""Source: SMBIOS 3.7, 7.18.2."""
_FORMS: Final = {0x09: "DIMM", 0x0B: "row of chips", 0x0D: "SODIMM", 0x0F: "FB-DIMM", 0x10: "die", 0x11: "CAMM"}
"""Source: SMBIOS 3.7, 7.18.1."""
_DETAIL: Final = ((13, "registered"), (14, "unregistered"), (15, "load reduced"))
"""Source: SMBIOS 3.7, 7.18.3: bits of the type detail."""


class Modules(msgspec.Struct):
    """The machine's memory modules."""

    documents: list[Document] = []
    slots: int | None = None
    """Slots for modules, empty ones as well; None when the firmware does not tell."""
    used: int | None = None


class Module(msgspec.Struct, frozen=True):
    """One slot's memory device. Source: SMBIOS 3.7, 7.18 (type 17)."""

    size_bytes: int | None
    """0 for an empty slot; None when the firmware does not know."""
    locator: str
    bank: str
    facts: dict[str, Value]
    part: Part


def read_modules(root: Path) -> Modules:
    """Read SMBIOS type 17, or EDAC where there is none that can be read (it is for root alone)."""
    folder = root / "sys/firmware/dmi/entries"
    found = []
    for name in names(folder):
        if name.startswith("17-"):
            module = parse_module(read_bytes(folder / name / "raw") or b"")
            if module is not None:
                found.append(module)
    if not found:
        documents = list(_edac(root / "sys/devices/system/edac/mc"))
        return Modules(documents, None, len(documents) or None)
    used = [module for module in found if module.size_bytes != 0]
    return Modules([_document(module, at, used) for at, module in enumerate(used)], len(found), len(used))


def parse_module(raw: bytes) -> Module | None:
    """Read one structure of type 17; None for what is none. Fields that an older firmware lacks are absent."""
    structure = parse_structure(raw, _MEMORY_DEVICE, 0x15)
    if structure is None:
        return None
    body = structure.body
    return Module(
        size_bytes=_size(body),
        locator=structure.text(0x10),
        bank=structure.text(0x11),
        facts=_facts(body),
        part=Part(
            vendor=usable(structure.text(0x17)),
            serial=usable(structure.text(0x18)),
            part_number=usable(structure.text(0x1A)),
            firmware=usable(structure.text(0x2B)),
        ),
    )


def _word(body: bytes, offset: int) -> int:
    """Give the 16 bits at the offset; 0, which stands for unknown in every field used here, when it is not there."""
    return int(struct.unpack_from("<H", body, offset)[0]) if offset + 2 <= len(body) else 0


def _size(body: bytes) -> int | None:
    size = _word(body, 0x0C)
    if size == 0xFFFF:
        return None
    if size == 0x7FFF and len(body) >= 0x20:
        return (int(struct.unpack_from("<I", body, 0x1C)[0]) & 0x7FFFFFFF) << 20
    return (size & 0x7FFF) << (10 if size & 0x8000 else 20)


def _facts(body: bytes) -> dict[str, Value]:
    total, data = _word(body, 0x08), _word(body, 0x0A)
    facts: dict[str, Value | None] = {
        "size_bytes": _size(body),
        "type": _TYPES.get(body[0x12]),
        "form_factor": _FORMS.get(body[0x0E]),
        "data_width_bits": data if 0 < data < 0xFFFF else None,
        "total_width_bits": total if 0 < total < 0xFFFF else None,
        "error_correction": total > data if 0 < data < 0xFFFF and 0 < total < 0xFFFF else None,
        "transfers_hertz": _speed(body, 0x15, 0x54),
        "configured_transfers_hertz": _speed(body, 0x20, 0x58),
        "ranks": (body[0x1B] & 0x0F) or None if len(body) > 0x1B else None,
        "configured_volts": _word(body, 0x26) / 1000 or None,
        "registers": next((word for bit, word in _DETAIL if _word(body, 0x13) >> bit & 1), None),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _speed(body: bytes, offset: int, extended: int) -> int | None:
    """Give transfers per second: the field counts millions, and 0xFFFF points to a wider one."""
    speed = _word(body, offset)
    if speed == 0xFFFF:
        speed = int(struct.unpack_from("<I", body, extended)[0]) & 0x7FFFFFFF if extended + 4 <= len(body) else 0
    return speed * 1_000_000 or None


def _document(module: Module, at: int, all_used: list[Module]) -> Document:
    """Name the module by where it sits: by the bank as well where firmware calls every slot of a kind the same."""
    name = module.locator
    if not name or sum(other.locator == name for other in all_used) > 1:
        name = " ".join(filter(None, (module.bank, module.locator)))
    if not name or sum((other.bank, other.locator) == (module.bank, module.locator) for other in all_used) > 1:
        name = f"{name or 'module'} {at}"
    location = " ".join(filter(None, (module.locator, module.bank)))
    return Document(
        f"memory-module:{name}",
        DeviceKind.MEMORY_MODULE,
        merge_keys=[f"serial:{module.part.serial}"] if module.part.serial else [],
        parent="node",
        slot=Slot(location=location),
        part=module.part,
        capabilities=module.facts,
    )


def _edac(folder: Path) -> Iterator[Document]:
    for controller in names(folder):
        if not (controller.startswith("mc") and controller[2:].isdecimal()):
            continue
        for name in names(folder / controller):
            if not (name.startswith(("dimm", "rank")) and name[4:].isdecimal()):
                continue
            module = folder / controller / name
            size = read_integer(module / "size")
            if not size:
                continue
            kind, mode = read_text(module / "dimm_mem_type"), read_text(module / "dimm_edac_mode")
            facts: dict[str, Value] = {"size_bytes": size << 20}
            facts |= {"type": kind} if kind and kind != "Unknown" else {}
            facts |= {"error_correction": mode != "None"} if mode and mode != "Unknown" else {}
            location = " ".join(filter(None, (read_text(module / "dimm_label"), read_text(module / "dimm_location"))))
            yield Document(
                f"memory-module:{controller}/{name}",
                DeviceKind.MEMORY_MODULE,
                parent="node",
                slot=Slot(location=location),
                capabilities=facts,
            )

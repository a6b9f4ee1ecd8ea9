"""Structures of the firmware's tables, as the kernel hands them out: `/sys/firmware/dmi/entries/<type>-<n>/raw`.

Source: SMBIOS 3.7, 6.1. The files are for root alone; to everybody else there are no structures.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from collectors._procfs import names, read_bytes


class Structure(msgspec.Struct, frozen=True):
    """One structure: its formatted part, and the strings that it refers to by number."""

    body: bytes
    strings: list[bytes]

    def byte(self, offset: int) -> int | None:
        """Give the byte at the offset; None when this firmware's structure is shorter."""
        return self.body[offset] if offset < len(self.body) else None

    def word(self, offset: int) -> int | None:
        """Give the 16 bits at the offset; None when this firmware's structure is shorter."""
        return int(struct.unpack_from("<H", self.body, offset)[0]) if offset + 2 <= len(self.body) else None

    def text(self, offset: int) -> str:
        """Give the string that the byte at the offset refers to; "" when there is none."""
        index = self.byte(offset) or 0
        return self.strings[index - 1].decode("utf-8", "replace").strip() if 0 < index <= len(self.strings) else ""


def parse_structure(raw: bytes, kind: int, least: int = 4) -> Structure | None:
    """Read one structure of a type; None for another, and for one whose formatted part is below `least` bytes."""
    if len(raw) < 4 or raw[0] != kind or not least <= raw[1] <= len(raw):
        return None
    return Structure(raw[: raw[1]], raw[raw[1] :].split(b"\0"))


def structures(root: Path, kind: int, least: int = 4) -> Iterator[Structure]:
    """Give the machine's structures of a type, in the firmware's order."""
    folder = root / "sys/firmware/dmi/entries"
    prefix = f"{kind}-"
    numbers = [name[len(prefix) :] for name in names(folder) if name.startswith(prefix)]
    for number in sorted(int(text) for text in numbers if text.isdecimal()):
        found = parse_structure(read_bytes(folder / f"{prefix}{number}" / "raw") or b"", kind, least)
        if found is not None:
            yield found

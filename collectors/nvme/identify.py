"""What controllers and name spaces say of themselves.

Source: NVM Express Base Specification 2.0, 5.17.2.1 (identify controller), 5.17.2.3 (identification descriptors); NVM
Command Set Specification 1.0, 4.1.5.1 (identify name space).
"""

import struct
from typing import Final

import msgspec

CONTROLLER, NAMESPACE, ACTIVE_LIST, DESCRIPTORS = 0x01, 0x00, 0x02, 0x03
"""Values of CNS."""
SIZE: Final = 4096
_KELVIN: Final = 273
_FORMATS: Final = 64
_FIRST_FORMAT: Final = 128
_LEAST_LBADS: Final = 9
_MOST_LBADS: Final = 32
_MANY_FORMATS: Final = 16
_UUID, _UUID_BYTES = 3, 16


class Controller(msgspec.Struct, frozen=True, kw_only=True):
    """Identify controller. A number that the drive does not tell is None, a text ""."""

    vendor_id: str
    """PCI vendor, 4 hexadecimal digits."""
    serial: str
    model: str
    firmware: str
    controller_id: int
    version: str
    """Of the specification: `1.4`; "" before 1.2."""
    capacity_bytes: int | None
    """All storage of the subsystem; None on drives that cannot divide it."""
    unallocated_bytes: int | None
    warning_celsius: float | None
    critical_celsius: float | None
    error_log_entries: int
    firmware_slots: int
    first_slot_read_only: bool
    most_namespaces: int
    can_format: bool
    can_self_test: bool
    can_manage_namespaces: bool
    can_virtualize: bool
    """It has virtual functions with controllers of their own (virtualization management)."""
    format_crypto_erase: bool
    erase_hits_all: bool
    """Formatting one name space with erase erases all."""
    sanitize: tuple[str, ...]
    """`block-erase`, `crypto-erase`, `overwrite`, sorted."""
    several_controllers: bool
    """The subsystem may have more than one."""
    async_events: int
    """OAES: which notices the drive can send."""
    subsystem: str
    """The subsystem's qualified name."""


class LbaFormat(msgspec.Struct, frozen=True):
    """One way to format a name space."""

    sector_bytes: int
    metadata_bytes: int
    performance: int
    """0 is the best, 3 the worst."""

    @property
    def words(self) -> str:
        """Give `4096+0`: bytes of data and of metadata."""
        return f"{self.sector_bytes}+{self.metadata_bytes}"


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """Identify name space. Sizes are in sectors of the format in use."""

    sectors: int
    capacity_sectors: int
    used_sectors: int
    formats: tuple[LbaFormat, ...]
    """Those that can be used, in the drive's order."""
    format: LbaFormat | None
    """The one in use; None when what the drive says is none."""
    protection: int
    """Type of end-to-end protection, 1 to 3; 0 for none."""
    format_percent_left: int | None
    """While a format is under way; None when none is, or the drive does not tell."""
    thin: bool
    shared: bool
    """Whether several controllers may have it."""
    nguid: str
    eui64: str

    @property
    def capacity_bytes(self) -> int | None:
        """Give all its bytes; None without a format. Never counted in 512 bytes, as the kernel does."""
        return None if self.format is None else self.sectors * self.format.sector_bytes


def parse_controller(data: bytes) -> Controller | None:
    """Read an identify controller structure; None for less than one."""
    if len(data) < SIZE:
        return None
    version, oaes = struct.unpack_from("<I8xI", data, 80)
    warning, critical = struct.unpack_from("<HH", data, 266)
    oacs = _u16(data, 256)
    sanicap = int.from_bytes(data[328:332], "little")
    methods = (("crypto-erase", 1), ("block-erase", 2), ("overwrite", 4))
    return Controller(
        vendor_id=f"{_u16(data, 0):04x}",
        serial=text(data[4:24]),
        model=text(data[24:64]),
        firmware=text(data[64:72]),
        controller_id=_u16(data, 78),
        version=_version(version),
        capacity_bytes=_whole(data[280:296]),
        unallocated_bytes=int.from_bytes(data[296:312], "little") if _whole(data[280:296]) else None,
        warning_celsius=celsius(warning),
        critical_celsius=celsius(critical),
        error_log_entries=data[262] + 1,
        firmware_slots=data[260] >> 1 & 7,
        first_slot_read_only=bool(data[260] & 1),
        most_namespaces=int.from_bytes(data[516:520], "little"),
        can_format=bool(oacs & 2),
        can_manage_namespaces=bool(oacs & 8),
        can_self_test=bool(oacs & 16),
        can_virtualize=bool(oacs & 128),
        format_crypto_erase=bool(data[524] & 4),
        erase_hits_all=bool(data[524] & 2),
        sanitize=tuple(sorted(name for name, bit in methods if sanicap & bit)),
        several_controllers=bool(data[76] & 2),
        async_events=oaes,
        subsystem=text(data[768:1024]),
    )


def parse_namespace(data: bytes) -> Namespace | None:
    """Read an identify name space structure; None for less than one, and for a name space that is not active."""
    if len(data) < SIZE:
        return None
    sectors, capacity, used = struct.unpack_from("<QQQ", data, 0)
    if not sectors:
        return None
    count = min(data[25] + 1, _FORMATS)
    index = data[26] & 0xF | ((data[26] >> 5 & 3) << 4 if count > _MANY_FORMATS else 0)
    all_formats = [_format(data, number) for number in range(count)]
    return Namespace(
        sectors=sectors,
        capacity_sectors=capacity,
        used_sectors=used,
        formats=tuple(one for one in all_formats if one is not None),
        format=all_formats[index] if index < count else None,
        protection=data[29] & 7,
        format_percent_left=data[32] & 0x7F if data[32] & 0x80 and data[32] & 0x7F else None,
        thin=bool(data[24] & 1),
        shared=bool(data[30] & 1),
        nguid=_unique(data[104:120]),
        eui64=_unique(data[120:128]),
    )


def parse_active_list(data: bytes) -> list[int]:
    """Give the ids of the name spaces in an active list, which ends at the first 0."""
    found: list[int] = []
    for (nsid,) in struct.iter_unpack("<I", data[: len(data) // 4 * 4]):
        if not nsid:
            break
        found.append(nsid)
    return found


def parse_uuid(data: bytes) -> str:
    """Give the UUID among identification descriptors; "" when there is none."""
    at = 0
    while at + 4 <= len(data) and data[at + 1]:
        kind, size = data[at], data[at + 1]
        value = data[at + 4 : at + 4 + size]
        if kind == _UUID and len(value) == size == _UUID_BYTES:
            digits = _unique(value)
            parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
            return "-".join(parts) if digits else ""
        at += 4 + size
    return ""


def celsius(kelvin: int) -> float | None:
    """Give degrees Celsius of whole kelvins; None for 0, which stands for not reported.

    The drive rounds to whole kelvins, and so do the kernel and smartctl: 323 K is 50, as they say.
    """
    return float(kelvin - _KELVIN) if kelvin else None


def text(data: bytes) -> str:
    """Give a field of ASCII text without the blanks that fill it; what is none of ASCII reads as `?`."""
    plain = "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in data.rstrip(b"\0"))
    return plain.strip(" ")


def _format(data: bytes, number: int) -> LbaFormat | None:
    metadata, power, performance = struct.unpack_from("<HBB", data, _FIRST_FORMAT + 4 * number)
    if not _LEAST_LBADS <= power <= _MOST_LBADS:
        return None
    return LbaFormat(1 << power, metadata, performance & 3)


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")


def _whole(data: bytes) -> int | None:
    return int.from_bytes(data, "little") or None


def _version(number: int) -> str:
    major, minor, patch = number >> 16, number >> 8 & 0xFF, number & 0xFF
    return "" if not major else f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"


def _unique(data: bytes) -> str:
    """Give an identifier in hexadecimal; "" for all zeros or all ones, which identify nothing."""
    return "" if data in (bytes(len(data)), b"\xff" * len(data)) else data.hex()

"""What a function's configuration space and its vital product data say. Bytes in, facts out.

Without root the kernel hands out the first 64 bytes, which hold none of the capabilities: then these facts are absent.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

_STATUS, _CAPABILITY_LIST = 0x06, 0x10
_HEADER_TYPE, _POINTER = 0x0E, 0x34
_HEADER: Final = 0x40
_EXPRESS: Final = 0x10
_EXTENDED: Final = 0x100
_SERIAL, _ACS = 0x0003, 0x000D
_MOST_CAPABILITIES: Final = 64
"""More than fit: a list that goes on is a ring."""
_ACS_NEEDED: Final = 0x1 | 0x4 | 0x8 | 0x10
"""Source validation, request and completion redirect, upstream forwarding: what Linux asks for to split a group."""
_UNSET: Final = frozenset({0, 0xFFFFFFFFFFFFFFFF})


Read = Callable[[int, int], bytes]


class ConfigFacts(msgspec.Struct, frozen=True):
    """What is kept of a configuration space."""

    port_type: int | None = None
    """PCI Express device/port type: 0 endpoint, 4 root port, 5 upstream and 6 downstream port of a switch."""
    serial: str = ""
    """The device serial number, as lspci writes it; "" when there is none, or a placeholder."""
    acs: bool | None = None
    """Whether Access Control Services keep apart what is below; None without the capability."""


def parse_config(read: Read) -> ConfigFacts:
    """Read a configuration space; what cannot be read is absent.

    `read(offset, size)` gives as many bytes as can be had. Only what is wanted is asked for: some devices do not bear
    that all of their space is read.
    Source: PCI Express Base Specification 6.0, 7.5.3 (express), 7.7.11 (ACS), 7.9.3 (serial number).
    """
    port_type, serial, acs = None, "", None
    for identity, _, flags in _capabilities(read):
        if identity == _EXPRESS:
            port_type = flags >> 4 & 0xF
    if port_type is None:  # without this capability there is no extended space
        return ConfigFacts()
    for identity, at in _extended(read):
        body = read(at + 4, 8 if identity == _SERIAL else 4) if identity in (_SERIAL, _ACS) else b""
        if identity == _SERIAL and len(body) == 8:
            low, high = struct.unpack("<II", body)
            number = high << 32 | low
            serial = "" if number in _UNSET else number.to_bytes(8, "big").hex("-")
        elif identity == _ACS and len(body) == 4:
            (control,) = struct.unpack_from("<H", body, 2)
            acs = control & _ACS_NEEDED == _ACS_NEEDED
    return ConfigFacts(port_type, serial, acs)


def _capabilities(read: Read) -> Iterator[tuple[int, int, int]]:
    """Walk the list below 256 bytes: id, offset, the two bytes after the link."""
    head = read(0, _HEADER)
    if len(head) < _HEADER or not head[_STATUS] & _CAPABILITY_LIST or head[_HEADER_TYPE] & 0x7F > 1:
        return
    at = head[_POINTER] & 0xFC
    for _ in range(_MOST_CAPABILITIES):
        entry = read(at, 4) if at >= _HEADER else b""
        if len(entry) < 4 or entry[0] == 0xFF:
            return
        yield entry[0], at, entry[2] | entry[3] << 8
        at = entry[1] & 0xFC


def _extended(read: Read) -> Iterator[tuple[int, int]]:
    """Walk the list from 256 bytes on: (id, offset)."""
    at = _EXTENDED
    for _ in range(_MOST_CAPABILITIES):
        entry = read(at, 4) if at >= _EXTENDED else b""
        if len(entry) < 4:
            return
        (header,) = struct.unpack("<I", entry)
        if header in (0, 0xFFFFFFFF):
            return
        yield header & 0xFFFF, at
        at = header >> 20 & 0xFFC


class VitalData(msgspec.Struct, frozen=True):
    """What is kept of the vital product data; "" for what it does not say."""

    name: str = ""
    part_number: str = ""
    serial: str = ""
    revision: str = ""


_NAME, _READ_ONLY, _END = 0x82, 0x90, 0x0F


def parse_vpd(data: bytes) -> VitalData:
    """Read vital product data; garbage, or data cut short, gives what came before it.

    Source: PCI Local Bus Specification 3.0, appendix I: resources of the kinds `name` and `read-only`, the latter with
    fields of two letters, a length and a text (PN, SN, EC).
    """
    name, fields = "", dict[bytes, str]()
    at = 0
    while at + 3 <= len(data):
        tag = data[at]
        if not tag & 0x80:  # a small resource: the end, or something unknown
            if tag >> 3 == _END or tag == 0:
                break
            at += 1 + (tag & 7)
            continue
        length = data[at + 1] | data[at + 2] << 8
        body = data[at + 3 : at + 3 + length]
        if tag == _NAME:
            name = _text(body)
        elif tag == _READ_ONLY:
            fields = _fields(body)
        at += 3 + length
    return VitalData(name, fields.get(b"PN", ""), fields.get(b"SN", ""), fields.get(b"EC", ""))


def _fields(body: bytes) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    at = 0
    while at + 3 <= len(body):
        end = at + 3 + body[at + 2]
        if end > len(body):
            break
        found.setdefault(body[at : at + 2], _text(body[at + 3 : end]))
        at = end
    return found


def _text(body: bytes) -> str:
    """Give a text on one line; "" when it holds what no label would."""
    text = " ".join(body.rstrip(b"\0").decode("utf-8", "replace").split())
    return text if text.isprintable() and "\ufffd" not in text else ""

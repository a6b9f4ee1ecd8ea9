"""Reads the `[pci]` section of a nova.conf, and matches devices as nova does.

Source: docs.openstack.org/oslo.config/latest/reference/configuration-files.html; nova/pci/devspec.py, whitelist.py.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from aggregator.ledger.model import Device
from aggregator.ledger.state import State
from schemas.errors import MusterError

_OPTIONS: Final = {
    ("pci", "device_spec"),
    ("pci", "passthrough_whitelist"),
    ("default", "pci_passthrough_whitelist"),
}
"""The option, and the names that it had."""
_FIELDS: Final = ("domain", "bus", "slot", "function")
_ADDRESS: Final = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])\Z")
_MOST: Final = {"domain": 0xFFFF, "bus": 0xFF, "slot": 0x1F, "function": 7}
_MAX_PATTERN: Final = 256
"""Of a regular expression; what it is matched against has 4 characters at most."""


class NovaConfError(MusterError):
    """A line of nova.conf says nothing that nova would take."""

    code = "feed.nova_conf"
    status = 400


class Spec(msgspec.Struct, frozen=True):
    """One entry of device_spec, as it was written."""

    line: int
    """Where it begins, from 1."""
    text: str
    vendor_id: str = "*"
    product_id: str = "*"
    devname: str = ""
    patterns: tuple[str, str, str, str] = ("", "", "", "")
    """Regular expressions of domain, bus, slot and function, matched at their beginning; "": any."""
    exact: bool = False
    """Whether it names one address: that of a PF means its VFs too."""
    resource_class: str = ""

    def matches(self, state: State, device: Device) -> bool:
        """Tell whether nova would give this device away by it."""
        if self.vendor_id not in ("*", _id(device, "pci_vendor_id")):
            return False
        if self.product_id not in ("*", _id(device, "pci_device_id")):
            return False
        parent = state.devices.get(device.parent)
        if self.devname:
            return any(one is not None and one.get("interface") == self.devname for one in (device, parent))
        if self._at(device.slot.address):
            return True
        return self.exact and parent is not None and self._at(parent.slot.address)

    def _at(self, address: str) -> bool:
        fields = _ADDRESS.match(address)
        return fields is not None and all(
            not pattern or re.match(pattern, field)
            for pattern, field in zip(self.patterns, fields.groups(), strict=True)
        )


def _id(device: Device, name: str) -> str:
    return str(device.get(name) or "").lower()


def read(text: str) -> list[Spec]:
    """Give every entry of device_spec. Raises NovaConfError with the line for what nova would refuse."""
    return [spec for line, value in options(text) for spec in _specs(line, value)]


def options(text: str) -> Iterator[tuple[int, str]]:
    """Yield the values of device_spec with their lines. A line that begins with a space goes on with the one before."""
    section, begun = "default", (0, "")
    for number, line in enumerate(text.splitlines(), 1):
        if line[:1] in (" ", "\t") and line.strip() and begun[0]:
            begun = (begun[0], f"{begun[1]} {line.strip()}")
            continue
        if begun[0]:
            yield begun
            begun = (0, "")
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1].strip().lower()
        elif stripped and stripped[0] not in "#;":
            name, sign, value = stripped.partition("=")
            if not sign:
                name, _, value = stripped.partition(":")
            if (section, name.strip().lower()) in _OPTIONS:
                begun = (number, value.strip())
    if begun[0]:
        yield begun


def _specs(line: int, value: str) -> Iterator[Spec]:
    try:
        told = msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise NovaConfError(f"line {line}: {value[:80]!r} is no JSON: {error}") from None
    for one in told if isinstance(told, list) else [told]:
        if not isinstance(one, dict):
            raise NovaConfError(f"line {line}: {one!r} is no object; device_spec is one, or a list of them")
        yield _spec(line, one)


def _spec(line: int, told: dict[str, Any]) -> Spec:
    if told.get("address") and told.get("devname"):
        raise NovaConfError(f"line {line}: it names both address and devname, and nova takes one")
    patterns, exact = _address(line, told.get("address") or "*:*:*.*")
    return Spec(
        line,
        msgspec.json.encode(told).decode(),
        _hex(line, "vendor_id", str(told.get("vendor_id", "*")).strip(), 0xFFFF, 4),
        _hex(line, "product_id", str(told.get("product_id", "*")).strip(), 0xFFFF, 4),
        str(told.get("devname", "")),
        patterns,
        exact,
        str(told.get("resource_class", "")).upper(),
    )


def _address(line: int, address: object) -> tuple[tuple[str, str, str, str], bool]:
    if isinstance(address, dict):
        found = [str(address.get(name, ".*")) for name in _FIELDS]
        for pattern in found:
            _check_pattern(line, pattern)
        return (found[0], found[1], found[2], found[3]), all(re.fullmatch("[0-9a-fA-F]+", one) for one in found)
    if not isinstance(address, str):
        raise NovaConfError(f"line {line}: address is {address!r}, not a text or an object")
    places, _, function = address.partition(".")
    parts = places.split(":") if places else []
    if len(parts) > 3:
        raise NovaConfError(f"line {line}: {address!r} is no PCI address")
    texts = [*(["*"] * (3 - len(parts))), *(part.strip() or "*" for part in parts), function.strip() or "*"]
    widths = (4, 2, 2, 1)
    found = [
        "" if text == "*" else _hex(line, name, text, _MOST[name], width) + r"\Z"
        for name, text, width in zip(_FIELDS, texts, widths, strict=True)
    ]
    return (found[0], found[1], found[2], found[3]), all(found)


def _check_pattern(line: int, pattern: str) -> None:
    try:
        if len(pattern) > _MAX_PATTERN:
            raise NovaConfError(f"line {line}: a pattern of more than {_MAX_PATTERN} characters")
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise NovaConfError(f"line {line}: {pattern!r} is no regular expression: {error}") from None


def _hex(line: int, name: str, text: str, most: int, width: int) -> str:
    if text == "*":
        return text
    try:
        value = int(text, 16)
    except ValueError:
        raise NovaConfError(f"line {line}: {name} {text!r} is no hexadecimal number") from None
    if not 0 <= value <= most:
        raise NovaConfError(f"line {line}: {name} {text!r} is above {most:x}")
    return f"{value:0{width}x}"

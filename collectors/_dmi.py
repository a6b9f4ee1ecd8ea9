"""The machine's own word on what it is: `/sys/class/dmi/id`, without what vendors left as a placeholder."""

import re
from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import read_text

_PLACEHOLDERS: Final = frozenset(
    {
        "0123456789",
        "01234567",
        "012345678",
        "0123456789abcdef",
        "1234567890",
        "123456789",
        "12345678",
        "asset-1234567890",
        "base board serial number",
        "chassis serial number",
        "default string",
        "default_string",
        "empty",
        "invalid",
        "n/a",
        "na",
        "no asset information",
        "no asset tag",
        "no dimm",
        "none",
        "not applicable",
        "not available",
        "not provided",
        "not set",
        "not settable",
        "not specified",
        "null",
        "o.e.m.",
        "o.e.m",
        "oem",
        "serial",
        "standard",
        "system manufacturer",
        "system product name",
        "system serial number",
        "system version",
        "tbd",
        "to be filled by o.e.m",
        "to be filled by o.e.m.",
        "to be filled by oem",
        "unknown",
        "undefined",
        "unspecified",
        "uninitialized",
    }
)

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")

_PLACEHOLDER_UUIDS: Final = frozenset(
    {
        "03000200-0400-0500-0006-000700080009",  # AMI's sample, in both byte orders
        "00020003-0004-0005-0006-000700080009",
        "03d40274-0435-05dc-8506-010700080009",
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "03020100-0504-0706-0809-0a0b0c0d0e0f",
        "01020304-0506-0708-090a-0b0c0d0e0f10",
        "01234567-8910-1112-1314-151617181920",
        "12345678-1234-1234-1234-123456789abc",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "78563412-3412-7856-90ab-cddeefaabbcc",
        "4c4c4544-0000-2010-8020-80c04f202020",  # Dell, with a blank service tag
        "4c4c4544-0020-2010-8020-a0c04f202020",
        "deadbeef-dead-beef-dead-beefdeadbeef",
    }
)


def usable(text: str) -> str:
    """Give the text on one line, or "" when it is a known placeholder or one character repeated."""
    text = " ".join(text.split())
    plain = text.lower()
    if plain in _PLACEHOLDERS or len(set(plain.strip(". -_"))) <= 1:
        return ""
    return text


def usable_uuid(text: str) -> str:
    """Give the UUID in lower case, or "" when it is none, or one that many machines carry."""
    uuid = text.strip().strip("{}").lower()
    if not _UUID.match(uuid) or uuid in _PLACEHOLDER_UUIDS:
        return ""
    digits = uuid.replace("-", "")
    if len({digits[at : at + 2] for at in range(0, 32, 2)}) <= 1 or len(set(digits)) <= 1:
        return ""
    return uuid


class Dmi(msgspec.Struct, frozen=True):
    """What the firmware says of the machine; "" for what it does not say, or says with a placeholder.

    Source: SMBIOS 3.7 types 0 to 3, as the kernel shows them; serial numbers and the UUID are for root alone.
    """

    vendor: str = ""
    product: str = ""
    version: str = ""
    family: str = ""
    sku: str = ""
    serial: str = ""
    uuid: str = ""
    board_vendor: str = ""
    board: str = ""
    board_version: str = ""
    board_serial: str = ""
    chassis_vendor: str = ""
    chassis_type: int | None = None
    """SMBIOS 7.4.1: 17 main server chassis, 23 rack mount, 28 blade; 2 (unknown) reads as None."""
    chassis_serial: str = ""
    asset_tag: str = ""
    bios_vendor: str = ""
    bios_version: str = ""
    bios_date: str = ""
    bios_release: str = ""


_FILES: Final = {
    "vendor": "sys_vendor",
    "product": "product_name",
    "version": "product_version",
    "family": "product_family",
    "sku": "product_sku",
    "serial": "product_serial",
    "board_vendor": "board_vendor",
    "board": "board_name",
    "board_version": "board_version",
    "board_serial": "board_serial",
    "chassis_vendor": "chassis_vendor",
    "chassis_serial": "chassis_serial",
    "asset_tag": "chassis_asset_tag",
    "bios_vendor": "bios_vendor",
    "bios_version": "bios_version",
    "bios_date": "bios_date",
    "bios_release": "bios_release",
}


def read_dmi(root: Path = Path("/")) -> Dmi:
    """Read the machine's DMI identity; all absent where the kernel has none (containers, many small machines)."""
    folder = root / "sys/class/dmi/id"
    kind = read_text(folder / "chassis_type")
    return Dmi(
        uuid=usable_uuid(read_text(folder / "product_uuid")),
        chassis_type=int(kind) if kind.isdecimal() and kind not in ("0", "2") else None,
        **{field: usable(read_text(folder / name)) for field, name in _FILES.items()},
    )

"""What this machine is: the node itself, its processors and its memory modules, as capability documents."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from collectors._dmi import read_dmi
from collectors._procfs import names, number_after, read_bytes, read_text
from collectors._statvfs import StatVfs
from collectors.host_crypto import crypto_facts
from collectors.host_modules import Modules, read_modules
from collectors.host_processors import Cpu, describe_processor, read_processors
from collectors.host_room import disk_bytes
from collectors.node_identity import read_host_name, read_machine_id
from schemas.device import DeviceKind, Document, Part, Value

_CHASSIS: Final = {
    1: "other",
    3: "desktop",
    4: "low profile desktop",
    6: "mini tower",
    7: "tower",
    9: "laptop",
    10: "notebook",
    17: "main server chassis",
    22: "raid chassis",
    23: "rack mount chassis",
    24: "sealed-case pc",
    25: "multi-system chassis",
    28: "blade",
    29: "blade enclosure",
    30: "tablet",
    35: "mini pc",
}
"""Source: SMBIOS 3.7, 7.4.1."""


def describe_machine(root: Path, disk_path: str = "", statvfs: StatVfs = os.statvfs) -> Iterator[Document]:
    """Give the documents of the node, its processors and its memory modules, as far as this root tells them.

    `disk_path`: where the disks of virtual machines and containers lie; "" for nowhere.
    """
    cpus = read_processors(root)
    modules = read_modules(root)
    yield _node(root, cpus, modules, disk_bytes(root, disk_path, statvfs))
    for cpu in cpus:
        yield describe_processor(root, cpu)
    yield from modules.documents


def _node(root: Path, cpus: list[Cpu], modules: Modules, disk: int | None) -> Document:
    dmi = read_dmi(root)
    system = _os_release(root)
    machine_id = read_machine_id(root)
    memory = number_after(b"\n" + (read_bytes(root / "proc/meminfo") or b""), b"\nMemTotal:")
    facts: dict[str, Value | None] = {
        "host_name": read_host_name(root),
        "machine_id": machine_id,
        "kernel_release": read_text(root / "proc/sys/kernel/osrelease"),
        "kernel_version": read_text(root / "proc/sys/kernel/version"),
        "kernel_command_line": read_text(root / "proc/cmdline"),
        "architecture": read_text(root / "proc/sys/kernel/arch") or os.uname().machine,
        "os_id": system.get("ID"),
        "os_name": system.get("PRETTY_NAME") or system.get("NAME"),
        "os_version": system.get("VERSION_ID"),
        "product_family": dmi.family,
        "board": " ".join(filter(None, (dmi.board_vendor, dmi.board, dmi.board_version))),
        "board_serial": dmi.board_serial,
        "chassis_vendor": dmi.chassis_vendor,
        "chassis_type": None if dmi.chassis_type is None else _CHASSIS.get(dmi.chassis_type, str(dmi.chassis_type)),
        "chassis_serial": dmi.chassis_serial,
        "asset_tag": dmi.asset_tag,
        "bios_vendor": dmi.bios_vendor,
        "bios_date": dmi.bios_date,
        "bios_release": dmi.bios_release,
        "memory_bytes": None if memory is None else memory * 1024,
        "disk_bytes": disk,
        "memory_slots": modules.slots,
        "memory_slots_used": modules.used,
        "processors": len(cpus) or None,
        "cores": sum(len(cpu.cores) for cpu in cpus) or None,
        "threads": sum(len(cpu.threads) for cpu in cpus) or None,
        "numa_nodes": _count(names(root / "sys/devices/system/node"), "node") or None,
        "iommu": bool(names(root / "sys/class/iommu")) if (root / "sys/class").is_dir() else None,
        "secure_boot": _secure_boot(root),
        **crypto_facts(root),
    }
    keys = [f"uuid:{dmi.uuid}"] if dmi.uuid else []
    keys += [f"serial:{dmi.serial}"] if dmi.serial else []
    keys += [f"machine-id:{machine_id}"] if machine_id else []
    return Document(
        "node",
        DeviceKind.NODE,
        merge_keys=keys,
        part=Part(
            vendor=dmi.vendor,
            model=dmi.product,
            part_number=dmi.sku,
            serial=dmi.serial,
            uuid=dmi.uuid,
            revision=dmi.version,
            firmware=dmi.bios_version,
        ),
        capabilities={name: value for name, value in facts.items() if value is not None and value != ""},
    )


def _count(found: list[str], prefix: str) -> int:
    return sum(name.startswith(prefix) and name[len(prefix) :].isdecimal() for name in found)


def _os_release(root: Path) -> dict[str, str]:
    """Read os-release(5)."""
    text = read_text(root / "etc/os-release") or read_text(root / "usr/lib/os-release")
    values = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            values[key] = value.strip("\"'")
    return values


def _secure_boot(root: Path) -> bool | None:
    """Say whether secure boot is on; None without UEFI. Source: UEFI 2.10, 3.3; the first 4 bytes are attributes."""
    name = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    data = read_bytes(root / "sys/firmware/efi/efivars" / name)
    return None if data is None or len(data) != 5 else data[4] == 1

"""What is on a name space: partitions, file systems, mounts, and who builds on it. Nothing of the drive itself is read.

Partitions are the kernel's, types are what udev's prober found when the device came or was last closed by a writer, and
mounts are those that this process sees. Where udev does not run, types are known of what is mounted alone.
Source: Documentation/ABI/stable/sysfs-block of Linux; udev's database `/run/udev/data/b<major>:<minor>`; proc(5).
"""

from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import names, read_bytes, read_integer, read_text
from collectors.host_file_system import Mount, parse_mounts
from collectors.nvme.sysfs import SECTOR_BYTES, Block

_UDEV: Final = "run/udev/data"
_MOST: Final = 64
"""Entries of one word."""


class Content(msgspec.Struct, frozen=True):
    """What is on one block device, and on its partitions."""

    partition_table: str = ""
    """`gpt`, `dos`; `none` where udev looked and found none; "" when nobody looked."""
    partitions: tuple[str, ...] = ()
    """`<number>:<first byte>:<bytes>`."""
    file_systems: tuple[str, ...] = ()
    """`<block device>=<type>`, `nvme0n1p1=xfs`: file systems, and whatever else udev knows by type (`LVM2_member`)."""
    mounts: tuple[str, ...] = ()
    """`<block device>=<mount point>`."""
    holders: tuple[str, ...] = ()
    """`<block device>=<what is built on it>`: `nvme0n1p2=dm-0`."""


class Mounts:
    """What is mounted now, by number of the device."""

    def __init__(self, root: Path) -> None:
        """Read the first process's table: a sandboxed agent's own may lack mounts."""
        table = read_bytes(root / "proc/1/mountinfo") or read_bytes(root / "proc/self/mountinfo") or b""
        self._found: dict[str, list[Mount]] = {}
        for mount in parse_mounts(table):
            self._found.setdefault(mount.device, []).append(mount)

    def of(self, number: str) -> list[Mount]:
        """Give where a device, by its number, is mounted."""
        return self._found.get(number, [])


def read_content(root: Path, block: Block, mounts: Mounts) -> Content:
    """Look at one block device and its partitions."""
    parts = [name for name in names(block.folder) if name.startswith(f"{block.name}p")]
    table = _udev(root, block.number).get("ID_PART_TABLE_TYPE", "")
    systems, mounted, holders = [], [], []
    for name, folder in ((block.name, block.folder), *((part, f"{block.folder}/{part}") for part in parts)):
        number = read_text(f"{folder}/dev")
        points = mounts.of(number)
        kind = points[0].type if points else _udev(root, number).get("ID_FS_TYPE", "")
        if kind:
            systems.append(f"{name}={kind}")
        mounted += [f"{name}={point.mountpoint}" for point in points]
        holders += [f"{name}={holder}" for holder in names(f"{folder}/holders")]
    looked = (root / _UDEV / f"b{block.number}").exists() and not parts
    return Content(
        table or ("none" if looked else ""),
        tuple(words for part in parts[:_MOST] if (words := _partition(f"{block.folder}/{part}"))),
        tuple(systems[:_MOST]),
        tuple(mounted[:_MOST]),
        tuple(holders[:_MOST]),
    )


def _partition(folder: str) -> str:
    number, start, size = (read_integer(f"{folder}/{name}") for name in ("partition", "start", "size"))
    if number is None or start is None or size is None:
        return ""
    return f"{number}:{start * SECTOR_BYTES}:{size * SECTOR_BYTES}"


def _udev(root: Path, number: str) -> dict[str, str]:
    """Give the properties that udev keeps of a block device; {} without any."""
    found = {}
    for line in read_text(root / _UDEV / f"b{number}").split("\n") if number else ():
        key, equals, value = line.partition("=")
        if equals and key.startswith("E:"):
            found[key[2:]] = value
    return found

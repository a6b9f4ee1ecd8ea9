"""How much disk a node offers to claims: the file system in which disks of virtual machines and containers lie.

Counted as nova does for DISK_GB: all that the file system of one path can hold, used or not. What the host keeps for
itself is a matter of policy: the ratio of `disk_bytes`. Source: docs.openstack.org/nova, `instances_path`.
"""

import os
from pathlib import Path
from typing import Final

from collectors._names import NameFilter
from collectors._procfs import read_bytes
from collectors._statvfs import StatVfs
from collectors.host_file_system import Mount, parse_mounts
from collectors.host_section import NETWORK_TYPES

STEP_BYTES: Final = 1 << 30
"""The size is told in whole GiB, rounded down: that of zfs and btrfs changes a little with every write."""
_OWN_TYPE: Final = NameFilter(exclude=(*NETWORK_TYPES, "ramfs", "tmpfs"))
"""What is over the network is not one node's alone, and may hang; what is in memory is counted as memory."""


def disk_bytes(root: Path, path: str, statvfs: StatVfs = os.statvfs) -> int | None:
    """Give the size of the file system that holds `path`, in whole GiB.

    None when `path` is "" or is not there, or lies in a file system over the network or in memory.
    """
    mount = _mount_of(root, path) if path else None
    if mount is None or not _OWN_TYPE(mount.type):
        return None
    try:
        answer = statvfs(str(root / path.lstrip("/")))
    except OSError:
        return None
    size = answer.f_blocks * (answer.f_frsize or answer.f_bsize)
    return size // STEP_BYTES * STEP_BYTES if size else None


def _mount_of(root: Path, path: str) -> Mount | None:
    """Give what is mounted where a path is, the latest of what lies there; None without a mount table."""
    table = read_bytes(root / "proc/1/mountinfo") or read_bytes(root / "proc/self/mountinfo") or b""
    above = [one for one in parse_mounts(table) if _holds(one.mountpoint, path)]
    return max(enumerate(above), key=lambda pair: (len(pair[1].mountpoint), pair[0]), default=(0, None))[1]


def _holds(mountpoint: str, path: str) -> bool:
    return mountpoint in ("/", path) or path.startswith(f"{mountpoint}/")

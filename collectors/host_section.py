"""What the parts of the `host` collector have in common: the shape of a section, and the configuration they share."""

from collections.abc import Iterable
from enum import Enum
from typing import Annotated, ClassVar, Protocol

import msgspec
from msgspec import Meta

from schemas.metrics import MetricSpec
from schemas.rows import Item
from schemas.verbosity import Level


class HostPart(Enum):
    """What the collector can read, to be switched on or off one by one."""

    CPU = "cpu"
    SYSTEM = "system"
    PRESSURE = "pressure"
    MEMORY = "memory"
    MEMORY_ERRORS = "memory_errors"
    DISK = "disk"
    FILE_SYSTEM = "file_system"
    NETWORK = "network"
    PROCESSES = "processes"
    BOOT = "boot"


PSEUDO_TYPES = (
    "autofs",
    "bdev",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup*",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.lxcfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
)
"""Types that hold no storage of their own."""

NETWORK_TYPES = (
    "9p",
    "afs",
    "beegfs*",
    "ceph",
    "cifs",
    "fuse*",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs*",
    "orangefs",
    "panfs",
    "smb*",
    "virtiofs",
    "vxfs.remote",
    "wekafs",
)
"""Types behind which another machine or program answers, or does not."""

Seconds = Annotated[float, Meta(gt=0)]


class HostConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of this machine is read. Patterns are shell patterns; what is excluded is so whatever includes it."""

    parts: frozenset[HostPart] = frozenset(HostPart)
    """The parts to read."""
    disks_include: tuple[str, ...] = ("*",)
    """Disks to read; partitions never are."""
    disks_exclude: tuple[str, ...] = ("loop*", "ram*", "zram*", "fd*", "sr*")
    """Disks to leave out: by default those without a medium of their own."""
    file_systems_include: tuple[str, ...] = ("*",)
    """Mount points to read."""
    file_systems_exclude: tuple[str, ...] = (
        "/var/lib/docker/*",
        "/var/lib/kubelet/*",
        "/var/lib/containers/*",
        "/snap/*",
    )
    """Mount points to leave out."""
    file_system_types_exclude: tuple[str, ...] = PSEUDO_TYPES + NETWORK_TYPES
    """Types to leave out: pseudo file systems, and those over the network, which may hang. Those that you take out of
    this list are read in a thread of their own. What is mounted at `/` is read whatever its type."""
    file_system_timeout_seconds: Seconds = 0.25
    """How long all file systems that may hang are waited for, together, before they count as unavailable."""
    disk_path: Annotated[str, Meta(pattern=r"\A(/.*)?\Z")] = "/var/lib"
    """Where the disks of virtual machines and containers lie, nova's `instances_path` say: the size of its file system
    is the disk that the node offers to claims (`disk_bytes`). One over the network, or in memory, counts for none;
    with an empty path the node offers none."""
    interfaces_include: tuple[str, ...] = ("*",)
    """Network interfaces to read."""
    interfaces_exclude: tuple[str, ...] = ("lo", "veth*", "cali*", "lxc*", "ifb*", "dummy*")
    """Network interfaces to leave out: by default the loopback and what containers come and go with."""
    slow_every_seconds: Seconds = 10.0
    """How often what changes slowly is read: frequency, memory errors, link speed, limits."""
    processes_every_seconds: Seconds = 60.0
    """How often processes are counted by state, which walks through all of them."""


class Look(msgspec.Struct, frozen=True):
    """What is asked for at one collection."""

    level: Level
    """The level in force: what is above it need not be read."""
    slow: bool
    """What changes slowly is due as well: every `slow_every_seconds`."""


class Section(Protocol):
    """One subject of the machine. Raises nothing for a value that is not there: it leaves the value out."""

    METRICS: ClassVar[tuple[MetricSpec, ...]]

    def start(self) -> None:
        """Take what later readings are compared with. May be called again."""

    def read(self, look: Look) -> Iterable[Item]:
        """Give what there is now."""

    def close(self) -> None:
        """Close every file; safe twice, and `start` may follow."""

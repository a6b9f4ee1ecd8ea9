"""File systems: room, inodes, and whether they can be written. One that hangs harms no other."""

import os
import select
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from collectors._declare import Declare
from collectors._names import NameFilter
from collectors._procfs import RootedFile, ratio
from collectors._statvfs import Asker, StatVfs
from collectors.host_section import HostConfig, Look
from schemas.metrics import Category, MetricSpec
from schemas.rows import Event, FieldValue, Item, Reading, Severity
from schemas.verbosity import Level

PROMPT: Final = frozenset(
    {
        "bcachefs",
        "btrfs",
        "erofs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "iso9660",
        "jfs",
        "nilfs2",
        "ntfs3",
        "overlay",
        "ramfs",
        "reiserfs",
        "rootfs",
        "squashfs",
        "tmpfs",
        "udf",
        "vfat",
        "xfs",
    }
)
"""Types whose statvfs waits for nobody; every other type is asked in a thread of its own."""


def _metrics() -> tuple[MetricSpec, ...]:
    room = Declare("file_system", "statvfs(3)", Category.USAGE, ("mountpoint", "type"))
    mount = Declare("file_system", "/proc/1/mountinfo, proc(5)", Category.ERROR, ("mountpoint", "type"))
    essential = Level.ESSENTIAL
    none = "absent where the file system counts none"
    return (
        room.gauge("size_bytes", "Size."),
        room.gauge("free_bytes", "Free, what is kept for root included."),
        room.gauge("available_bytes", "Free for everyone.", essential),
        room.gauge("used_bytes", "Size less free."),
        room.gauge("used_ratio", "Used of used and available, 0 to 1, as df shows it.", essential),
        room.gauge("inodes", f"Inodes; {none}."),
        room.gauge("inodes_free", f"Inodes not in use; {none}."),
        room.gauge("inodes_used_ratio", f"Inodes in use of all, 0 to 1; {none}.", essential),
        mount.flag("read_only", "It cannot be written, whether so mounted or after an error.", essential),
    )


class Mount(msgspec.Struct, frozen=True):
    """One line of mountinfo."""

    mountpoint: str
    type: str
    source: str
    device: str
    """`major:minor`: equal for all places that one file system is mounted at."""
    base: str
    """What of the file system is mounted: "/" for all of it."""
    read_only: bool


class FileSystemSection:
    """Reads the mount table when it changed, and statvfs of each wanted mount."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _metrics()

    def __init__(self, root: Path, config: HostConfig, statvfs: StatVfs = os.statvfs) -> None:
        self._root = root
        # a sandboxed agent sees file systems as read-only that are not: the first process sees the machine's own table
        self._tables = tuple(RootedFile(root / name / "mountinfo") for name in ("proc/1", "proc/self"))
        self._wanted = NameFilter(config.file_systems_include, config.file_systems_exclude)
        self._wanted_type = NameFilter(exclude=config.file_system_types_exclude)
        self._asker = Asker(config.file_system_timeout_seconds, statvfs)
        self._mounts: list[Mount] = []
        self._read_only: dict[str, bool] = {}
        self._locked: dict[str, bool] = {}
        self._table: bytes | None = None
        self._known = False

    def start(self) -> None:
        """Take the mount table, so that a turn to read-only is seen from now on."""
        self._table, self._known, self._read_only, self._locked = None, False, {}, {}
        self._refresh()
        self._turned()
        self._known = True

    def read(self, look: Look) -> Iterable[Item]:
        """Give one row a file system, and what turned read-only, or stopped or began to answer."""
        if look.slow or self._changed():
            self._refresh()
        answers = self._asker.ask({mount.mountpoint: self._path(mount) for mount in self._mounts}, self._prompt())
        locked = {place: bool(answer.f_flag & os.ST_RDONLY) for place, answer in answers.items()}
        if any(self._locked.get(place, flag) != flag for place, flag in locked.items()):
            self._refresh()  # the kernel itself made one read-only, of which the mount table gives no sign
        self._locked = locked
        yield from self._turned()
        yield from self._asker.events()
        for mount in self._mounts:
            answer = answers.get(mount.mountpoint)
            fields = {} if answer is None else _room(answer)
            fields["read_only"] = mount.read_only
            yield Reading("file_system", fields, attributes={"mountpoint": mount.mountpoint, "type": mount.type})

    def close(self) -> None:
        """Close the mount table and let the threads go that still answer."""
        for table in self._tables:
            table.close()
        self._asker.close()

    def _path(self, mount: Mount) -> str:
        return str(self._root) + mount.mountpoint if self._root != Path("/") else mount.mountpoint

    def _prompt(self) -> frozenset[str]:
        return frozenset(mount.mountpoint for mount in self._mounts if mount.type in PROMPT)

    def _changed(self) -> bool:
        """Ask the kernel whether the table changed; a recorded one is always read."""
        for table in self._tables:
            if table.fd >= 0:
                if os.fstat(table.fd).st_size:
                    return True
                poller = select.poll()
                poller.register(table.fd, select.POLLPRI)
                return bool(poller.poll(0))
        return True

    def _refresh(self) -> None:
        data = next((text for table in self._tables if (text := table.read())), None)
        if data is None or data == self._table:
            return
        self._table = data
        found: dict[str, Mount] = {}
        for mount in parse_mounts(data):
            if not self._wanted(mount.mountpoint):
                continue
            if not self._wanted_type(mount.type) and mount.mountpoint != "/":
                continue
            other = found.get(mount.device)
            if other is None or _rank(mount) < _rank(other) or mount.mountpoint == other.mountpoint:
                found[mount.device] = mount
        covered = {mount.mountpoint: mount for mount in found.values()}  # the later mount hides the earlier
        self._mounts = list(covered.values())

    def _turned(self) -> Iterator[Event]:
        now = {mount.mountpoint: mount.read_only for mount in self._mounts}
        before, self._read_only = self._read_only, now
        if not self._known:
            return iter(())
        return iter(
            [
                _turn_event(mount)
                for mount in self._mounts
                if before.get(mount.mountpoint, mount.read_only) != mount.read_only
            ]
        )


def parse_mounts(data: bytes) -> Iterator[Mount]:
    """Read lines of mountinfo, skipping those that are not. Source: proc(5)."""
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        words = line.split(" ")
        if len(words) < 10 or "-" not in words[6:]:
            continue
        dash = words.index("-", 6)
        if len(words) < dash + 4:
            continue
        options = {*words[5].split(","), *words[dash + 3].split(",")}
        yield Mount(
            mountpoint=_plain(words[4]),
            type=words[dash + 1],
            source=_plain(words[dash + 2]),
            device=words[2],
            base=_plain(words[3]),
            # from Linux 6.14 on ext4 says so in words of its own after an error
            read_only=not options.isdisjoint(("ro", "emergency_ro", "shutdown")),
        )


def _plain(word: str) -> str:
    """Undo the escapes of space, tab, line feed and backslash; what is no UTF-8 shows as a replacement character."""
    if "\\" in word:
        for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            word = word.replace(code, char)
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _rank(mount: Mount) -> tuple[bool, int]:
    """Of the places that one file system is mounted at, prefer the whole of it, then the shortest path."""
    return (mount.base != "/", len(mount.mountpoint))


def _room(answer: os.statvfs_result) -> dict[str, FieldValue]:
    block = answer.f_frsize or answer.f_bsize
    if not answer.f_blocks:
        return {}
    used = max(0, answer.f_blocks - answer.f_bfree)
    fields: dict[str, FieldValue] = {
        "size_bytes": answer.f_blocks * block,
        "free_bytes": answer.f_bfree * block,
        "available_bytes": answer.f_bavail * block,
        "used_bytes": used * block,
        "used_ratio": ratio(used, used + answer.f_bavail),
    }
    if answer.f_files:  # btrfs and vfat make inodes as they go, and count none
        fields["inodes"] = answer.f_files
        fields["inodes_free"] = answer.f_ffree
        fields["inodes_used_ratio"] = ratio(answer.f_files - answer.f_ffree, answer.f_files)
    return fields


def _turn_event(mount: Mount) -> Event:
    detail: dict[str, FieldValue] = {"mountpoint": mount.mountpoint, "type": mount.type, "source": mount.source}
    if mount.read_only:
        message = f"{mount.mountpoint} ({mount.type} on {mount.source}) turned read-only"
        return Event("host.file_system.read_only", message, Severity.ERROR, detail=detail)
    message = f"{mount.mountpoint} ({mount.type} on {mount.source}) can be written again"
    return Event("host.file_system.writable", message, Severity.NOTICE, detail=detail)

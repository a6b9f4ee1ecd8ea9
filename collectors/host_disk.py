"""Disks: what was read, written, discarded and flushed, and how long it took."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

from collectors._declare import Declare
from collectors._names import NameFilter
from collectors._procfs import RootedFile, integers, names, scaled, seconds
from collectors.host_section import HostConfig, Look
from schemas.metrics import Category, MetricSpec
from schemas.rows import FieldValue, Item, Reading
from schemas.verbosity import Level

_SECTOR: Final = 512
"""Bytes of a sector in diskstats, whatever the disk's own sectors are."""

_COLUMNS: Final = (
    ("reads_total", 0, "Reads completed."),
    ("reads_merged_total", 0, "Reads merged with another before they were issued."),
    ("read_bytes_total", _SECTOR, "Read."),
    ("read_seconds_total", 1000, "Time spent by all reads, overlapping ones each counted."),
    ("writes_total", 0, "Writes completed."),
    ("writes_merged_total", 0, "Writes merged with another before they were issued."),
    ("write_bytes_total", _SECTOR, "Written."),
    ("write_seconds_total", 1000, "Time spent by all writes, overlapping ones each counted."),
    ("in_flight", 0, "Operations issued and not yet completed."),
    ("busy_seconds_total", 1000, "Time in which at least one operation was in flight."),
    ("queue_seconds_total", 1000, "Time in flight, times the operations in flight."),
    ("discards_total", 0, "Discards completed; Linux 4.18 and later."),
    ("discards_merged_total", 0, "Discards merged with another."),
    ("discard_bytes_total", _SECTOR, "Discarded."),
    ("discard_seconds_total", 1000, "Time spent by all discards."),
    ("flushes_total", 0, "Flushes of the write cache completed; Linux 5.5 and later."),
    ("flush_seconds_total", 1000, "Time spent by all flushes."),
)
"""In the order of diskstats: field, sectors (512) or milliseconds (1000) or a plain number (0), meaning."""


def _metrics() -> tuple[MetricSpec, ...]:
    disk = Declare("disk", "/proc/diskstats, Documentation/admin-guide/iostats.rst", Category.USAGE, ("disk",))
    return tuple(
        (disk.counter if field.endswith("_total") else disk.gauge)(field, meaning) for field, _, meaning in _COLUMNS
    )


class DiskSection:
    """Reads `/proc/diskstats`; whole disks alone, as `/sys/block` names them."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _metrics()

    def __init__(self, root: Path, config: HostConfig) -> None:
        self._file = RootedFile(root / "proc/diskstats")
        self._block = root / "sys/block"
        self._wanted = NameFilter(config.disks_include, config.disks_exclude)
        self._whole: dict[str, bool] = {}

    def start(self) -> None:
        """Forget which names were disks."""
        self._whole.clear()

    def read(self, look: Look) -> Iterable[Item]:
        """Give one row a disk."""
        if look.level < Level.STANDARD:
            return
        if look.slow:
            self._whole.clear()  # a name may have passed from one device to another
        for line in (self._file.read() or b"").split(b"\n"):
            words = line.split()
            if len(words) < 14:  # partitions of Linux 2.6.24 and before show four numbers
                continue
            disk = words[2].decode("utf-8", "replace")
            if self._wanted(disk) and self._is_whole(disk):
                yield Reading("disk", _fields(words[3:20]), attributes={"disk": disk})

    def close(self) -> None:
        """Close `/proc/diskstats`."""
        self._file.close()

    def _is_whole(self, disk: str) -> bool:
        whole = self._whole.get(disk)
        if whole is None:
            if not self._whole:
                # sysfs writes the slash of names such as cciss/c0d0 as an exclamation mark
                self._whole = {name.replace("!", "/"): True for name in names(self._block)}
            # without /sys/block nothing tells disks from partitions, and all are shown
            whole = self._whole.setdefault(disk, not self._whole)
        return whole


def _fields(words: list[bytes]) -> dict[str, FieldValue]:
    fields: dict[str, FieldValue] = {}
    for (field, per, _), value in zip(_COLUMNS, integers(words), strict=False):
        if value is None or not per:
            fields[field] = value
        elif per == _SECTOR:
            fields[field] = scaled(value, _SECTOR)
        else:
            fields[field] = seconds(value, per)
    return fields

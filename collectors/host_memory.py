"""Memory and swap, and the errors that the memory controllers count."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from collectors._declare import Declare
from collectors._procfs import RootedFile, integer, names, number_after, ratio, read_integer, read_text, scaled
from collectors.host_section import Look
from schemas.metrics import Category, MetricSpec
from schemas.rows import FieldValue, Item, Reading
from schemas.verbosity import Level

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_LINE: Final = re.compile(rb"^([\w()]+):[ \t]+(\d+)(?: kB)?[ \t]*$", re.MULTILINE)

_E, _S, _D, _X = Level.ESSENTIAL, Level.STANDARD, Level.DETAILED, Level.DEBUG

_KIB_FIELDS: Final = (
    ("MemTotal", "total_bytes", _E, "All memory that the kernel manages."),
    ("MemAvailable", "available_bytes", _E, "Memory that programs can have without swapping; Linux 3.14 and later."),
    ("MemFree", "free_bytes", _S, "Memory that nobody uses at all."),
    ("Buffers", "buffers_bytes", _S, "Cache of raw block devices."),
    ("Cached", "cached_bytes", _S, "Cache of files, shared memory included."),
    ("SwapCached", "swap_cached_bytes", _S, "Memory that is also in swap."),
    ("Active", "active_bytes", _S, "Memory used of late."),
    ("Inactive", "inactive_bytes", _S, "Memory not used of late, given up first."),
    ("Unevictable", "unevictable_bytes", _D, "Memory that cannot be given up."),
    ("Mlocked", "locked_bytes", _D, "Memory that programs locked."),
    ("Dirty", "dirty_bytes", _S, "Data not yet written to disk."),
    ("Writeback", "writeback_bytes", _S, "Data being written to disk."),
    ("AnonPages", "anonymous_bytes", _S, "Memory of programs that no file backs."),
    ("Mapped", "mapped_bytes", _S, "Files mapped into programs."),
    ("Shmem", "shared_bytes", _S, "Shared memory and tmpfs."),
    ("Slab", "slab_bytes", _S, "The kernel's own objects."),
    ("SReclaimable", "slab_reclaimable_bytes", _S, "Of these, what can be given up."),
    ("SUnreclaim", "slab_unreclaimable_bytes", _S, "Of these, what cannot."),
    ("KernelStack", "kernel_stack_bytes", _S, "Stacks of the kernel's threads."),
    ("PageTables", "page_tables_bytes", _S, "Page tables."),
    ("SecPageTables", "secondary_page_tables_bytes", _D, "Page tables of virtual machines and IOMMUs."),
    ("CommitLimit", "commit_limit_bytes", _S, "What may be promised to programs under strict accounting."),
    ("Committed_AS", "committed_bytes", _S, "What has been promised to programs."),
    ("VmallocUsed", "vmalloc_used_bytes", _D, "The kernel's virtual mappings."),
    ("Percpu", "per_cpu_bytes", _S, "Memory kept once for each CPU."),
    ("HardwareCorrupted", "hardware_corrupted_bytes", _E, "Memory taken out of use after hardware errors."),
    ("AnonHugePages", "anonymous_huge_pages_bytes", _S, "Programs' memory in transparent huge pages."),
    ("ShmemHugePages", "shared_huge_pages_bytes", _X, "Shared memory in transparent huge pages."),
    ("FileHugePages", "file_huge_pages_bytes", _X, "Files in transparent huge pages."),
    ("Zswap", "zswap_bytes", _D, "Memory that compressed swap takes."),
    ("Zswapped", "zswapped_bytes", _D, "Memory kept in compressed swap, before compression."),
    ("CmaTotal", "contiguous_total_bytes", _X, "Memory kept for contiguous allocation."),
    ("CmaFree", "contiguous_free_bytes", _X, "Of these, what is free."),
    ("Hugepagesize", "huge_page_size_bytes", _D, "Size of a huge page of the default size."),
    ("Hugetlb", "huge_pages_bytes", _S, "Memory in huge pages of every size."),
    ("DirectMap4k", "direct_map_4k_bytes", _X, "Memory that the kernel maps by pages of 4 KiB."),
    ("DirectMap2M", "direct_map_2m_bytes", _X, "Memory that the kernel maps by pages of 2 MiB."),
    ("DirectMap1G", "direct_map_1g_bytes", _X, "Memory that the kernel maps by pages of 1 GiB."),
)
_COUNT_FIELDS: Final = (
    ("HugePages_Total", "huge_pages", _S, "Huge pages of the default size."),
    ("HugePages_Free", "huge_pages_free", _S, "Of these, not in use."),
    ("HugePages_Rsvd", "huge_pages_reserved", _D, "Of these, promised and not yet in use."),
    ("HugePages_Surp", "huge_pages_surplus", _D, "Of these, beyond the configured number."),
)
_VMSTAT_FIELDS: Final = (
    ("pgfault", "page_faults_total", _D, Category.LOAD, "Page faults."),
    ("pgmajfault", "major_page_faults_total", _S, Category.LOAD, "Page faults that had to read from disk."),
    ("oom_kill", "oom_kills_total", _E, Category.ERROR, "Programs killed for want of memory; Linux 4.13 and later."),
)
_KEYS: Final = {
    key.encode(): (field, factor)
    for table, factor in ((_KIB_FIELDS, 1024), (_COUNT_FIELDS, 1))
    for key, field, _, _ in table
}
_VMSTAT: Final = tuple((f"\n{key} ".encode(), field) for key, field, _, _, _ in _VMSTAT_FIELDS)


def _memory_metrics() -> tuple[MetricSpec, ...]:
    memory = Declare("memory", "/proc/meminfo, proc(5)")
    counts = Declare("memory", "/proc/vmstat")
    swap = Declare("swap", "/proc/meminfo, /proc/vmstat")
    return (
        *(memory.gauge(field, meaning, level) for _, field, level, meaning in _KIB_FIELDS + _COUNT_FIELDS),
        memory.gauge("used_bytes", "Total less available; absent where the kernel does not tell what is available."),
        memory.gauge("used_ratio", "Used of total, 0 to 1; absent as `used_bytes` is.", _E),
        *(counts.counter(field, meaning, level, category) for _, field, level, category, meaning in _VMSTAT_FIELDS),
        swap.gauge("total_bytes", "Swap that is switched on; 0 when there is none."),
        swap.gauge("free_bytes", "Swap that is free."),
        swap.gauge("used_bytes", "Swap in use."),
        swap.gauge("used_ratio", "Used of total, 0 to 1; absent when there is no swap.", _E),
        swap.counter("in_bytes_total", "Read back from swap."),
        swap.counter("out_bytes_total", "Written to swap."),
    )


class MemorySection:
    """Reads `/proc/meminfo` and `/proc/vmstat`."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _memory_metrics()

    def __init__(self, root: Path) -> None:
        self._meminfo = RootedFile(root / "proc/meminfo")
        self._vmstat = RootedFile(root / "proc/vmstat")

    def start(self) -> None:
        """Nothing to compare with."""

    def read(self, look: Look) -> Iterable[Item]:
        """Give memory and swap."""
        del look  # all of it is always read
        data = self._meminfo.read() or b""
        counters = b"\n" + (self._vmstat.read() or b"")
        fields: dict[str, FieldValue] = {}
        found: dict[bytes, bytes] = dict(_LINE.findall(data))
        for key, (field, factor) in _KEYS.items():
            word = found.get(key)
            if word is not None:
                fields[field] = scaled(integer(word), factor)
        total, available = fields.get("total_bytes"), fields.get("available_bytes")
        if isinstance(total, int) and isinstance(available, int):
            fields["used_bytes"] = used = max(0, total - available)
            fields["used_ratio"] = ratio(used, total)
        for key, field in _VMSTAT:
            number = number_after(counters, key)
            if number is not None:
                fields[field] = number
        if fields:
            yield Reading("memory", fields)
        swap = _swap(found, counters)
        if swap:
            yield Reading("swap", swap)

    def close(self) -> None:
        """Close both files."""
        self._meminfo.close()
        self._vmstat.close()


def _swap(found: dict[bytes, bytes], counters: bytes) -> dict[str, FieldValue]:
    total = scaled(integer(found.get(b"SwapTotal", b"")), 1024)
    free = scaled(integer(found.get(b"SwapFree", b"")), 1024)
    used = None if total is None or free is None else max(0, total - free)
    values: dict[str, FieldValue] = {
        "total_bytes": total,
        "free_bytes": free,
        "used_bytes": used,
        "used_ratio": ratio(used, total),
        "in_bytes_total": scaled(number_after(counters, b"\npswpin "), _PAGE),
        "out_bytes_total": scaled(number_after(counters, b"\npswpout "), _PAGE),
    }
    return {field: value for field, value in values.items() if value is not None}


def _error_metrics() -> tuple[MetricSpec, ...]:
    source = "/sys/devices/system/edac/mc, Documentation/admin-guide/RAS"
    controller = Declare("memory_controller", source, Category.ERROR, ("controller",), _E)
    module = Declare("memory_module", source, Category.ERROR, ("controller", "module"), _E)
    return (
        controller.counter("corrected_errors_total", "Errors that the controller corrected."),
        controller.counter("uncorrected_errors_total", "Errors that it could not correct: data was lost."),
        controller.counter("unplaced_corrected_errors_total", "Corrected errors of a module that it could not name."),
        controller.counter(
            "unplaced_uncorrected_errors_total", "Uncorrected errors of a module that it could not name."
        ),
        module.counter("corrected_errors_total", "Errors that were corrected in this module."),
        module.counter("uncorrected_errors_total", "Errors that could not be corrected in this module."),
        module.text("label", "Where the module sits, as the driver or the operator labelled it.", Level.STANDARD),
    )


class MemoryErrorSection:
    """Reads the counts of EDAC now and then; silent where no driver counts."""

    METRICS: ClassVar[tuple[MetricSpec, ...]] = _error_metrics()

    def __init__(self, root: Path) -> None:
        self._folder = root / "sys/devices/system/edac/mc"

    def start(self) -> None:
        """Nothing to compare with."""

    def read(self, look: Look) -> Iterable[Item]:
        """Give one row a controller and one a module, when slow readings are due."""
        if not look.slow:
            return
        for controller in names(self._folder):
            if controller.startswith("mc") and controller[2:].isdecimal():
                yield from _errors(self._folder / controller, controller)

    def close(self) -> None:
        """Nothing is open."""


def _errors(folder: Path, controller: str) -> Iterator[Reading]:
    yield Reading(
        "memory_controller",
        {
            "corrected_errors_total": read_integer(folder / "ce_count"),
            "uncorrected_errors_total": read_integer(folder / "ue_count"),
            "unplaced_corrected_errors_total": read_integer(folder / "ce_noinfo_count"),
            "unplaced_uncorrected_errors_total": read_integer(folder / "ue_noinfo_count"),
        },
        attributes={"controller": controller},
    )
    for module in names(folder):
        if module.startswith(("dimm", "rank")) and module[4:].isdecimal():
            yield Reading(
                "memory_module",
                {
                    "corrected_errors_total": read_integer(folder / module / "dimm_ce_count"),
                    "uncorrected_errors_total": read_integer(folder / module / "dimm_ue_count"),
                    "label": read_text(folder / module / "dimm_label") or None,
                },
                attributes={"controller": controller, "module": module},
            )

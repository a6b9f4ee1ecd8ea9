"""Processor packages: cores, caches, frequencies and what they can do, as capability documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from collectors._dmi import usable
from collectors._procfs import integer, names, read_bytes, read_integer, read_text
from schemas.device import DeviceKind, Document, Part, Slot, Value

FLAGS: Final = (
    "aes",
    "avx",
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
    "f16c",
    "fma",
    "sha_ni",
    "vaes",
    "gfni",
    "la57",
    "pdpe1gb",
    "svm",
    "vmx",
    "hypervisor",
    "sme",
    "sev",
    "sev_es",
    "sev_snp",
    "tdx_guest",
    "tme",
    "sgx",
    "hwp",
    "amd_pstate",
    "ibs",
    "intel_pt",
    "cat_l3",
    "cdp_l3",
    "mba",
    "rdpid",
    "waitpkg",
    "movdir64b",
    "enqcmd",
    "asimd",
    "sve",
    "sve2",
    "sme2",
    "bf16",
    "i8mm",
    "atomics",
)
"""What placement and benchmarks ask for; the hundred others are the kernel's business."""


class Cpu(msgspec.Struct):
    """One processor package."""

    package: str
    info: dict[str, str]
    """What cpuinfo says of its first logical CPU."""
    threads: list[int] = []
    """Its logical CPUs."""
    cores: set[str] = set()
    nodes: set[str] = set()
    """The numbers of its NUMA nodes."""


def describe_processor(root: Path, cpu: Cpu) -> Document:
    """Give the document of one package."""
    info = cpu.info
    folder = root / "sys/devices/system/cpu" / f"cpu{cpu.threads[0]}"
    stepping = [info.get(key, "") for key in ("cpu family", "model", "stepping")]
    flags = set((info.get("flags") or info.get("Features") or "").split())
    facts: dict[str, Value | None] = {
        "cores": len(cpu.cores) or None,
        "threads": len(cpu.threads),
        "cpus": _ranges(cpu.threads),
        "numa_nodes": sorted(cpu.nodes, key=int) or None,
        "flags": [flag for flag in FLAGS if flag in flags] or None,
        "frequency_max_hertz": _hertz(folder / "cpufreq/cpuinfo_max_freq"),
        "frequency_min_hertz": _hertz(folder / "cpufreq/cpuinfo_min_freq"),
        "frequency_base_hertz": _hertz(folder / "cpufreq/base_frequency"),
        "frequency_driver": read_text(folder / "cpufreq/scaling_driver") or None,
        "address_bits_physical": _address_bits(info.get("address sizes", "")),
        "virtualization": "svm" if "svm" in flags else "vmx" if "vmx" in flags else None,
        **_caches(root, cpu),
    }
    return Document(
        f"cpu:{cpu.package}",
        DeviceKind.CPU,
        merge_keys=[f"cpu-package:{cpu.package}"],
        parent="node",
        slot=Slot(location=f"package {cpu.package}"),
        part=Part(
            vendor=info.get("vendor_id", "") or info.get("CPU implementer", ""),
            model=usable(info.get("model name", "")) or info.get("CPU part", ""),
            revision="-".join(stepping) if all(stepping) else "",
            firmware=info.get("microcode", ""),
        ),
        capabilities={name: value for name, value in facts.items() if value is not None},
    )


def read_processors(root: Path) -> list[Cpu]:
    """Give the packages, from cpuinfo and from where sysfs says that each logical CPU sits."""
    found: dict[str, Cpu] = {}
    for info in _cpuinfo(read_bytes(root / "proc/cpuinfo") or b""):
        thread = info.get("processor", "")
        if not thread.isdecimal():
            continue
        folder = root / "sys/devices/system/cpu" / f"cpu{thread}"
        package = read_text(folder / "topology/physical_package_id") or info.get("physical id", "0")
        core = read_text(folder / "topology/core_id") or info.get("core id", thread)
        die = read_text(folder / "topology/die_id")
        cpu = found.setdefault(package, Cpu(package, info))
        cpu.threads.append(int(thread))
        cpu.cores.add(f"{die}:{core}")
        cpu.nodes.update(name[4:] for name in names(folder) if name.startswith("node") and name[4:].isdecimal())
    return [found[package] for package in sorted(found, key=lambda text: (len(text), text))]


def _cpuinfo(data: bytes) -> Iterator[dict[str, str]]:
    for record in data.decode("utf-8", "replace").split("\n\n"):
        info = {}
        for line in record.split("\n"):
            key, colon, value = line.partition(":")
            if colon:
                info[key.strip()] = value.strip()
        yield info


def _caches(root: Path, cpu: Cpu) -> dict[str, Value]:
    """Sum the caches of a package by level, each shared one once; instruction caches of level 1 apart."""
    sizes: dict[str, int] = {}
    seen: set[tuple[str, str, str]] = set()
    for thread in cpu.threads:
        folder = root / "sys/devices/system/cpu" / f"cpu{thread}" / "cache"
        for name in names(folder):
            if not name.startswith("index"):
                continue
            level, kind = read_text(folder / name / "level"), read_text(folder / name / "type")
            shared = read_text(folder / name / "shared_cpu_list") or str(thread)
            size = _size(read_text(folder / name / "size"))
            if not size or not level.isdecimal() or (level, kind, shared) in seen:
                continue
            seen.add((level, kind, shared))
            side = {"Data": "d", "Instruction": "i"}.get(kind, "")
            key = f"cache_l{level}{side}_bytes"
            sizes[key] = sizes.get(key, 0) + size
    return dict(sorted(sizes.items()))


def _size(text: str) -> int | None:
    """Read `32K`, `1024K`, `36M`."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    number = integer(text.rstrip("KMG").encode())
    return None if number is None else number * factor


def _hertz(path: Path) -> int | None:
    kilohertz = read_integer(path)
    return kilohertz * 1000 if kilohertz else None


def _address_bits(text: str) -> int | None:
    """Read `46 bits physical, 48 bits virtual`."""
    first = text.split(" ", 1)[0]
    return int(first) if first.isdecimal() else None


def _ranges(numbers: list[int]) -> str:
    """Give numbers as the kernel writes lists of CPUs: `0-3,8-11`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)

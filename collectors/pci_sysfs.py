"""PCI functions as `/sys/bus/pci` shows them: each function's own facts, and the path on which it sits.

Nothing here asks the hardware but `read_identity`, once for each card: what is read again and again is what the kernel
keeps in memory.
Source: Documentation/ABI/testing/sysfs-bus-pci of Linux.
"""

import os
import re
import time
from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import link, names, read_integer, read_text
from collectors.pci_config import ConfigFacts, VitalData, parse_config, parse_vpd

DEVICES: Final = "sys/bus/pci/devices"
"""Where every function is listed, below the root."""
_HOST_BRIDGE: Final = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}\Z")
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")
_BRIDGES: Final = ("0604", "0607", "0609")
"""PCI to PCI, CardBus, semi-transparent: those with a bus behind them."""
_GENERATIONS: Final = {"2.5": 1, "5": 2, "5.0": 2, "8": 3, "8.0": 3, "16": 4, "16.0": 4, "32.0": 5, "64.0": 6}
"""By gigatransfers a second, as older and newer kernels write them."""
_WIDTHS: Final = frozenset({1, 2, 4, 8, 12, 16, 32})
"""What a link can be; a device that is gone reads as 63, a virtual one as 255 or 0."""
_ROM: Final = 6
_IO, _MEMORY, _PREFETCH, _WIDE = 0x100, 0x200, 0x2000, 0x100000
_RESET_S: Final = 0.1
"""What a function may take after a reset before it answers. Source: PCI Express Base Specification 6.0, 6.6."""
_VPD_BYTES: Final = 1024
"""Enough for the read-only part of every card seen; each four bytes are a slow transaction of their own."""


class UnreadableError(OSError):
    """A function is listed, and cannot be read."""


class Bar(msgspec.Struct, frozen=True):
    """One address window."""

    name: str
    """Number of the register, or `rom`."""
    size_bytes: int
    kind: str
    """`io`, `memory32` or `memory64`, with `-prefetchable` after it where it is."""


class Identity(msgspec.Struct, frozen=True):
    """What only the device itself can tell; read once, for it takes time and may wake the device."""

    config: ConfigFacts = ConfigFacts()
    vital: VitalData = VitalData()
    model: str = ""
    serial: str = ""
    firmware: str = ""
    """Of an NVMe controller, as its driver keeps them."""


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """One PCI function. Numbers that the kernel does not give are None, texts ""."""

    address: str
    inode: int
    """Of its folder: another number, another device, whatever the address."""
    path: str
    chain: tuple[str, ...]
    """Addresses of the bridges above, from the root port down."""
    vendor: str
    device: str
    subsystem_vendor: str
    subsystem: str
    pci_class: str
    revision: str
    driver: str
    driver_override: str
    numa_node: int | None
    iommu_group: int | None
    generation: int | None
    width: int | None
    bars: tuple[Bar, ...]
    reset_methods: tuple[str, ...]
    d3cold_allowed: bool | None
    boot_vga: bool | None
    label: str
    """What the firmware calls it: `Onboard LAN 1`."""
    physical: str
    """Address of the physical function, for a virtual one."""
    total_vfs: int | None
    """None for what can have no virtual functions."""
    vfs: int | None
    offset: int | None
    stride: int | None
    vf_device: str
    has_link: bool
    has_errors: bool
    """Whether the kernel counts its errors (AER)."""

    @property
    def is_bridge(self) -> bool:
        """Whether there is a bus behind it."""
        return self.pci_class[:4] in _BRIDGES


def read_function(root: Path, address: str) -> Function | None:
    """Give one function; None when it is gone. Raises UnreadableError when it is there and cannot be read."""
    folder = f"{root}/{DEVICES}/{address}"
    try:
        inode = Path(folder).stat().st_ino
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableError(f"{address}: {error}") from None
    vendor, device, pci_class = (_hex(f"{folder}/{name}") for name in ("vendor", "device", "class"))
    if not (vendor and device and pci_class):
        if not Path(folder).is_dir():  # it went while we looked
            return None
        raise UnreadableError(f"{address}: its vendor, device or class cannot be read")
    path, chain = place(link(folder))
    subsystem_vendor, subsystem = _hex(f"{folder}/subsystem_vendor"), _hex(f"{folder}/subsystem_device")
    generation, width = link_generation(f"{folder}/max_link_speed"), link_width(f"{folder}/max_link_width")
    total = read_integer(f"{folder}/sriov_totalvfs") or None
    numa_node = read_text(f"{folder}/numa_node")
    return Function(
        address=address,
        inode=inode,
        path=path,
        chain=chain,
        vendor=vendor,
        device=device,
        subsystem_vendor="" if subsystem_vendor == "0000" else subsystem_vendor,
        subsystem="" if subsystem_vendor == subsystem == "0000" else subsystem,
        pci_class=pci_class,
        revision=_hex(f"{folder}/revision"),
        driver=_target(f"{folder}/driver"),
        driver_override=read_text(f"{folder}/driver_override").replace("(null)", ""),
        numa_node=int(numa_node) if numa_node.isdecimal() else None,
        iommu_group=_number(_target(f"{folder}/iommu_group")),
        generation=generation,
        width=width,
        bars=parse_bars(read_text(f"{folder}/resource")),
        reset_methods=tuple(read_text(f"{folder}/reset_method").split()),
        d3cold_allowed=_flag(f"{folder}/d3cold_allowed"),
        boot_vga=_flag(f"{folder}/boot_vga"),
        label=read_text(f"{folder}/label"),
        physical=_target(f"{folder}/physfn"),
        total_vfs=total,
        vfs=read_integer(f"{folder}/sriov_numvfs") if total else None,
        offset=read_integer(f"{folder}/sriov_offset") or None if total else None,
        stride=read_integer(f"{folder}/sriov_stride") or None if total else None,
        vf_device=read_text(f"{folder}/sriov_vf_device").rjust(4, "0").replace("0000", "") if total else "",
        has_link=generation is not None or width is not None,
        has_errors=Path(f"{folder}/aer_dev_fatal").exists(),
    )


def read_identity(root: Path, function: Function, *, vpd: bool = True) -> Identity | None:
    """Ask the device who it is; None while it sleeps, for asking would wake it. A virtual function says nothing."""
    folder = f"{root}/{DEVICES}/{function.address}"
    if function.physical:
        return Identity()
    if asleep(folder):
        return None
    model = serial = firmware = ""
    for name in names(f"{folder}/nvme")[:1]:
        controller = f"{folder}/nvme/{name}"
        model, serial = read_text(f"{controller}/model"), read_text(f"{controller}/serial")
        firmware = read_text(f"{controller}/firmware_rev")
    return Identity(
        config=_config(f"{folder}/config"),
        vital=parse_vpd(_head(f"{folder}/vpd", _VPD_BYTES)) if vpd else VitalData(),
        model=model,
        serial=serial,
        firmware=firmware,
    )


def answers(root: Path, address: str) -> bool | None:
    """Tell whether a function answers on its bus; None when that cannot be told, or only by waking it.

    What is gone reads as all ones. A virtual function has no vendor id of its own: ask its physical one.
    """
    folder = f"{root}/{DEVICES}/{address}"
    if asleep(folder) or link(f"{folder}/physfn"):
        return None
    for pause in (0.0, _RESET_S):
        time.sleep(pause)
        head = _head(f"{folder}/config", 4)
        if len(head) < 4:
            return None
        if head != b"\xff\xff\xff\xff":
            return True
    return False


def asleep(folder: str) -> bool:
    """Tell whether the kernel has taken its power away, or most of it."""
    return read_text(f"{folder}/power/runtime_status") in ("suspended", "suspending")


def place(target: str) -> tuple[str, tuple[str, ...]]:
    """Give the path without bus numbers and the bridges above, from where a function's link points to.

    `../../../devices/pci0000:00/0000:00:02.1/0000:01:00.0` is `pci0000:00/02.1/00.0`, below `0000:00:02.1`.
    """
    words: list[str] = []
    chain: list[str] = []
    for part in target.split("/"):
        if _HOST_BRIDGE.match(part):
            words.append(f"pci:{part[-2:]}" if words else part)
            chain.clear()  # what stands for a bus of its own (VMD) is no bridge
        elif _ADDRESS.match(part):
            words.append(part[-4:])
            chain.append(part)
    return "/".join(words), tuple(chain[:-1])


def addresses_in(target: str) -> list[str]:
    """Give the PCI addresses on a path of sysfs, from the root down: the last is the function itself."""
    return [part for part in target.split("/") if _ADDRESS.match(part)]


def virtual_functions(root: Path, address: str) -> dict[str, int]:
    """Give a physical function's virtual ones, each with its index."""
    folder = f"{root}/{DEVICES}/{address}"
    found = {}
    for name in names(folder):
        if name.startswith("virtfn") and name[6:].isdecimal():
            found[_target(f"{folder}/{name}")] = int(name[6:])
    return found


def parse_bars(text: str) -> tuple[Bar, ...]:
    """Give the address windows out of the file `resource`: base registers and ROM, not what a bridge passes on."""
    bars = []
    for number, line in enumerate(text.split("\n")[: _ROM + 1]):
        try:
            first, last, flags = (int(word, 16) for word in line.split())
        except ValueError:
            continue
        if last <= first or not flags & (_IO | _MEMORY):
            continue
        kind = "io" if flags & _IO else "memory64" if flags & _WIDE else "memory32"
        name = "rom" if number == _ROM else str(number)
        bars.append(Bar(name, last - first + 1, kind + ("-prefetchable" if flags & _PREFETCH else "")))
    return tuple(bars)


def link_generation(path: str) -> int | None:
    """Give the generation of PCI Express out of `8.0 GT/s PCIe`; None for anything else."""
    return _GENERATIONS.get(read_text(path).partition(" ")[0])


def link_width(path: str) -> int | None:
    """Give the lanes of a link; None for what no link has."""
    width = read_integer(path)
    return width if width in _WIDTHS else None


def _hex(path: str) -> str:
    """Give the digits of `0x10de`; "" when the file holds no such number."""
    text = read_text(path)
    digits = text[2:].lower()
    return digits if text[:2] == "0x" and digits and all(digit in "0123456789abcdef" for digit in digits) else ""


def _target(path: str) -> str:
    """Give the last name of what a link points to; "" when there is none."""
    return link(path).rpartition("/")[2]


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _flag(path: str) -> bool | None:
    return {"0": False, "1": True}.get(read_text(path))


def _config(path: str) -> ConfigFacts:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ConfigFacts()
    try:
        return parse_config(lambda offset, size: os.pread(fd, size, offset))
    except OSError:
        return ConfigFacts()
    finally:
        os.close(fd)


def _head(path: str, size: int) -> bytes:
    """Give the first bytes of a binary file, as many as can be had."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    data = b""
    try:
        while len(data) < size:
            more = os.read(fd, size - len(data))
            if not more:
                break
            data += more
        return data
    except OSError:
        return data
    finally:
        os.close(fd)

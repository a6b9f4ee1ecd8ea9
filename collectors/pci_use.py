"""Who uses a PCI function: the host itself (what it would lose with it), or a program through vfio.

Only what is found is told. A function that nothing is known of may still be needed: a file system of many devices
(ZFS, LVM beyond device mapper) or another network namespace is not seen.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import link, names, read_text
from collectors.pci_sysfs import addresses_in

_FIRST_NAMESPACE: Final = "pid:[4026531836]"
"""Source: linux/proc_ns.h, PROC_PID_INIT_INO: from any other, some processes cannot be seen."""
_MOST_LAYERS: Final = 8
"""Bond on VLAN on bridge, LVM on RAID on partition: deeper is a ring."""
_MOST_MOUNTS: Final = 16
"""Mount points that are named for one function."""
_DEFAULT: Final = ("00000000", "00000000")
_UP: Final = 0x1
_VFIO: Final = "/dev/vfio/"


class VfioUse(msgspec.Struct, frozen=True):
    """What is open below `/dev/vfio`."""

    opened: Mapping[str, tuple[str, ...]] = {}
    """By name below `/dev/vfio` (a group's number, or `devices/vfio3`) who has it open: `<name>/<process id>`."""
    complete: bool = False
    """Whether all processes could be looked at, so that what is not here is not open."""


def host_needs(root: Path) -> dict[str, list[str]]:
    """Give by PCI address what the host keeps on it: `mount:<point>`, `swap`, `default-route`. Sorted, bounded."""
    found: dict[str, set[str]] = {}
    for point, device in _mounts(root):
        for address in _below_block(root, device, _MOST_LAYERS):
            found.setdefault(address, set()).add(f"mount:{point}")
    for name in _swaps(root):
        for address in _below_block(root, f"sys/class/block/{name}", _MOST_LAYERS):
            found.setdefault(address, set()).add("swap")
    for interface in _default_interfaces(root):
        for address in _below_interface(root, interface, _MOST_LAYERS):
            found.setdefault(address, set()).add("default-route")
    return {address: sorted(needs)[:_MOST_MOUNTS] for address, needs in found.items()}


def _mounts(root: Path) -> Iterator[tuple[str, str]]:
    """Give mount points and, below the root, the folder of the block device that each is on.

    Source: proc(5), mountinfo: major:minor is the third word; btrfs has one of its own, and names its device.
    """
    for line in read_text(root / "proc/self/mountinfo").split("\n"):
        before, dash, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if not dash or len(words) < 5 or len(rest) < 2:
            continue
        if not words[2].startswith("0:"):
            yield _plain(words[4]), f"sys/dev/block/{words[2]}"
        elif rest[1].startswith("/dev/"):
            yield _plain(words[4]), f"sys/class/block/{_block_name(root, rest[1])}"


def _plain(word: str) -> str:
    r"""Undo what mountinfo does to spaces, tabs, line ends and backslashes: `\040`."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(code, char)
    return word


def _swaps(root: Path) -> Iterator[str]:
    for line in read_text(root / "proc/swaps").split("\n")[1:]:
        words = line.split()
        if len(words) > 1 and words[1] == "partition":
            yield _block_name(root, words[0])


def _block_name(root: Path, path: str) -> str:
    """Give the kernel's name of `/dev/nvme0n1p2` or `/dev/mapper/root`, which is a link to it."""
    return (link(f"{root}{path}") or path).rpartition("/")[2]


def _below_block(root: Path, folder: str, layers: int) -> Iterator[str]:
    """Give the functions that a block device is on, through device mapper, RAID and NVMe multipath."""
    target = link(root / folder)
    found = addresses_in(target)
    if found:
        yield found[-1]
        return
    if not (target and layers):
        return
    head, _, subsystem = target.partition("/nvme-subsystem/")
    if subsystem and head:
        for controller in names(root / "sys/class/nvme-subsystem" / subsystem.split("/")[0]):
            if controller.startswith("nvme") and controller[4:].isdecimal():
                yield from _below_class(root, f"sys/class/nvme/{controller}")
        return
    *_, whole, name = ("", *target.split("/"))  # a partition has no slaves of its own
    for slave in names(root / "sys/class/block" / name / "slaves") or names(
        root / "sys/class/block" / whole / "slaves"
    ):
        yield from _below_block(root, f"sys/class/block/{slave}", layers - 1)


def _below_class(root: Path, entry: str) -> list[str]:
    return addresses_in(link(root / entry))[-1:]


def _default_interfaces(root: Path) -> set[str]:
    """Give the interfaces of the default routes of this network namespace. Source: proc(5), `net/route`."""
    found = set()
    for line in read_text(root / "proc/net/route").split("\n")[1:]:
        words = line.split()
        if len(words) >= 8 and (words[1], words[7]) == _DEFAULT and _hex_flag(words[3]):
            found.add(words[0])
    for line in read_text(root / "proc/net/ipv6_route").split("\n"):
        words = line.split()
        if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            found.add(words[9])
    return found


def _hex_flag(text: str) -> bool:
    try:
        return bool(int(text, 16) & _UP)
    except ValueError:
        return False


def _below_interface(root: Path, name: str, layers: int) -> Iterator[str]:
    """Give the functions that a network interface is on, through bonds, bridges and VLANs."""
    folder = f"sys/class/net/{name}"
    found = _below_class(root, folder)
    if found:
        yield found[0]
        return
    if layers:
        for lower in names(root / folder):
            if lower.startswith("lower_"):
                yield from _below_interface(root, lower[6:], layers - 1)


def vfio_use(root: Path) -> VfioUse:
    """Look through what all processes have open; nothing is opened for it. About 10 us a process and 2 us a file."""
    if not names(root / "sys/bus/pci/drivers/vfio-pci") and not names(root / "dev/vfio"):
        return VfioUse()
    complete = link(root / "proc/self/ns/pid") == _FIRST_NAMESPACE
    opened: dict[str, list[str]] = {}
    for process in names(root / "proc"):
        if not process.isdecimal():
            continue
        folder = f"{root}/proc/{process}/fd"
        try:
            with os.scandir(folder) as files:
                targets = [link(file.path) for file in files]
        except PermissionError:
            complete = False
            continue
        except OSError:  # it ended
            continue
        for name in sorted({text.removeprefix(_VFIO) for text in targets if text.startswith(_VFIO)}):
            opened.setdefault(name, []).append(f"{read_text(f'{root}/proc/{process}/comm')}/{process}")
    return VfioUse({name: tuple(users) for name, users in opened.items()}, complete)


def users(use: VfioUse, group: int | None, devices: list[str]) -> tuple[str, ...] | None:
    """Give who holds a function that is bound to vfio open, by its group or by one of its `vfio-dev` names.

    None when that cannot be told: nobody was seen, and not everybody could be looked at.
    """
    wanted = {f"devices/{name}" for name in devices} | (
        {str(group), f"noiommu-{group}"} if group is not None else set()
    )
    found = tuple(sorted({user for name in wanted for user in use.opened.get(name, ())}))
    return found if found or use.complete else None

"""What a device shows of itself on its node, whatever anybody said: its part, its group, its driver, and its users.

Read from the kernel below a root. What cannot be told is None, and is never taken for good.
"""

import os
import time
from pathlib import Path
from typing import Final

import msgspec

from collectors._dmi import usable
from collectors._procfs import link, names, read_text
from collectors.pci_sysfs import DEVICES, Function, UnreadableError, read_function, read_identity
from collectors.pci_use import host_needs, users, vfio_use
from schemas.claims import ClaimDevice
from schemas.device import DeviceKind

VFIO: Final = ("vfio-pci", "pci-stub", "pci-pf-stub")
"""Drivers that keep a function for others and use it for nothing; so do those that end in `_vfio_pci`."""
_NVIDIA: Final = "proc/driver/nvidia/gpus"
_NVME: Final = "010802"
_READER_S: Final = 0.3


class Reading(msgspec.Struct, frozen=True):
    """A device as it is now."""

    problem: str = ""
    """Why it cannot be read; "" when it was."""
    part: str = ""
    """The part that was asked for, when nothing contradicts it; else what is there."""
    group: int = -1
    driver: str = ""
    members: dict[str, str] = {}
    """Endpoints of its group, itself among them -> driver."""
    in_use: bool | None = None
    """Whether anything has it open; None when that cannot be told."""
    users: tuple[str, ...] = ()


def read_device(root: Path, device: ClaimDevice) -> Reading:
    """Read a device. Never raises: what goes wrong is its `problem`."""
    if device.kind == DeviceKind.NVME_NAMESPACE.value and device.parent:
        return _read_space(root, device)
    if not device.address:
        return Reading(f"nothing here can read a {device.kind} by itself")
    try:
        function = read_function(root, device.address)
    except UnreadableError as error:
        return Reading(f"{device.address} cannot be read: {error}")
    if function is None:
        return Reading(f"there is nothing at {device.address}")
    used, by = _in_use(root, function)
    return Reading(
        "",
        _part(root, device, function),
        -1 if function.iommu_group is None else function.iommu_group,
        function.driver,
        _members(root, function),
        used,
        by,
    )


def _read_space(root: Path, device: ClaimDevice) -> Reading:
    """Read a name space, which has no PCI function of its own."""
    from collectors.nvme import space

    block = space.find_block(root, device.parent, device.part)
    if block is None:
        return Reading(f"the drive at {device.parent} has no name space {device.part}")
    kept = tuple(space.uses(root, block))
    by = kept or _openers(root, set(space.nodes(block)))
    return Reading("", device.part, -1, "nvme", {}, None if by is None else bool(by), by or ())


def keeps_for_others(driver: str) -> bool:
    """Tell whether a function with this driver (or none) is off the host's own drivers."""
    return not driver or driver in VFIO or driver.endswith("_vfio_pci")


def _part(root: Path, device: ClaimDevice, function: Function) -> str:
    """Give the part that was asked for, unless the device says that it is another, or sits elsewhere.

    A part that shows no serial number (bound to vfio) is known by its place.
    """
    told = _identities(root, function)
    asked = device.part.rpartition(":")[2] if not device.part.startswith("slot:") else ""
    if asked and told:
        return device.part if any(_same(asked, one) for one in told) else f"serial:{function.vendor}:{told[0]}"
    place = _path(function)
    if device.path and place and not (device.path == place or device.path.startswith(f"{place}/")):
        return f"slot:{place}:{function.vendor}:{function.device}"
    return device.part


def _path(function: Function) -> str:
    return "" if function.physical else function.path


def _same(asked: str, told: str) -> bool:
    return asked.lower() == told.lower() or asked.lower().startswith(f"{told.lower()}.")


def _identities(root: Path, function: Function) -> list[str]:
    """Give the numbers by which a device names itself now, of all collectors; [] when it names none."""
    if function.physical:
        return []
    identity = read_identity(root, function)
    found = [usable(identity.serial), usable(identity.vital.serial)] if identity else []
    text = read_text(root / _NVIDIA / function.address / "information")
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        if name.strip() == "GPU UUID" and value.strip().startswith("GPU-") and "?" not in value:
            found.append(value.strip())
    return [one for one in found if one]


def _members(root: Path, function: Function) -> dict[str, str]:
    """Give the endpoints of its group with their drivers, by what the kernel says, not by what was told."""
    if function.iommu_group is None:
        return {function.address: function.driver}
    folder = root / "sys/kernel/iommu_groups" / str(function.iommu_group) / "devices"
    found: dict[str, str] = {}
    for address in names(folder) or [function.address]:
        try:
            member = read_function(root, address)
        except UnreadableError:
            found[address] = "unreadable"
            continue
        if member is not None and not member.is_bridge:
            found[address] = member.driver
    return found


def _in_use(root: Path, function: Function) -> tuple[bool | None, tuple[str, ...]]:
    needs = tuple(host_needs(root).get(function.address, ()))
    if needs:
        return True, needs
    folder = f"{root}/{DEVICES}/{function.address}"
    if keeps_for_others(function.driver):
        if not function.driver:
            return False, ()
        by = users(vfio_use(root), function.iommu_group, names(f"{folder}/vfio-dev"))
        return (None, ()) if by is None else (bool(by), by)
    nodes = _device_nodes(root, function)
    if nodes is None:
        return None, ()
    by = _openers(root, nodes)
    if by and function.pci_class == _NVME:  # who reads a log has a drive open for some milliseconds
        time.sleep(_READER_S)
        again = _openers(root, nodes)
        by = None if again is None else tuple(one for one in again if one in by)
    return (None, ()) if by is None else (bool(by), by)


def _device_nodes(root: Path, function: Function) -> set[str] | None:
    """Give the files below `/dev` through which a function's driver is used; None when they are not known here."""
    folder = f"{root}/{DEVICES}/{function.address}"
    found: set[str] = set()
    for controller in names(f"{folder}/nvme"):
        found.add(f"/dev/{controller}")
        for one in names(f"{folder}/nvme/{controller}"):
            if one.startswith("nvme") and "n" in one[4:]:
                found.add(f"/dev/{one}")
                found |= {f"/dev/{part}" for part in names(f"{folder}/nvme/{controller}/{one}") if part.startswith(one)}
    if function.driver == "nvidia":
        for line in read_text(root / _NVIDIA / function.address / "information").split("\n"):
            name, _, value = line.partition(":")
            if name.strip() == "Device Minor" and value.strip().isdecimal():
                found.add(f"/dev/nvidia{value.strip()}")
    return found or None


def _openers(root: Path, nodes: set[str]) -> tuple[str, ...] | None:
    """Give who has any of these files open, `<name>/<process id>`; None when not everybody could be looked at."""
    found: set[str] = set()
    complete = True
    for process in names(root / "proc"):
        if not process.isdecimal():
            continue
        try:
            with os.scandir(f"{root}/proc/{process}/fd") as files:
                opened = {link(file.path) for file in files}
        except PermissionError:
            complete = False
            continue
        except OSError:  # it ended
            continue
        if opened & nodes:
            found.add(f"{read_text(f'{root}/proc/{process}/comm')}/{process}")
    return tuple(sorted(found)) if found or complete else None

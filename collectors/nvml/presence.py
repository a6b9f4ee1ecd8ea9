"""Whether there is an NVIDIA GPU with its driver on this machine, told from files: nothing is loaded for it."""

import re
from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import link, names, read_text
from collectors.pci_sysfs import DEVICES
from schemas.device import pci_address

_VERSION: Final = "proc/driver/nvidia/version"
_GPUS: Final = "proc/driver/nvidia/gpus"
_NODES: Final = ("dev/nvidiactl", "dev/dxg")
"""What the library opens: the driver's own node, and that of WSL 2."""
_VENDOR: Final = "0x10de"
_MODULE: Final = re.compile(r"(?:Kernel Module(?: for \w+)?|Open Kernel Module(?: for \w+)?)\s+(\d+(?:\.\d+)+)")
_NOTHING: Final = "There is no NVIDIA GPU here."


class Presence(msgspec.Struct, frozen=True):
    """What the kernel shows of NVIDIA's GPUs."""

    drivers: dict[str, str] = {}
    """PCI address of each GPU -> the kernel's driver that has it, "" for none."""
    version: str = ""
    """Of the loaded kernel module; "" when none is loaded, or it does not say."""
    node: bool = False
    """Whether there is a device file that the library opens."""

    @property
    def missing(self) -> str:
        """One sentence that says why the library would show nothing, and what to do; "" when it may show something."""
        if self.node or self.version:
            return ""
        if not self.drivers:
            return _NOTHING
        held = {driver for driver in self.drivers.values() if driver and driver != "nvidia"}
        count = len(self.drivers)
        if held and all(self.drivers.values()) and "nvidia" not in self.drivers.values():
            return (
                f"{count} NVIDIA GPUs are bound to {', '.join(sorted(held))}: NVIDIA's driver does not show them. "
                "The collector pci describes them."
            )
        return f"{count} NVIDIA GPUs are here, and NVIDIA's driver is not loaded: modprobe nvidia, or install it."


def look(root: Path) -> Presence:
    """Look below a root. Never raises."""
    drivers = {}
    for address in names(root / DEVICES):
        folder = f"{root}/{DEVICES}/{address}"
        if read_text(f"{folder}/vendor") == _VENDOR and read_text(f"{folder}/class").startswith("0x03"):
            drivers[address] = link(f"{folder}/driver").rpartition("/")[2]
    text = read_text(root / _VERSION)
    found = _MODULE.search(text)
    version = found[1] if found else ("unknown" if text else "")
    return Presence(drivers, version, any((root / node).exists() for node in _NODES))


def driven(root: Path) -> frozenset[str]:
    """Give the addresses of the GPUs that the driver has now, as it lists them itself."""
    found = set()
    for name in names(root / _GPUS):
        try:
            found.add(pci_address(name))
        except ValueError:
            continue
    return frozenset(found)

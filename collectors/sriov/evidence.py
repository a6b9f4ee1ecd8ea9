"""What a port says that a virtual function has, for the evidence that the ledger checks: VLAN and MAC address."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from collectors._procfs import link
from collectors.pci_sysfs import DEVICES, virtual_functions
from collectors.sriov.kernel import Kernel, kernel_of, read_link
from collectors.sriov.netlink import NetlinkError
from collectors.sriov.sysfs import read_interfaces


class Shown(msgspec.Struct, frozen=True):
    """What a virtual function has."""

    vlan: int | None = None
    """0 for none; None when it cannot be told."""
    mac: str = ""
    """What its port gave it; "" for none, and when it cannot be told."""


def shown(root: Path, address: str, kernel: Callable[[Path], Kernel] = kernel_of) -> Shown:
    """Ask the port of the function at an address. Raises nothing: what cannot be told proves nothing."""
    parent = link(root / DEVICES / address / "physfn").rpartition("/")[2]
    if not parent:
        return Shown()
    index = virtual_functions(root, parent).get(address)
    uplink = next((one for one in read_interfaces(root).get(parent, []) if one.uplink), None)
    if index is None or uplink is None:
        return Shown()
    asked = kernel(root)
    try:
        told = read_link(asked, uplink.index, counters=False).vfs
    except (OSError, NetlinkError):
        return Shown()
    finally:
        asked.close()
    return next((Shown(vf.vlan, vf.mac) for vf in told if vf.index == index), Shown())

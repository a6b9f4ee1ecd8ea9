"""Network functions as `/sys` shows them: ports, their virtual functions, and the interfaces of each.

What belongs together is found by PCI address: `virtfn3` leads to a function, the function's folder has its interface.
Neither the order of addresses nor that of interfaces says which function is which.
Source: Documentation/ABI/testing/sysfs-bus-pci, sysfs-class-net of Linux.
"""

import re
from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import link, names, read_integer, read_text
from collectors.pci_sysfs import DEVICES, addresses_in, place, virtual_functions

NETWORK: Final = "0x02"
"""Base class of network controllers."""
_CLASS: Final = "sys/class/net"
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")
_BETWEEN: Final = re.compile(r"(?:virtio\d+)?\Z")
"""What may stand between a function and its interface: nothing, or virtio. What is on USB, or a subfunction of the
port (`mlx5_core.sf.2`), is not the function's own."""
_REPRESENTOR: Final = re.compile(r"pf(?P<port>\d+)vf(?P<vf>\d+)\Z")
"""With `c1` before it, it stands for a function of another host: that in which this DPU sits.

Source: Documentation/networking/switchdev.rst and devlink-port.rst, `phys_port_name`.
"""
_CLOUD: Final = "OracleCloud.com"
_TAG: Final = "sys/class/dmi/id/chassis_asset_tag"
"""Source: docs.oracle.com, "Getting Instance Metadata"; cloud-init looks at the same."""
_MBIT_BYTES: Final = 125_000
_UNKNOWN_SPEED: Final = 2**32 - 1


class Interface(msgspec.Struct, frozen=True):
    """A network interface of a function."""

    name: str
    index: int
    port: int
    """Which port of the function it is on (`dev_port`); 0 for the first."""
    port_name: str
    switch_id: str

    @property
    def stands_for(self) -> int | None:
        """Which virtual function it stands for (a representor); None for an interface of its own."""
        found = _REPRESENTOR.match(self.port_name)
        return int(found["vf"]) if found else None

    @property
    def uplink(self) -> bool:
        """Whether it is the way to the wire: neither a representor of a function nor one of a subfunction."""
        return not re.match(r"(?:c\d+)?pf\d", self.port_name)


class VirtualPort(msgspec.Struct, frozen=True):
    """A virtual function of a port."""

    address: str
    inode: int
    """Of its folder: a function that is made anew has another."""
    index: int
    driver: str
    has_group: bool
    """Whether it is in an IOMMU group, and so can be given to a program."""
    interface: Interface | None = None
    """None when the host has none: it is bound to vfio, or given away."""
    representor: Interface | None = None
    """What stands for it on the host's side of the switch in the card."""


class Port(msgspec.Struct, frozen=True):
    """A physical function."""

    address: str
    inode: int
    path: str
    driver: str
    has_group: bool
    total_vfs: int | None
    """None for what can have no virtual functions."""
    vfs: tuple[VirtualPort, ...]
    interface: Interface | None = None
    """Its first uplink; None when the host's network does not have it."""


def read_ports(root: Path) -> list[Port]:
    """Give every physical network function on the PCI bus, in the order of addresses; [] without any."""
    interfaces = read_interfaces(root)
    folder = root / DEVICES
    found = []
    for address in names(folder):
        if read_text(f"{folder}/{address}/class")[:4] == NETWORK and not link(f"{folder}/{address}/physfn"):
            port = _port(root, address, interfaces)
            if port is not None:
                found.append(port)
    return found


def read_interfaces(root: Path) -> dict[str, list[Interface]]:
    """Give the interfaces of PCI functions, by address, the first port's first."""
    found: dict[str, list[Interface]] = {}
    for name in names(root / _CLASS):
        above, net, _ = link(root / _CLASS / name).rpartition("/net/")
        addresses = addresses_in(above)
        if not (net and addresses) or not _BETWEEN.match(above.rpartition(f"{addresses[-1]}")[2].lstrip("/")):
            continue
        folder = f"{root}/{_CLASS}/{name}"
        index = read_integer(f"{folder}/ifindex")
        if index:
            port_name, switch_id = read_text(f"{folder}/phys_port_name"), read_text(f"{folder}/phys_switch_id")
            one = Interface(name, index, read_integer(f"{folder}/dev_port") or 0, port_name, switch_id)
            found.setdefault(addresses[-1], []).append(one)
    for several in found.values():
        several.sort(key=lambda one: (one.port, one.index))
    return found


def _port(root: Path, address: str, interfaces: dict[str, list[Interface]]) -> Port | None:
    folder = f"{root}/{DEVICES}/{address}"
    inode = _inode(folder)
    if inode is None:
        return None
    own = interfaces.get(address, [])
    uplink = next((one for one in own if one.uplink), None)
    stand_ins = _representors(own, uplink)
    return Port(
        address,
        inode,
        place(link(folder))[0],
        link(f"{folder}/driver").rpartition("/")[2],
        bool(link(f"{folder}/iommu_group")),
        read_integer(f"{folder}/sriov_totalvfs") or None,
        _virtual(root, address, interfaces, stand_ins),
        uplink,
    )


def _representors(own: list[Interface], uplink: Interface | None) -> dict[int, Interface]:
    """Give a port's representors by virtual function: those on the same switch, and of the same port of the card."""
    number = uplink.port_name.removeprefix("p") if uplink else ""
    found: dict[int, Interface] = {}
    for one in own:
        match = _REPRESENTOR.match(one.port_name)
        if match and uplink and one.switch_id == uplink.switch_id and number in ("", match["port"]):
            found.setdefault(int(match["vf"]), one)
    return found


def _virtual(
    root: Path, address: str, interfaces: dict[str, list[Interface]], stand_ins: dict[int, Interface]
) -> tuple[VirtualPort, ...]:
    found = []
    for virtual, index in virtual_functions(root, address).items():
        folder = f"{root}/{DEVICES}/{virtual}"
        inode = _inode(folder)
        if inode is not None and _ADDRESS.match(virtual):
            driver = link(f"{folder}/driver").rpartition("/")[2]
            own = next((one for one in interfaces.get(virtual, []) if one.uplink), None)
            has_group = bool(link(f"{folder}/iommu_group"))
            found.append(VirtualPort(virtual, inode, index, driver, has_group, own, stand_ins.get(index)))
    return tuple(sorted(found, key=lambda one: one.index))


def _inode(folder: str) -> int | None:
    try:
        return Path(folder).stat().st_ino
    except OSError:
        return None


def link_rate(root: Path, interface: str) -> int | None:
    """Give the rate of an interface in bytes a second, one way; None without carrier, or when it tells none.

    The driver is asked, under the lock of all interfaces: not for every reading.
    """
    speed = read_integer(root / _CLASS / interface / "speed")
    return speed * _MBIT_BYTES if speed and speed < _UNKNOWN_SPEED else None


def duplex(root: Path, interface: str) -> str | None:
    """Give `full` or `half`; None when it is not told."""
    found = read_text(root / _CLASS / interface / "duplex")
    return found if found in ("full", "half") else None


def in_cloud(root: Path) -> bool:
    """Tell whether this machine is an instance in the cloud whose metadata is known."""
    return read_text(root / _TAG) == _CLOUD

"""Where the devices of a simulated node sit: PCI tree, IOMMU groups, NUMA nodes and the graph of links.

A layout depends on the type alone, so that all nodes of a type share one. Paths are written without bus numbers,
which move between boots, as `schemas.device.Slot` says: `pci0000:00/01.0/00.0/02.0/00.0` is the root complex, then
device and function of the root port, of a switch's upstream and downstream port, and of the device itself.
"""

from typing import Final

import msgspec

from collectors.simulated.models import CUBE_MESH, GPU_MODELS
from collectors.simulated.spec import NodeType
from schemas.device import pci_address
from schemas.errors import ConfigError

FUNCTIONS_PER_BUS: Final = 256
FIRST_VF_OFFSET: Final = 8
"""Routing id of a port's first virtual function, counted from the port's own."""


class Place(msgspec.Struct, frozen=True):
    """Where one PCI function sits."""

    address: str
    path: str
    numa_node: int
    iommu_group: int
    root: str
    """Address of the root port above it."""
    switch: str = ""
    """Address of the upstream port of the switch above it; "" without a switch."""
    location: str = ""


class Layout(msgspec.Struct, frozen=True):
    """Where everything of one type of node sits."""

    gpus: tuple[Place, ...]
    nvmes: tuple[Place, ...]
    ports: tuple[Place, ...]
    vfs: tuple[tuple[Place, ...], ...]
    """For each port its virtual functions, by index."""
    switches: tuple[Place, ...]
    links: tuple[tuple[int, ...], ...]
    """NVLinks between each pair of GPUs; () without links. Behind a switch every pair may use all of them."""
    groups: dict[int, tuple[str, ...]] = {}
    """Addresses of the members of each IOMMU group, sorted, those of switches among them."""
    dpus: tuple[Place, ...] = ()


class _Complex:
    """The root complex of one socket: gives out buses and root ports."""

    def __init__(self, socket: int, sockets: int) -> None:
        self.socket = socket
        self.bus = socket * (256 // sockets)
        self.end = self.bus + 256 // sockets
        self._next_bus = self.bus + 1
        self._ports = 0

    def root_port(self) -> tuple[str, str]:
        """Give address and path of a new root port."""
        self._ports += 1
        device = self._ports
        if device > 31:
            raise ConfigError(f"types: more than 31 root ports on socket {self.socket}; use switches")
        return _address(self.bus, device), f"pci0000:{self.bus:02x}/{device:02x}.0"

    def take_buses(self, count: int) -> int:
        """Give the first of `count` new bus numbers."""
        first = self._next_bus
        self._next_bus += count
        if self._next_bus > self.end:
            raise ConfigError(f"types: socket {self.socket} runs out of PCI buses; use fewer devices or functions")
        return first


class _Hub:
    """A point to attach devices to: a switch, or a socket's own root ports."""

    def __init__(self, root_complex: _Complex, groups: "_Groups", *, switched: bool, acs: bool) -> None:
        self.complex = root_complex
        self.groups = groups
        self.upstream = ""
        self.shared: int | None = None
        if switched:
            self.root, self.path = root_complex.root_port()
            bus = root_complex.take_buses(2)
            self.upstream, self.inside = _address(bus, 0), bus + 1
            self.path += "/00.0"
            self.ports = 0
            self.bridge_group = groups.new()
            self.shared = None if acs else self.bridge_group

    def attach(self, buses: int, location: str) -> Place:
        """Give the place of a new device that needs `buses` buses."""
        if self.upstream:
            root, path = self.root, f"{self.path}/{self.ports:02x}.0"
            self.ports += 1
        else:
            root, path = self.complex.root_port()
        return Place(
            address=_address(self.complex.take_buses(buses), 0),
            path=path + "/00.0",
            numa_node=self.complex.socket,
            iommu_group=self.group(),
            root=root,
            switch=self.upstream,
            location=location,
        )

    def group(self) -> int:
        """Give the IOMMU group of a function attached here."""
        return self.groups.new() if self.shared is None else self.shared


class _Groups:
    """Gives out numbers of IOMMU groups that nobody chose by hand."""

    def __init__(self, taken: set[int]) -> None:
        self._taken = taken
        self._next = 0

    def new(self) -> int:
        """Give the next free number."""
        while self._next in self._taken:
            self._next += 1
        self._next += 1
        return self._next - 1


def layout(node_type: NodeType) -> Layout:
    """Lay out a type of node. Raises ConfigError when it does not fit on its buses or contradicts itself."""
    groups = _Groups({slot.iommu_group for slot in node_type.gpu.slots})
    complexes = [_Complex(socket, node_type.sockets) for socket in range(node_type.sockets)]
    hubs = [
        _Hub(complexes[index * node_type.sockets // node_type.switches], groups, switched=True, acs=node_type.acs)
        for index in range(node_type.switches)
    ] or [_Hub(each, groups, switched=False, acs=True) for each in complexes]
    gpus = _given(node_type) if node_type.gpu.slots else _spread(hubs, node_type.gpu.count, "GPU")
    nvmes = _spread(hubs, node_type.nvme.count, "BAY")
    ports, vfs = _ports(hubs, node_type)
    dpus = _spread(hubs, node_type.dpu.count, "DPU")
    switches = tuple(
        Place(hub.upstream, hub.path, hub.complex.socket, hub.bridge_group, hub.root) for hub in hubs if hub.upstream
    )
    members = _members(gpus, nvmes, ports, switches, dpus, *vfs)
    made = Layout(gpus, nvmes, ports, vfs, switches, _links(node_type), members, dpus)
    _check_distinct(made)
    return made


def _address(bus: int, device: int, function: int = 0) -> str:
    return f"0000:{bus:02x}:{device:02x}.{function}"


def _spread(hubs: list[_Hub], count: int, word: str) -> tuple[Place, ...]:
    """Attach devices evenly, neighbours together."""
    return tuple(hubs[index * len(hubs) // count].attach(1, f"{word} {index + 1}") for index in range(count))


def _ports(hubs: list[_Hub], node_type: NodeType) -> tuple[tuple[Place, ...], tuple[tuple[Place, ...], ...]]:
    """Attach the network ports, and put their virtual functions behind them."""
    ports, families = [], []
    nic = node_type.nic
    for index in range(nic.ports):
        vfs = nic.vfs * (index + 1) // nic.ports - nic.vfs * index // nic.ports
        buses = (FIRST_VF_OFFSET + vfs + FUNCTIONS_PER_BUS - 1) // FUNCTIONS_PER_BUS
        hub = hubs[index * len(hubs) // nic.ports]
        port = hub.attach(buses, f"CPU{hub.complex.socket + 1} SLOT{index + 1}")
        ports.append(port)
        families.append(tuple(_virtual(port, number, hub.group()) for number in range(vfs)))
    return tuple(ports), tuple(families)


def _virtual(port: Place, index: int, group: int) -> Place:
    """Put a virtual function behind its port, at the port's routing id plus offset plus index."""
    routing = (int(port.address[5:7], 16) << 8) + FIRST_VF_OFFSET + index
    bus, device, function = routing >> 8, routing >> 3 & 0x1F, routing & 7
    return msgspec.structs.replace(
        port,
        address=_address(bus, device, function),
        path=f"{port.path}/vf{index}",
        iommu_group=group,
        location="",
    )


def _members(*kinds: tuple[Place, ...]) -> dict[int, tuple[str, ...]]:
    """Give the members of each group."""
    groups: dict[int, list[str]] = {}
    for place in (place for places in kinds for place in places):
        groups.setdefault(place.iommu_group, []).append(place.address)
    return {group: tuple(sorted(addresses)) for group, addresses in groups.items()}


def _given(node_type: NodeType) -> tuple[Place, ...]:
    """Place GPUs by hand. Those of one group sit below one switch that does not keep them apart."""
    spec = node_type.gpu
    if len(spec.slots) != spec.count:
        raise ConfigError(
            f"types: gpu.slots lists {len(spec.slots)} places for {spec.count} GPUs; give one each or none"
        )
    members: dict[int, int] = {}
    sizes = [slot.iommu_group for slot in spec.slots]
    switch_of: dict[int, str] = {}
    places = []
    for slot in spec.slots:
        if slot.numa_node >= node_type.sockets:
            raise ConfigError(f"types: gpu.slots {slot.address}: there is no NUMA node {slot.numa_node}")
        try:
            address = pci_address(slot.address)
        except ValueError as error:
            raise ConfigError(f"types: gpu.slots: {error}") from None
        bus = int(address[5:7], 16)
        complex_bus = bus & 0xE0
        nth = members.get(slot.iommu_group, 0)
        members[slot.iommu_group] = nth + 1
        path, switch = f"pci0000:{complex_bus:02x}/01.0", ""
        if sizes.count(slot.iommu_group) > 1:
            switch = switch_of.setdefault(slot.iommu_group, _address(max(bus - 2, 0), 0))
            path += f"/00.0/{nth:02x}.0"
        places.append(
            Place(
                address,
                path + "/00.0",
                slot.numa_node,
                slot.iommu_group,
                _address(complex_bus, 1),
                switch,
                slot.location,
            )
        )
    return tuple(places)


def _links(node_type: NodeType) -> tuple[tuple[int, ...], ...]:
    """Give the graph of NVLinks."""
    spec = node_type.gpu
    model = GPU_MODELS[spec.model]
    if spec.links == "none" or not model.nvlinks or spec.count < 2:
        return ()
    if spec.links == "switch":
        return tuple(tuple(0 if a == b else model.nvlinks for b in range(spec.count)) for a in range(spec.count))
    if spec.count != len(CUBE_MESH) or model.nvlinks != sum(CUBE_MESH[0]):
        raise ConfigError("types: gpu.links 'cube-mesh' is for 8 GPUs of 6 links each (V100-SXM2)")
    return CUBE_MESH


def _check_distinct(made: Layout) -> None:
    """Check that no two devices share an address or a place. Raises ConfigError that names both."""
    addresses: dict[str, Place] = {}
    paths: dict[str, Place] = {}
    for place in (*made.gpus, *made.nvmes, *made.ports, *made.dpus, *(vf for family in made.vfs for vf in family)):
        if place.address in addresses:
            raise ConfigError(f"types: two devices at {place.address}; choose another address in gpu.slots")
        other = paths.get(place.path)
        if other is not None:
            raise ConfigError(
                f"types: {other.address} and {place.address} would sit in one place, {place.path}: of GPUs in different"
                " groups that gpu.slots lists, and of other devices, only one fits into each 32 buses (00-1f, 20-3f"
                " ...); choose another address in gpu.slots"
            )
        addresses[place.address] = paths[place.path] = place

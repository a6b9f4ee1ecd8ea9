"""PCI functions become capability documents: what each is, where it sits, what the bus and the kernel make of it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from collectors._dmi import usable
from collectors.pci_bus import Bus
from collectors.pci_names import PciNames
from collectors.pci_sysfs import Function, Identity
from schemas.capabilities import MAX_GROUP_MEMBERS
from schemas.device import DeviceKind, Document, Part, Slot, Value

LINK_METRICS: Final = (
    "pci.link_generation",
    "pci.link_rate_bytes_per_second",
    "pci.link_width",
    "pci.link_width_ratio",
)
ERROR_METRICS: Final = (
    "pci.bad_dllp_total",
    "pci.bad_tlp_total",
    "pci.corrected_errors_total",
    "pci.fatal_errors_total",
    "pci.nonfatal_errors_total",
    "pci.receiver_errors_total",
    "pci.replay_rollovers_total",
    "pci.replay_timeouts_total",
)
_GPU_VENDORS: Final = frozenset({"10de", "1002", "8086"})
"""Whose display controllers compute; the others' are consoles of a BMC or of a virtual machine."""
_ABOVE: Final = ("pcie_root", "pcie_switch")
_UPSTREAM: Final = 5
"""The port type of a switch's port toward the root."""
_PORTS_ABOVE: Final = 3
"""Root port, upstream and downstream port: the least that a device behind a switch has above it."""


class Known(msgspec.Struct, frozen=True):
    """What is known of a function beside its folder."""

    identity: Identity | None
    """None when it could not be asked yet."""
    answers: bool | None = None
    needs: tuple[str, ...] = ()
    users: tuple[str, ...] | None = None
    """Who holds it through vfio; None when that cannot be told."""


def device_id(address: str) -> str:
    """Give the id under which this collector knows a function."""
    return f"pci:{address}"


def kind_of(function: Function) -> DeviceKind:
    """Say what a function is, by its class. Source: PCI Code and ID Assignment Specification 1.15."""
    pci_class, vendor = function.pci_class, function.vendor
    if function.physical:
        return DeviceKind.VF
    if pci_class[:4] == "0302" or (pci_class[:2] == "03" and vendor in _GPU_VENDORS):
        return DeviceKind.GPU
    if pci_class[:4] == "1200" and vendor == "1002":  # Instinct accelerators are no display controllers
        return DeviceKind.GPU
    if pci_class[:2] == "02":
        return DeviceKind.NIC
    if pci_class == "010802":
        return DeviceKind.NVME
    return DeviceKind.PCI_FUNCTION


def describe_bus(bus: Bus, known: dict[str, Known], names: PciNames) -> Iterator[Document]:
    """Give one document for each function, in the order of their addresses."""
    serials = {
        address: _serial(function, known.get(address, Known(None))) for address, function in bus.functions.items()
    }
    keys = {address: _key(address, known.get(address, Known(None))) for address in bus.functions}
    said, stated = Counter(serials.values()), Counter(keys.values())
    for address, function in bus.functions.items():
        serial, key = serials[address], keys[address]
        own = [key] if stated[key] == 1 and key != device_id(address) else []
        found = _document(bus, function, known, names, [*own, device_id(address)])
        if serial and said[serial] == 1:  # a number that several say identifies none of them
            found = msgspec.structs.replace(found, part=msgspec.structs.replace(found.part, serial=serial))
        yield found


def _key(address: str, known: Known) -> str:
    """Give the key that follows a function from slot to slot; cards of some makers all carry one number."""
    serial = known.identity.config.serial if known.identity else ""
    return f"pci-serial:{serial}.{address[-1]}" if serial else device_id(address)


def _serial(function: Function, known: Known) -> str:
    """Give the serial number of a function's part. A GPU's is what its driver says, and nothing else is like it."""
    if known.identity is None or kind_of(function) is DeviceKind.GPU:
        return ""
    card = usable(known.identity.serial) or usable(known.identity.vital.serial)
    return card if not card or function.address.endswith(".0") else f"{card}.{function.address[-1]}"


def _document(bus: Bus, function: Function, all_known: dict[str, Known], names: PciNames, keys: list[str]) -> Document:
    known = all_known.get(function.address, Known(None))
    identity = known.identity or Identity()
    facts = _facts(bus, function, known) | dict(zip(_ABOVE, _above(function, all_known), strict=True))
    return Document(
        device_id(function.address),
        kind_of(function),
        merge_keys=keys,
        parent=device_id(function.physical) if function.physical in bus.functions else "",
        slot=Slot(path=bus.path(function), location=bus.location(function), address=function.address),
        part=Part(
            vendor=names.vendor(function.vendor),
            model=identity.model or names.device(function.vendor, function.device),
            part_number=usable(identity.vital.part_number),
            revision=function.revision,
            firmware=identity.firmware,
        ),
        capabilities={name: value for name, value in facts.items() if value is not None and value != []},
        unsupported=sorted(_unsupported(function)),
    )


def _facts(bus: Bus, function: Function, known: Known) -> dict[str, Value | None]:
    """Give the words of `schemas.capabilities.PCI_WORDS`; None or [] for what is not known."""
    identity = known.identity or Identity()
    memory = [bar.size_bytes for bar in function.bars if bar.kind.startswith("memory") and bar.name != "rom"]
    return {
        "pci_vendor_id": function.vendor,
        "pci_device_id": function.device,
        "pci_subsystem_vendor_id": function.subsystem_vendor or None,
        "pci_subsystem_id": function.subsystem or None,
        "pci_class": function.pci_class,
        "pci_serial": identity.config.serial or None,
        "card_serial": usable(identity.vital.serial) or None,
        "pci_slot": bus.slot(function) or None,
        "bridge": True if function.is_bridge else None,
        "acs": identity.config.acs if function.is_bridge else None,
        "driver": function.driver,
        "driver_override": function.driver_override or None,
        "numa_node": function.numa_node,
        **_group(bus, function),
        "pcie_generation": function.generation,
        "pcie_width": function.width,
        "bars": [f"{bar.name}:{bar.size_bytes}:{bar.kind}" for bar in function.bars],
        "bar_memory_bytes": sum(memory) or None,
        "reset_methods": list(function.reset_methods),
        "d3cold_allowed": function.d3cold_allowed,
        "boot_vga": function.boot_vga,
        "sriov_total_vfs": function.total_vfs,
        "sriov_vfs": function.vfs,
        "sriov_offset": function.offset,
        "sriov_stride": function.stride,
        "sriov_vf_device_id": function.vf_device or None,
        "vf_index": bus.indexes.get(function.address),
        "host_needs": list(known.needs),
        "in_use_by": list(known.users or ()),
        "vfio_in_use": None if known.users is None else bool(known.users),
    }


def _group(bus: Bus, function: Function) -> dict[str, Value | None]:
    if function.iommu_group is None:
        return {}
    members = bus.groups.get(function.iommu_group, [])
    bridges = [each for each in members if each in bus.functions and bus.functions[each].is_bridge]
    if len(members) > MAX_GROUP_MEMBERS:
        members = []
    return {
        "iommu_group": function.iommu_group,
        "iommu_group_members": list(members),
        "iommu_group_bridges": list(bridges),
    }


def _above(function: Function, known: dict[str, Known]) -> tuple[str | None, str | None]:
    """Give the root port and the upstream port of the nearest switch above.

    Ports say what they are, to root; else it is counted: below a root port, every switch is two ports.
    """
    chain = function.chain
    if not chain:
        return None, None
    kinds = {address: _port_type(address, known) for address in chain}
    if any(kind is not None for kind in kinds.values()):
        return chain[0], next((address for address in reversed(chain) if kinds[address] == _UPSTREAM), None)
    return chain[0], chain[-2] if len(chain) >= _PORTS_ABOVE else None


def _port_type(address: str, known: dict[str, Known]) -> int | None:
    identity = known.get(address, Known(None)).identity
    return identity.config.port_type if identity else None


def _unsupported(function: Function) -> Iterable[str]:
    if function.physical:  # its link and its errors are those of the physical function
        return (*LINK_METRICS, *ERROR_METRICS, "pci.power_state")
    return (*(() if function.has_link else LINK_METRICS), *(() if function.has_errors else ERROR_METRICS))

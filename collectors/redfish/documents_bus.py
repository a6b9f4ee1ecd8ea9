"""What sits on a machine's PCI bus, as its BMC tells of it: NVMe drives, GPUs and other accelerators, network ports.

Their identities are those of the node's own collectors: NVMe serial number, NVIDIA's GPU UUID, a port's MAC address.

Source: Redfish Drive 1.20, Processor 1.20, NetworkAdapter 1.11, NetworkDeviceFunction 1.11, PCIeDevice 1.16.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from collectors._dmi import usable, usable_uuid
from collectors.redfish.documents_board import (
    Found,
    condition,
    count,
    mebibytes,
    part_of,
    serial_of,
    there,
    told,
)
from collectors.redfish.location import Places, of_device
from collectors.redfish.naming import owner, part_id
from collectors.redfish.resource import Resource, link, links, member, number, objects, text, uri
from schemas.device import DeviceKind, Document, Slot, Value

_GIGABIT_BYTES: Final = 125_000_000
_MOST_GIGABITS: Final = 1_000_000
"""What no port has."""
_ACCELERATORS: Final = frozenset({"gpu", "accelerator"})
_NVME: Final = frozenset({"nvme", "pcie", "nvmeoverfabrics"})
_DPU: Final = ("bluefield", "dpu", "pensando")
_HEX: Final = re.compile(r"0[xX]([0-9a-fA-F]{4})\Z")
_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_GENERATION: Final = re.compile(r"Gen(\d)\Z")
_NO_MAC: Final = frozenset({"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"})


def drives(label: str, found: Found, places: Places) -> Iterator[Document]:
    """Describe the NVMe drives. One of which the BMC knows neither number nor model it has not seen."""
    for drive in found.get("Drive", ()):
        protocol = text(drive, "Protocol").lower()
        known = serial_of(drive) or usable(text(drive, "Model"))
        if there(drive) and known and protocol in _NVME:
            yield _drive(drive, protocol, part_id(DeviceKind.NVME, label, uri(drive)), places)


def _drive(drive: Resource, protocol: str, device: str, places: Places) -> Document:
    serial = serial_of(drive)
    predicted = drive.get("FailurePredicted")
    return Document(
        device,
        DeviceKind.NVME,
        merge_keys=[f"nvme:{serial}", f"serial:{serial}"] if serial else [],
        slot=Slot(location=places.of(drive)),
        part=part_of(drive, firmware=text(drive, "Revision")),
        capabilities=told(
            {
                "capacity_bytes": count(drive, "CapacityBytes"),
                "drive_protocol": protocol,
                "failure_predicted": True if predicted is True else None,
                **condition(drive),
            }
        ),
    )


def gpus(label: str, found: Found, places: Places) -> Iterator[Document]:
    """Describe GPUs and other accelerators; their memory is theirs."""
    devices = {uri(one): one for one in found.get("PCIeDevice", ())}
    functions = {uri(one): one for one in found.get("PCIeFunction", ())}
    modules = {uri(one): one for one in found.get("Chassis", ()) if text(one, "ChassisType").lower() == "module"}
    memory = _memory(found)
    for gpu in found.get("Processor", ()):
        if text(gpu, "ProcessorType").lower() not in _ACCELERATORS or "/SubProcessors/" in uri(gpu) or not there(gpu):
            continue
        inside = member(gpu, "Links")
        own = links(inside, "PCIeFunctions")
        ways = [path for path in (link(inside, "PCIeDevice"), *map(of_device, own)) if path]
        beside = [modules.get(link(inside, "Chassis"), {}), *(devices.get(path, {}) for path in ways)]
        place = places.of(gpu, *beside, devices=ways)
        function = next((functions[path] for path in own if path in functions), {})
        interface = member(member(gpu, "SystemInterface"), "PCIe") or _interface(
            devices.get(ways[0], {}) if ways else {}
        )
        yield _gpu(gpu, part_id(DeviceKind.GPU, label, uri(gpu)), place, {
            "memory_bytes": memory.get(uri(gpu)), **_bus(function), **_width(interface)})  # fmt: skip


def near(label: str, found: Found) -> Iterator[tuple[str, str]]:
    """Yield paths of what is a GPU's alone (its chassis, its PCI device, its memory), each with the GPU's id."""
    modules = {uri(one) for one in found.get("Chassis", ()) if text(one, "ChassisType").lower() == "module"}
    for gpu in found.get("Processor", ()):
        if text(gpu, "ProcessorType").lower() in _ACCELERATORS:
            inside = member(gpu, "Links")
            chassis = link(inside, "Chassis")
            own = [link(inside, "PCIeDevice"), *links(inside, "Memory"), chassis if chassis in modules else ""]
            for path in own:
                if path:
                    yield path, part_id(DeviceKind.GPU, label, uri(gpu))


def _gpu(gpu: Resource, device: str, place: str, facts: dict[str, Value | None]) -> Document:
    uuid, serial = usable_uuid(text(gpu, "UUID")), serial_of(gpu)
    if uuid and "nvidia" in text(gpu, "Manufacturer").lower():
        uuid = f"GPU-{uuid}"
    keys = [f"gpu:{uuid}" if uuid else "", f"serial:{serial}" if serial else ""]
    return Document(
        device,
        DeviceKind.GPU,
        merge_keys=[key for key in keys if key],
        slot=Slot(location=place),
        part=part_of(gpu, uuid=uuid),
        capabilities=told({**facts, **condition(gpu)}),
    )


def _memory(found: Found) -> dict[str, int]:
    """Give the bytes of memory that are a processor's own, by its path."""
    owned: dict[str, int] = {}
    for module in found.get("Memory", ()):
        size = mebibytes(module)
        whose = links(member(module, "Links"), "Processors")
        if text(module, "MemoryDeviceType").upper()[:3] == "HBM" and size and len(whose) == 1 and there(module):
            owned[whose[0]] = owned.get(whose[0], 0) + size
    return owned


def nics(label: str, found: Found, places: Places) -> Iterator[Document]:
    """Describe network functions by their MAC addresses; a card that shows none is described as a whole."""
    functions: dict[str, list[Resource]] = {}
    for function in found.get("NetworkDeviceFunction", ()):
        if there(function) and _mac(function):
            functions.setdefault(owner(uri(function), "NetworkDeviceFunctions"), []).append(function)
    bus = {uri(one): one for one in found.get("PCIeFunction", ())}
    ports = {uri(one): one for one in found.get("Port", ())}
    said: set[str] = set()
    for card in found.get("NetworkAdapter", ()):
        if not there(card):
            continue
        whole = _card(label, card, found, places)
        shown = [one for one in functions.get(uri(card), ()) if _mac(one) not in said]
        said.update(map(_mac, shown))
        if not shown and uri(card) not in functions and whole.part.serial:
            yield whole
        for function in shown:
            yield _function(label, function, whole, bus, ports)


def _card(label: str, card: Resource, found: Found, places: Places) -> Document:
    controllers = list(objects(card, "Controllers"))
    ways = [path for one in controllers for path in links(member(one, "Links"), "PCIeDevices")]
    devices = [one for one in found.get("PCIeDevice", ()) if uri(one) in ways]
    firmware = [text(one, "FirmwarePackageVersion") for one in controllers]
    part = part_of(card, firmware=next((one for one in firmware if one and one != "nil"), ""))
    interface = next((found for one in (*controllers, *devices) if (found := _interface(one))), {})
    what = DeviceKind.DPU if any(word in part.model.lower() for word in _DPU) else DeviceKind.NIC
    return Document(
        part_id(what, label, uri(card)),
        what,
        merge_keys=[f"serial:{part.serial}"] if part.serial else [],
        slot=Slot(location=places.of(card, *controllers, devices=ways)),
        part=part,
        capabilities=told({"card_serial": part.serial or None, **_width(interface), **condition(card)}),
    )


def _function(
    label: str, function: Resource, card: Document, bus: dict[str, Resource], ports: dict[str, Resource]
) -> Document:
    inside = member(function, "Links")
    mac = _mac(function)
    assigned = link(inside, "PhysicalNetworkPortAssignment") or link(function, "PhysicalNetworkPortAssignment")
    port = ports.get(assigned, {})
    gigabits = number(port.get("MaxSpeedGbps"))
    facts: dict[str, Value | None] = {
        "mac": mac,
        "sriov_total_vfs": count(function, "MaxVirtualFunctions"),
        "link_rate_bytes_per_second": _rate(gigabits),
        **_bus(bus.get(link(inside, "PCIeFunction"), {})),
        **condition(function),
    }
    return Document(
        part_id(DeviceKind.NIC, label, uri(function)),
        DeviceKind.NIC,
        merge_keys=[f"mac:{mac}"],
        slot=card.slot,
        part=msgspec.structs.replace(card.part, serial=""),
        capabilities={**card.capabilities, **told(facts)},
    )


def _rate(gigabits: float | None) -> int | None:
    return int(gigabits * _GIGABIT_BYTES) if gigabits is not None and 0 < gigabits < _MOST_GIGABITS else None


def _mac(function: Resource) -> str:
    """Give the address that a function was made with, lower case; "" for none."""
    ethernet = member(function, "Ethernet")
    for name in ("PermanentMACAddress", "MACAddress"):
        mac = text(ethernet, name).lower().replace("-", ":")
        if _MAC.match(mac) and mac not in _NO_MAC:
            return mac
    return ""


def _bus(function: Resource) -> dict[str, Value | None]:
    """Give what a PCI function says of its making, in the words of the bus."""
    names = (("pci_vendor_id", "VendorId"), ("pci_device_id", "DeviceId"))
    found = {word: match[1].lower() for word, name in names if (match := _HEX.match(text(function, name)))}
    return dict(found) if len(found) == len(names) and "0000" not in found.values() else {}


def _interface(resource: Resource) -> Resource:
    return member(resource, "PCIeInterface")


def _width(interface: Resource) -> dict[str, Value | None]:
    match = _GENERATION.match(text(interface, "MaxPCIeType"))
    return {"pcie_generation": int(match[1]) if match else None, "pcie_width": count(interface, "MaxLanes")}

"""The capability documents of a simulated node: what each device is, where it sits, what it can do.

Every document says `simulated`, and so does every part's vendor and model: nobody takes them for real ones.
"""

from collections.abc import Iterator

import msgspec

from collectors.simulated import drift
from collectors.simulated.documents_dpu import describe_dpu
from collectors.simulated.effects import Effects
from collectors.simulated.hardware import DRIVER, VENDOR, Hardware
from collectors.simulated.identity import uuid
from collectors.simulated.models import CUBE_MESH
from collectors.simulated.partitions import describe_partition
from collectors.simulated.topology import FIRST_VF_OFFSET, Place
from schemas.capabilities import MAX_GROUP_MEMBERS
from schemas.device import DeviceKind, Document, Part, Slot, Value

SIMULATED: dict[str, Value] = {"simulated": True}


def describe(hardware: Hardware, effects: Effects) -> Iterator[Document]:
    """Yield the documents of all devices that are there; what a fault took away is left out."""
    for document in _described(hardware, effects):
        driver = effects.drivers.get(document.slot.address)
        if driver is None:
            yield document
        else:
            yield msgspec.structs.replace(document, capabilities=document.capabilities | {"driver": driver})


def _described(hardware: Hardware, effects: Effects) -> Iterator[Document]:
    yield _node(hardware)
    yield from _processors(hardware)
    yield from _switches(hardware)
    for index in range(hardware.type.gpu.count):
        if index not in effects.gpus_lost:
            yield _gpu(hardware, index, effects)
    for partition in effects.partitions:
        if partition.gpu not in effects.gpus_lost:
            yield describe_partition(hardware, partition)
    for index in range(hardware.type.nvme.count):
        yield from _drive(hardware, index, effects)
    yield from _network(hardware, effects)
    for index, place in enumerate(hardware.layout.dpus):
        if index not in effects.dpus_gone:
            pci = _pci(hardware, place, "15b3", hardware.dpu_model.device_id, "020000", "mlx5_core")
            yield describe_dpu(hardware, index, effects, pci)
    if not effects.bmc_dead:
        yield from _board(hardware)


def _part(model: str, *, serial: str = "", firmware: str = "", revision: str = "", uuid: str = "") -> Part:
    return Part(
        vendor=VENDOR, model=f"{VENDOR} {model}", serial=serial, firmware=firmware, revision=revision, uuid=uuid
    )


def _slot(place: Place) -> Slot:
    return Slot(path=place.path, location=place.location, address=place.address)


def _pci(
    hardware: Hardware, place: Place, vendor_id: str, device_id: str, pci_class: str, driver: str
) -> dict[str, Value]:
    """Give what the PCI bus says of a function, in the words of `schemas.capabilities`."""
    members = hardware.layout.groups[place.iommu_group]
    bridges = [switch.address for switch in hardware.layout.switches if switch.iommu_group == place.iommu_group]
    return {
        **SIMULATED,
        "pci_vendor_id": vendor_id,
        "pci_device_id": device_id,
        "pci_class": pci_class,
        "driver": driver,
        "iommu_group": place.iommu_group,
        **({"iommu_group_members": list(members)} if len(members) <= MAX_GROUP_MEMBERS else {}),
        **({"iommu_group_bridges": bridges} if bridges else {}),
        "numa_node": place.numa_node,
        "pcie_root": place.root,
        **({"pcie_switch": place.switch} if place.switch else {}),
    }


def _node(hardware: Hardware) -> Document:
    node_type = hardware.type
    return Document(
        device="node",
        kind=DeviceKind.NODE,
        merge_keys=[f"uuid:{hardware.id}"],
        part=_machine(hardware),
        capabilities={
            **SIMULATED,
            "host_name": hardware.name,
            "cores": node_type.sockets * node_type.cores_per_socket,
            "memory_bytes": node_type.memory_bytes,
            "disk_bytes": node_type.nvme.count * node_type.nvme.sectors * node_type.nvme.sector_bytes,
            "numa_nodes": node_type.sockets,
            "iommu": True,
            "nvlink_topology": node_type.gpu.links if hardware.layout.links else "none",
            **_host(hardware),
        },
    )


def _machine(hardware: Hardware) -> Part:
    """Give what the whole machine is; that of a DPU has the DPU's own numbers."""
    number = "" if hardware.host is None else hardware.host.dpu_model.part_number
    part = _part(hardware.type_name, serial=hardware.chassis_serial, uuid=hardware.id)
    return msgspec.structs.replace(part, part_number=number)


def _host(hardware: Hardware) -> dict[str, Value]:
    """Give where a node that is a DPU sits; {} for any other."""
    host = hardware.host
    return {} if host is None else {"host_node": host.id, "host_device": host.dpus[hardware.host_index]}


def _processors(hardware: Hardware) -> Iterator[Document]:
    node_type = hardware.type
    for socket in range(node_type.sockets):
        yield Document(
            device=f"cpu:{socket}",
            kind=DeviceKind.CPU,
            slot=Slot(location=f"CPU{socket + 1}"),
            part=_part("CPU"),
            capabilities={**SIMULATED, "cores": node_type.cores_per_socket, "numa_node": socket},
        )
    for index in range(node_type.memory_modules):
        text = hardware.serial("SIMM", "memory", index)
        yield Document(
            device=f"memory:{text}",
            kind=DeviceKind.MEMORY_MODULE,
            merge_keys=[f"serial:{text}"],
            slot=Slot(location=f"DIMM {index + 1}"),
            part=_part("DIMM", serial=text),
            capabilities={
                **SIMULATED,
                "memory_bytes": node_type.memory_bytes // node_type.memory_modules,
                "numa_node": index * node_type.sockets // node_type.memory_modules,
            },
        )


def _switches(hardware: Hardware) -> Iterator[Document]:
    for place in hardware.layout.switches:
        yield Document(
            device=f"pci:{place.address}",
            kind=DeviceKind.PCI_FUNCTION,
            merge_keys=[f"pci:{place.address}"],
            slot=_slot(place),
            part=_part("PCIe switch"),
            capabilities={
                **_pci(hardware, place, "1000", "c030", "060400", "pcieport"),
                "bridge": True,
                "acs": hardware.type.acs,
            },
        )


def _gpu(hardware: Hardware, index: int, effects: Effects) -> Document:
    """Describe a GPU. What the driver tells is left out when it has not got the GPU (R002-5)."""
    model, place, driver = hardware.model, hardware.layout.gpus[index], hardware.type.gpu.driver
    capabilities = _pci(hardware, place, "10de", model.device_id, "030200", driver)
    capabilities |= {"variant_hint": f"NVIDIA_{model.name}", "pcie_generation": model.pcie_generation, "pcie_width": 16}
    keys = [f"pci:{place.address}"]
    if driver == "vfio-pci":
        return Document(
            device=hardware.gpus[index],
            kind=DeviceKind.GPU,
            merge_keys=keys,
            slot=_slot(place),
            part=_part(model.name, revision="a1"),
            capabilities=capabilities,
        )
    text = hardware.serial("165", "gpu", index)
    capabilities |= {
        "driver_version": DRIVER,
        "architecture": model.architecture,
        "memory_bytes": model.memory_bytes,
        "power_limit_watts": model.limit_watts,
        "max_sm_clock_hertz": model.max_clock_hertz,
        "ecc": True,
        **_partitions(model.mig, enabled=any(one.gpu == index for one in effects.partitions)),
        **_links(hardware, index, effects),
    }
    return Document(
        device=hardware.gpus[index],
        kind=DeviceKind.GPU,
        merge_keys=[f"gpu:{hardware.gpu_uuids[index]}", f"serial:{text}", *keys],
        slot=_slot(place),
        part=_part(model.name, serial=text, firmware="96.00.74.00.01", revision="a1", uuid=hardware.gpu_uuids[index]),
        capabilities=capabilities,
        unsupported=_unsupported(hardware),
    )


def _partitions(mig: tuple[str, ...], *, enabled: bool) -> dict[str, Value]:
    """Give what a GPU can be divided into: profiles, and where each may be placed."""
    if not mig:
        return {"mig": False}
    return {
        "mig": True,
        "mig_mode": "enabled" if enabled else "disabled",
        "mig_profiles": [entry.partition(":")[0] for entry in mig],
        "mig_placements": list(mig),
    }


def _links(hardware: Hardware, index: int, effects: Effects) -> dict[str, Value]:
    """Give a GPU's place in the graph of links: every peer, and by how many links, `<device>=<links>`."""
    row = hardware.layout.links[index] if hardware.layout.links else ()
    if not any(row):
        return {}
    model = hardware.model
    down = sum(gpu == index for gpu, _ in effects.links_down)
    return {
        "nvlinks": model.nvlinks,
        "nvlinks_active": model.nvlinks - down,
        "nvlink_rate_bytes_per_second": model.nvlink_bytes_per_second,
        "nvlink_switched": hardware.layout.links is not CUBE_MESH,
        "nvlink_peers": [f"{hardware.gpus[peer]}={links}" for peer, links in enumerate(row) if links],
    }


def _unsupported(hardware: Hardware) -> list[str]:
    """Give the metrics that this model of GPU lastingly does not report."""
    model = hardware.model
    missing = [] if model.fan else ["gpu.fan_ratio"]
    if not model.memory_sensor:
        missing.append("gpu.memory_temperature_celsius")
    if not model.row_remap:
        missing += ["gpu.row_remap_failed", "gpu.row_remap_pending"]
    if not hardware.layout.links:
        missing += ["gpu.nvlink_receive_bytes_total", "gpu.nvlink_transmit_bytes_total", "gpu.nvlinks_active"]
    return sorted(missing)


def _drive(hardware: Hardware, index: int, effects: Effects) -> Iterator[Document]:
    """Describe a drive and its one name space (R000-4)."""
    sector_bytes = drift.sector_bytes(hardware, effects, index)
    spec, place, device = hardware.type.nvme, hardware.layout.nvmes[index], hardware.drives[index]
    text = device.partition(":")[2]
    size = spec.sectors * spec.sector_bytes
    name = uuid(hardware.seed, hardware.name, "namespace", index)
    yield Document(
        device=device,
        kind=DeviceKind.NVME,
        merge_keys=[f"nvme:{text}", f"serial:{text}", f"pci:{place.address}"],
        slot=_slot(place),
        part=_part("NVMe 3.84TB" if size == 3_840_755_982_336 else "NVMe", serial=text, firmware="SIM1.0"),
        capabilities={
            **_pci(hardware, place, "1e0f", "0007", "010802", "nvme"),
            "capacity_bytes": size,
            "namespaces": 1,
            "sanitize": ["block-erase", "crypto-erase"],
            "controller": f"nvme{index}",
        },
    )
    yield Document(
        device=drift.namespace(hardware, index),
        kind=DeviceKind.NVME_NAMESPACE,
        merge_keys=[f"nvme-uuid:{name}"],
        parent=device,
        part=_part("NVMe name space", uuid=name),
        capabilities={
            **SIMULATED,
            "capacity_bytes": size,
            "sectors": size // sector_bytes,
            "sector_bytes": sector_bytes,
            "lba_formats": ["512+0", "4096+0", "4096+8"],
            "lba_format": f"{sector_bytes}+0",
            "block_device": f"nvme{index}n1",
            **_told(
                "drift", drift.told_of(drift.namespace(hardware, index), list(drift.standing(hardware, effects, None)))
            ),
        },
    )


def _network(hardware: Hardware, effects: Effects) -> Iterator[Document]:
    """Describe the ports and their virtual functions, each with VLAN, MAC and parent (R000-1)."""
    spec, found = hardware.type.nic, drift.match(hardware, effects)
    vnics = found.vnic_of if found else {}
    now = list(drift.standing(hardware, effects, found))
    first = 0
    for port, place in enumerate(hardware.layout.ports):
        family = hardware.layout.vfs[port]
        numbers = range(first, first + len(family))
        text = hardware.serial("SIME", "nic", port)
        yield Document(
            device=hardware.ports[port],
            kind=DeviceKind.NIC,
            merge_keys=[f"mac:{hardware.port_macs[port]}", f"serial:{text}", f"pci:{place.address}"],
            slot=_slot(place),
            part=_part("SR-IOV port", serial=text, firmware="28.39.1002"),
            capabilities={
                **_pci(hardware, place, "15b3", "1021", "020000", "mlx5_core"),
                "interface": hardware.interface(port),
                "mac": hardware.port_macs[port],
                "link_rate_bytes_per_second": spec.link_bytes_per_second,
                "sriov_total_vfs": max(len(family), 16),
                "sriov_vfs": len(family) - sum(vf in numbers for vf in effects.vfs_missing),
                "sriov_offset": FIRST_VF_OFFSET,
                "sriov_stride": 1,
                **_told("vnic", vnics.get(hardware.ports[port])),
                **_told("drift", drift.told_of(hardware.ports[port], now)),
            },
        )
        for index, vf in enumerate(numbers):
            if vf not in effects.vfs_missing:
                more = _told("vnic", vnics.get(hardware.vfs[vf])) | _told("drift", drift.told_of(hardware.vfs[vf], now))
                yield _virtual(hardware, port, index, effects, vf, more)
        first = numbers.stop


def _told(word: str, value: Value | None) -> dict[str, Value]:
    """Give a word of a document; {} when there is nothing to say."""
    return {word: value} if value else {}


def _virtual(hardware: Hardware, port: int, index: int, effects: Effects, vf: int, more: dict[str, Value]) -> Document:
    place = hardware.layout.vfs[port][index]
    return Document(
        device=hardware.vfs[vf],
        kind=DeviceKind.VF,
        merge_keys=[f"pci:{place.address}"],
        parent=hardware.ports[port],
        slot=_slot(place),
        part=_part("SR-IOV function"),
        capabilities={
            **_pci(hardware, place, "15b3", "101e", "020000", "vfio-pci"),
            "vf_index": index,
            "mac": drift.vf_mac(hardware, effects, vf),
            "vlan": drift.vf_vlan(hardware, effects, vf),
            "usable_as": ["vfio", "vhost-user", "virtio-net"],
            **more,
        },
    )


def _board(hardware: Hardware) -> Iterator[Document]:
    text = hardware.bmc.partition(":")[2]
    yield Document(
        device=hardware.bmc,
        kind=DeviceKind.BMC,
        merge_keys=[f"bmc:{text}"],
        part=_part("BMC", serial=text, firmware="1.02.00"),
        capabilities={**SIMULATED, "system_uuid": hardware.id, "protocols": ["redfish"]},
    )
    for index, device in enumerate(hardware.supplies):
        yield Document(
            device=device,
            kind=DeviceKind.PSU,
            merge_keys=[f"serial:{device.partition(':')[2]}"],
            parent=hardware.bmc,
            slot=Slot(location=f"PSU {index + 1}"),
            part=_part("PSU", serial=device.partition(":")[2]),
            capabilities={**SIMULATED, "output_limit_watts": 3300.0},
        )
    for index, device in enumerate(hardware.fans):
        yield Document(
            device=device,
            kind=DeviceKind.FAN,
            parent=hardware.bmc,
            slot=Slot(location=f"FAN {index + 1}"),
            part=_part("fan"),
            capabilities=dict(SIMULATED),
        )

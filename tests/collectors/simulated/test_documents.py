"""What a simulated node tells of its devices is complete, consistent, and says that it is simulated."""

from collections import Counter

import pytest

from collectors.simulated import Fleet, SimulatedNode, default_fleet
from collectors.simulated.models import GPU_MODELS, NODE_TYPES
from schemas.device import DeviceKind, Document, decode_document, encode_document
from tests.collectors.simulated.help import START, break_it, devices, one_node, run

ALL = sorted(NODE_TYPES)


def described(node_type: str) -> SimulatedNode:
    return default_fleet(1, node_type=node_type).nodes[0]


def by_kind(node: SimulatedNode, kind: DeviceKind) -> list[Document]:
    return [document for document in node.documents() if document.kind is kind]


@pytest.mark.parametrize("node_type", ALL)
def test_documents_survive_the_wire(node_type: str) -> None:
    documents = described(node_type).documents()
    assert documents == [decode_document(encode_document(document)) for document in documents]


@pytest.mark.parametrize("node_type", ALL)
def test_every_document_says_that_it_is_simulated(node_type: str) -> None:
    """R004-11: nobody takes a fake device for a real one, whichever field they look at."""
    for document in described(node_type).documents():
        assert document.capabilities["simulated"] is True
        assert document.part.vendor == "Simulated"
        assert document.part.model.startswith("Simulated ")


@pytest.mark.parametrize("node_type", ALL)
def test_devices_are_distinct_and_parents_are_there(node_type: str) -> None:
    documents = described(node_type).documents()
    names = [document.device for document in documents]
    assert len(set(names)) == len(names)
    assert {document.parent for document in documents} <= {"", *names}
    keys = Counter(key for document in documents for key in document.merge_keys)
    assert [key for key, count in keys.items() if count > 1] == []


@pytest.mark.parametrize("node_type", ALL)
def test_whatever_has_rows_has_a_document(node_type: str) -> None:
    node = described(node_type)
    names = {document.device for document in node.documents()}
    parcels = node.step(START)
    measured = {key[0] for parcel in parcels for key in parcel.block.keys}
    assert measured <= names
    assert len(devices(parcels, "gpu")) == NODE_TYPES[node_type].gpu.count


def test_a_gpu_tells_its_place_its_links_and_its_partitions() -> None:
    node = described("hgx-h100")
    gpu = by_kind(node, DeviceKind.GPU)[3]
    place = node.hardware.layout.gpus[3]
    assert (gpu.slot.address, gpu.slot.path) == (place.address, place.path)
    assert gpu.merge_keys[-1] == f"pci:{place.address}"
    assert gpu.part.model == "Simulated H100"
    told = gpu.capabilities
    assert (told["iommu_group"], told["numa_node"], told["pcie_switch"]) == (place.iommu_group, 0, place.switch)
    assert told["nvlink_peers"] == [f"{name}=18" for name in node.hardware.gpus if name != gpu.device]
    assert told["mig_profiles"] == ["1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]
    assert "3g.40gb:{0,4}:4" in told["mig_placements"]  # type: ignore[operator]
    assert told["memory_bytes"] == 80 << 30


def test_the_v100_of_the_shared_server_are_described_by_group() -> None:
    """R002-1: vendor, device, revision and group of each GPU are in the inventory."""
    gpus = by_kind(described("v100-shared"), DeviceKind.GPU)
    told = [
        (gpu.slot.address[5:], gpu.capabilities["iommu_group"], gpu.capabilities["pci_device_id"], gpu.part.revision)
        for gpu in gpus
    ]
    assert [
        ("27:00.0", 19, "1db4", "a1"),
        ("28:00.0", 19, "1db4", "a1"),
        ("44:00.0", 32, "1db4", "a1"),
        ("a3:00.0", 75, "1db4", "a1"),
        ("c3:00.0", 87, "1db4", "a1"),
        ("c4:00.0", 87, "1db4", "a1"),
    ] == told
    assert {gpu.capabilities["pci_vendor_id"] for gpu in gpus} == {"10de"}


def test_256_functions_have_vlan_mac_and_parent() -> None:
    """R000-1: the inventory shows all 2 + 256, with VLAN, MAC and parent."""
    node = described("a10-sriov")
    ports, functions = by_kind(node, DeviceKind.NIC), by_kind(node, DeviceKind.VF)
    assert (len(ports), len(functions)) == (2, 256)
    assert Counter(function.parent for function in functions) == {port.device: 128 for port in ports}
    assert len({function.capabilities["mac"] for function in functions}) == 256
    assert [function.capabilities["vlan"] for function in functions] == [*range(100, 228)] * 2
    assert [port.capabilities["sriov_vfs"] for port in ports] == [128, 128]


def test_drives_tell_sectors_formats_and_which_is_in_use() -> None:
    """R000-4: 937,684,566 sectors of 4,096 bytes."""
    for document in by_kind(described("a10-sriov"), DeviceKind.NVME_NAMESPACE):
        told = document.capabilities
        assert (told["sectors"], told["sector_bytes"], told["lba_format"]) == (937_684_566, 4096, "4096+0")
        assert told["lba_format"] in told["lba_formats"]  # type: ignore[operator]
        assert told["capacity_bytes"] == 3_840_755_982_336


def test_a_gpu_that_the_driver_has_not_got_is_described_from_pci_alone() -> None:
    """R002-5: still in the inventory, with what is readable."""
    node = Fleet.from_text("[types.given.gpu]\ndriver = 'vfio-pci'\n[[nodes]]\ntype = 'given'").nodes[0]
    gpus = by_kind(node, DeviceKind.GPU)
    assert len(gpus) == 8
    for gpu in gpus:
        assert gpu.capabilities["driver"] == "vfio-pci"
        assert (gpu.part.serial, gpu.part.uuid) == ("", "")
        assert "memory_bytes" not in gpu.capabilities
        assert gpu.merge_keys == [f"pci:{gpu.slot.address}"]


def test_what_a_model_never_reports_is_said_to_be_unsupported() -> None:
    """The columns that are absent are exactly those that the document names."""
    from collectors.metrics_gpu import GPU_METRICS

    for node_type in ALL:
        node = one_node(node_type)
        parcels = run(node, 1)
        seen = {
            f"gpu.{field}"
            for parcel in parcels
            if parcel.block.measurement == "gpu"
            for group in (parcel.block.floats, parcel.block.ints, parcel.block.bools)
            for field in group
        }
        for gpu in by_kind(node, DeviceKind.GPU):
            assert sorted({spec.name for spec in GPU_METRICS} - seen) == gpu.unsupported


def test_what_is_gone_is_not_described() -> None:
    node = one_node()
    whole = {document.device for document in node.documents()}
    for fault in ("gpu_lost", "vf_missing", "bmc_dead"):
        break_it(node, fault)
    run(node, 1)
    hardware = node.hardware
    rest = {document.device for document in node.documents()}
    assert whole - rest == {hardware.gpus[0], hardware.vfs[0], hardware.bmc, *hardware.supplies, *hardware.fans}


def test_every_model_says_the_driver_version_it_runs() -> None:
    assert GPU_MODELS.keys() == {"V100", "V100-SXM2", "A10", "A6000", "A100", "H100", "H200"}
    for gpu in by_kind(described("hgx-h200"), DeviceKind.GPU):
        assert gpu.capabilities["driver_version"] == "550.54.15"

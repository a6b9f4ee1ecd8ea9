"""The fleets of the scenarios are those of the requirements."""

import pytest

from aggregator.demo import SCENARIOS
from aggregator.demo.runner import FLEETS
from collectors.simulated.drift import metadata_answer
from collectors.simulated.fleet import Fleet
from collectors.vnics import parse_vnics
from schemas.device import DeviceKind


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_its_fleet_and_every_fleet_its_scenario(name: str) -> None:
    assert Fleet.from_file(FLEETS / SCENARIOS[name].fleet).nodes
    assert {path.name for path in FLEETS.iterdir()} == {scenario.fleet for scenario in SCENARIOS.values()}


def test_the_server_of_002_has_its_gpus_in_their_groups() -> None:
    """R002-1."""
    (node,) = Fleet.from_file(FLEETS / "002.toml").nodes
    gpus = [one for one in node.documents() if one.kind is DeviceKind.GPU]
    assert {(one.slot.address, one.capabilities["iommu_group"]) for one in gpus} == {
        ("0000:27:00.0", 19), ("0000:28:00.0", 19), ("0000:44:00.0", 32),
        ("0000:a3:00.0", 75), ("0000:c3:00.0", 87), ("0000:c4:00.0", 87),
    }  # fmt: skip
    assert {(one.capabilities["pci_vendor_id"], one.capabilities["pci_device_id"], one.part.revision, one.part.serial)
            for one in gpus} == {("10de", "1db4", "a1", "")}  # fmt: skip


def test_the_servers_of_004_have_64_gpus_each_in_a_place_of_its_own() -> None:
    """R004-6, R004-10."""
    nodes = Fleet.from_file(FLEETS / "004.toml").nodes
    gpus = [(node.name, one) for node in nodes for one in node.documents() if one.kind is DeviceKind.GPU]
    assert len({(name, one.slot.location) for name, one in gpus}) == 64
    for node in nodes:
        paths = [one.slot.path for one in node.documents() if one.slot.address]
        assert len(set(paths)) == len(paths)


def test_the_node_of_000_has_its_functions_and_drives() -> None:
    """R000-1, R000-4."""
    (node,) = Fleet.from_file(FLEETS / "000.toml").nodes
    kinds = [one.kind for one in node.documents()]
    assert (kinds.count(DeviceKind.NIC), kinds.count(DeviceKind.VF), kinds.count(DeviceKind.NVME)) == (2, 256, 2)
    spaces = [one.capabilities for one in node.documents() if one.kind is DeviceKind.NVME_NAMESPACE]
    assert {(one["sectors"], one["sector_bytes"]) for one in spaces} == {(937_684_566, 4096)}


def test_the_machine_of_003_has_one_gpu_and_two_ports() -> None:
    """R003-2."""
    (node,) = Fleet.from_file(FLEETS / "003.toml").nodes
    kinds = [one.kind for one in node.documents()]
    assert (kinds.count(DeviceKind.GPU), kinds.count(DeviceKind.NIC), kinds.count(DeviceKind.VF)) == (1, 2, 8)


def test_the_servers_of_001_have_dpus_of_two_models_each_a_node_of_its_own() -> None:
    """R001-1, R001-2."""
    nodes = {node.id: node for node in Fleet.from_file(FLEETS / "001.toml").nodes}
    dpus = [one for node in nodes.values() for one in node.documents() if one.kind is DeviceKind.DPU]
    assert [one.part.model for one in dpus] == ["Simulated BlueField-3"] * 2 + ["Simulated BlueField-2"]
    assert len(nodes) == 6
    assert all(nodes[str(one.capabilities["dpu_node"])].name.endswith("-dpu0") for one in dpus)


def test_the_node_of_000_has_a_metadata_service_that_tells_each_function() -> None:
    """R000-2."""
    (node,) = Fleet.from_file(FLEETS / "000.toml").nodes
    vnics = parse_vnics(metadata_answer(node.hardware))
    assert (len(vnics), sum(one.vlan_tag > 0 for one in vnics)) == (258, 256)
    assert all("vnic" in one.capabilities for one in node.documents() if one.kind in (DeviceKind.NIC, DeviceKind.VF))

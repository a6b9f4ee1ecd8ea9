"""Where devices sit is as in the machines that the types stand for."""

import pytest

from collectors.simulated.models import CUBE_MESH, NODE_TYPES
from collectors.simulated.spec import GpuSpec, NicSpec, NodeType, NvmeSpec, SlotSpec
from collectors.simulated.topology import Layout, Place, layout
from schemas.device import pci_address
from schemas.errors import ConfigError


def test_six_v100_sit_in_four_groups() -> None:
    """R002-1: groups 19, 32, 75 and 87 with exactly the addresses of the shared server."""
    groups: dict[int, list[str]] = {}
    for place in layout(NODE_TYPES["v100-shared"]).gpus:
        groups.setdefault(place.iommu_group, []).append(place.address.removeprefix("0000:"))
    assert {
        19: ["27:00.0", "28:00.0"],
        32: ["44:00.0"],
        75: ["a3:00.0"],
        87: ["c3:00.0", "c4:00.0"],
    } == groups


def test_the_groups_of_the_v100_hold_nothing_else() -> None:
    """R002-1: whoever holds all GPUs of a group holds the group."""
    made = layout(NODE_TYPES["v100-shared"])
    others = {place.iommu_group for place in (*made.nvmes, *made.ports, *made.vfs[0], *made.vfs[1])}
    assert others.isdisjoint({19, 32, 75, 87})


def test_a_bare_metal_node_has_256_functions_on_two_ports() -> None:
    """R000-1: 2 physical and 256 virtual functions, each with an address and a group of its own."""
    made = layout(NODE_TYPES["a10-sriov"])
    functions = [place for family in made.vfs for place in family]
    assert len(made.ports) == 2
    assert [len(family) for family in made.vfs] == [128, 128]
    assert len({place.address for place in functions}) == 256
    assert len({place.iommu_group for place in functions}) == 256
    assert made.vfs[0][0].address == made.ports[0].address[:8] + "01.0"
    assert made.vfs[0][9].address == made.ports[0].address[:8] + "02.1"


def test_functions_beyond_one_bus_go_on_at_the_next() -> None:
    made = layout(NodeType(nic=NicSpec(ports=1, vfs=300)))
    bus = int(made.ports[0].address[5:7], 16)
    assert made.vfs[0][247].address == f"0000:{bus:02x}:1f.7"
    assert made.vfs[0][248].address == f"0000:{bus + 1:02x}:00.0"
    assert len({place.path for place in made.vfs[0]}) == 300


@pytest.mark.parametrize("name", sorted(NODE_TYPES))
def test_every_address_is_normal_and_distinct_and_every_slot_too(name: str) -> None:
    made = layout(NODE_TYPES[name])
    places = everything(made)
    assert [pci_address(place.address) for place in places] == [place.address for place in places]
    assert len({place.address for place in places}) == len(places)
    assert len({place.path for place in places}) == len(places)
    assert {place.numa_node for place in places} <= set(range(NODE_TYPES[name].sockets))


def everything(made: Layout) -> list[Place]:
    """Give the places of all endpoints and switches."""
    return [*made.gpus, *made.nvmes, *made.ports, *made.switches, *(vf for family in made.vfs for vf in family)]


def test_two_gpus_share_each_of_four_switches_two_on_each_socket() -> None:
    made = layout(NODE_TYPES["hgx-h100"])
    assert [made.switches[index // 2].address for index in range(8)] == [place.switch for place in made.gpus]
    assert [0, 0, 0, 0, 1, 1, 1, 1] == [place.numa_node for place in made.gpus]
    assert len({place.iommu_group for place in made.gpus}) == 8


def test_without_acs_all_below_a_switch_share_a_group() -> None:
    made = layout(NodeType(acs=False))
    for switch in made.switches:
        below = [place for place in (*made.gpus, *made.nvmes, *made.ports) if place.switch == switch.address]
        assert {place.iommu_group for place in below} == {switch.iommu_group}
    assert {place.iommu_group for place in made.vfs[0]} == {made.ports[0].iommu_group}


def test_the_cube_mesh_is_symmetric_and_uses_all_links() -> None:
    assert CUBE_MESH == layout(NODE_TYPES["dgx-v100"]).links
    assert all(CUBE_MESH[a][b] == CUBE_MESH[b][a] for a in range(8) for b in range(8))
    assert [sum(row) for row in CUBE_MESH] == [6] * 8


def test_a_type_that_needs_too_many_buses_is_refused() -> None:
    crowded = NodeType(sockets=4, switches=1, nvme=NvmeSpec(count=64))
    with pytest.raises(ConfigError, match="runs out of PCI buses"):
        layout(crowded)


def given(*slots: tuple[str, int]) -> NodeType:
    places = tuple(SlotSpec(address=address, iommu_group=group) for address, group in slots)
    return NodeType(switches=0, gpu=GpuSpec(count=len(places), links="none", slots=places))


@pytest.mark.parametrize("others", [(), (("0000:a3:00.0", 7),)])
def test_two_gpus_given_the_same_place_are_refused_by_name(others: tuple[tuple[str, int], ...]) -> None:
    """A place is a device's identity: two in one would be one device to whoever reads the documents."""
    with pytest.raises(ConfigError, match=r"0000:44:00\.0 and 0000:45:00\.0 would sit in one place, pci0000:40/01"):
        layout(given(("0000:44:00.0", 3), *others, ("0000:45:00.0", 4)))


def test_a_gpu_given_the_place_of_a_laid_out_drive_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"0000:1e:00\.0 and 0000:0.:00\.0 would sit in one place, pci0000:00/01"):
        layout(given(("0000:1e:00.0", 3)))


def test_gpus_of_one_group_may_be_given_neighbouring_buses() -> None:
    made = layout(given(("0000:44:00.0", 3), ("0000:45:00.0", 3), ("0000:a3:00.0", 4)))
    assert len({place.path for place in everything(made)}) == len(everything(made))

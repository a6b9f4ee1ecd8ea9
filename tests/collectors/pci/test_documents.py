"""What every PCI function's document says: what it is, where it sits, who has it, what shares its group."""

from pathlib import Path

import pytest

from schemas.capabilities import MAX_GROUP_MEMBERS
from schemas.device import DeviceKind, Document, decode_document, encode_document
from schemas.errors import NoDataError, PartialCollectError
from tests.collectors.pci.help import collector_of, described
from tests.collectors.pci.made import (
    BARS,
    CONSOLE,
    DRIVE,
    GPUS,
    PORT,
    SECOND_PORT,
    VFS,
    config_space,
    function,
    link,
    process,
    server,
    slot_structure,
    unplug,
    vital_data,
    write,
)


@pytest.fixture
def documents(tmp_path: Path) -> dict[str, Document]:
    """The documents of the made server."""
    return described(server(tmp_path))


def test_every_function_gives_exactly_one_document_that_travels(tmp_path: Path) -> None:
    """R004-1: all PCI devices of a node."""
    found = list(collector_of(server(tmp_path)).describe())
    listed = sorted(path.name for path in (tmp_path / "sys/bus/pci/devices").iterdir())
    assert listed == [document.slot.address for document in found]
    assert [f"pci:{address}" for address in listed] == [document.device for document in found]
    assert found == [decode_document(encode_document(document)) for document in found]
    paths = [document.slot.path for document in found]
    assert len(set(paths)) == len(paths)


def test_kinds_follow_from_class_and_vendor(documents: dict[str, Document]) -> None:
    kinds = {address: document.kind for address, document in documents.items()}
    assert {DeviceKind.GPU} == {kinds[address] for address in GPUS}
    assert {DeviceKind.VF} == {kinds[address] for address in VFS}
    assert (DeviceKind.NIC, DeviceKind.NIC, DeviceKind.NVME) == (kinds[PORT], kinds[SECOND_PORT], kinds[DRIVE])
    assert DeviceKind.PCI_FUNCTION is kinds[CONSOLE], "the console of a BMC is no accelerator"
    assert DeviceKind.PCI_FUNCTION is kinds["0000:03:00.1"], "the sound function of a GPU is none"


@pytest.mark.parametrize(
    ("ids", "pci_class", "kind"),
    [
        ("10de:1db4", "030200", DeviceKind.GPU),
        ("1002:74a1", "120000", DeviceKind.GPU),
        ("8086:0bda", "038000", DeviceKind.GPU),
        ("1da3:1020", "120000", DeviceKind.PCI_FUNCTION),
        ("1234:1111", "030000", DeviceKind.PCI_FUNCTION),
        ("15b3:101b", "020700", DeviceKind.NIC),
        ("8086:0a54", "010802", DeviceKind.NVME),
        ("1000:00b2", "010802", DeviceKind.NVME),
        ("8086:2822", "010601", DeviceKind.PCI_FUNCTION),
    ],
)
def test_kind_of(tmp_path: Path, ids: str, pci_class: str, kind: DeviceKind) -> None:
    function(tmp_path, "pci0000:00/0000:00:03.0", ids, pci_class)
    assert kind is described(tmp_path)["0000:00:03.0"].kind


def test_gpu_bound_to_vfio_tells_what_pci_knows(documents: dict[str, Document]) -> None:
    """R002-5: no driver of its own is needed for it to be in the inventory."""
    gpu = documents[GPUS[0]]
    assert "pci0000:00/01.0/00.0/08.0/00.0" == gpu.slot.path
    assert "CPU1 SLOT4" == gpu.slot.location
    assert ("a1", "") == (gpu.part.revision, gpu.part.serial), "its driver's serial number is another one"
    told = gpu.capabilities
    assert "48-b0-2d-ff-ff-00-11-00" == told["pci_serial"]
    assert ("10de", "2330", "030200") == (told["pci_vendor_id"], told["pci_device_id"], told["pci_class"])
    assert ("vfio-pci", 0, 5, 16) == (
        told["driver"], told["numa_node"], told["pcie_generation"], told["pcie_width"],
    )  # fmt: skip
    assert ("0000:00:01.0", "0000:01:00.0") == (told["pcie_root"], told["pcie_switch"])
    assert ["pci-serial:48-b0-2d-ff-ff-00-11-00.0", f"pci:{GPUS[0]}"] == gpu.merge_keys


def test_group_lists_all_members_and_which_are_bridges(documents: dict[str, Document]) -> None:
    """R002-1: whoever is given one function of a group must know of the others."""
    members = ["0000:01:00.0", "0000:02:08.0", "0000:02:10.0", "0000:03:00.0", "0000:03:00.1", "0000:04:00.0"]
    members.append("0000:04:00.1")
    for address in members:
        told = documents[address].capabilities
        assert (19, members, members[:3]) == (
            told["iommu_group"], told["iommu_group_members"], told["iommu_group_bridges"],
        )  # fmt: skip
    alone = documents[VFS[1]].capabilities
    assert (41, [VFS[1]]) == (alone["iommu_group"], alone["iommu_group_members"])
    assert "iommu_group_bridges" not in alone


def test_group_of_a_great_many_is_told_by_its_number(tmp_path: Path) -> None:
    """Lists of all in each of all would grow with the square, and at last be too much for the agent."""
    for number in range(MAX_GROUP_MEMBERS + 1):
        where = f"pci0000:00/0000:{number >> 5:02x}:{number & 31:02x}.0"
        function(tmp_path, where, "15b3:101e", "020000", group=1)
    told = [one.capabilities for one in described(tmp_path).values()]
    assert ({1}, True) == ({one["iommu_group"] for one in told}, all("iommu_group_members" not in one for one in told))


def test_group_holds_a_member_that_cannot_be_read(tmp_path: Path) -> None:
    """What the kernel lists is in the group, whatever else is known of it."""
    function(server(tmp_path), "pci0000:00/0000:00:09.0", "8086:0000", "088000", group=71)
    (tmp_path / "sys/devices/pci0000:00/0000:00:09.0/vendor").unlink()
    collector = collector_of(tmp_path)
    found = {}
    with pytest.raises(PartialCollectError, match=r"0000:00:09\.0: its vendor"):
        for document in collector.describe():
            found[document.slot.address] = document
    assert ["0000:00:09.0", DRIVE] == found[DRIVE].capabilities["iommu_group_members"]
    assert "0000:00:09.0" not in found


def test_bridges_say_so_and_whether_they_keep_apart(documents: dict[str, Document]) -> None:
    bridges = {address for address, document in documents.items() if document.capabilities.get("bridge")}
    assert {"0000:00:01.0", "0000:01:00.0", "0000:02:08.0", "0000:02:10.0"} <= bridges
    assert "0000:00:00.0" not in bridges, "a host bridge has no bus of its own to pass on"
    acs = {address: documents[address].capabilities.get("acs") for address in sorted(bridges)[:4]}
    assert {"0000:00:01.0": True, "0000:00:02.0": None, "0000:00:1c.0": None, "0000:01:00.0": None} == acs
    assert documents["0000:02:08.0"].capabilities["acs"] is False


def test_virtual_functions_name_parent_and_index(documents: dict[str, Document]) -> None:
    """R000-1: a VF is (parent, index); its path survives whatever routing ids the card gives."""
    for index, address in enumerate(VFS):
        document = documents[address]
        assert (f"pci:{PORT}", index) == (document.parent, document.capabilities["vf_index"])
        assert f"pci0000:00/02.0/00.0/vf{index}" == document.slot.path
        assert [f"pci:{address}"] == document.merge_keys
        assert "" == document.part.serial
    told = documents[PORT].capabilities
    assert (8, 4, 2, 1, "101e") == tuple(
        told[f"sriov_{word}"] for word in ("total_vfs", "vfs", "offset", "stride", "vf_device_id")
    )
    assert 0 == documents[SECOND_PORT].capabilities["sriov_vfs"], "none is a number, and is said"
    assert "sriov_vfs" not in documents[DRIVE].capabilities


def test_card_with_two_functions_says_one_serial_and_is_two_devices(documents: dict[str, Document]) -> None:
    first, second = documents[PORT], documents[SECOND_PORT]
    assert ("MT2048X12345", "MT2048X12345.1") == (first.part.serial, second.part.serial)
    assert {"MT2048X12345"} == {one.capabilities["card_serial"] for one in (first, second)}
    assert "MCX623106AN-CDAT" == first.part.part_number
    assert {"b8-3f-d2-ff-ff-9e-41-6c"} == {one.capabilities["pci_serial"] for one in (first, second)}
    assert set(first.merge_keys).isdisjoint(second.merge_keys)


def test_serial_that_two_cards_share_identifies_neither(tmp_path: Path) -> None:
    for number in (3, 4):
        own = {"config": config_space(port_type=0, serial=0x684C_E000_0000_0001), "vpd": vital_data(SN="4711")}
        function(tmp_path, f"pci0000:00/0000:00:{number:02x}.0", "10ec:8168", "020000", files=own)
    found = described(tmp_path).values()
    assert [["pci:0000:00:03.0"], ["pci:0000:00:04.0"]] == [one.merge_keys for one in found]
    assert ["", ""] == [one.part.serial for one in found]


def test_locations_come_from_firmware_then_from_slots(documents: dict[str, Document]) -> None:
    """R004-10: what is printed on the machine."""
    assert {"CPU1 SLOT4"} == {documents[address].slot.location for address in GPUS}
    assert "NVMe BAY 0" == documents[DRIVE].slot.location
    assert ("3-1", "slot 3-1") == (documents[PORT].capabilities["pci_slot"], documents[PORT].slot.location)
    assert "slot 3-1" == documents[VFS[0]].slot.location
    assert "Onboard Video" == documents[CONSOLE].slot.location
    assert "" == documents["0000:00:00.0"].slot.location


def test_address_that_firmware_gives_to_several_slots_is_no_address(tmp_path: Path) -> None:
    server(tmp_path)
    for number in (5, 6):
        raw = slot_structure(f"SLOT {number}", "0000:05:00.0")
        write(tmp_path, f"sys/firmware/dmi/entries/9-{number}/raw", raw)
    write(tmp_path, "sys/firmware/dmi/entries/9-7/raw", slot_structure("OLD", "0000:07:00.0", length=0x0D))
    found = described(tmp_path)
    assert ("slot 3-1", "Onboard Video") == (found[PORT].slot.location, found[CONSOLE].slot.location)


def test_what_the_host_needs_is_said(documents: dict[str, Document]) -> None:
    needs = {
        address: one.capabilities["host_needs"]
        for address, one in documents.items()
        if "host_needs" in one.capabilities
    }
    assert {DRIVE: ["mount:/"], SECOND_PORT: ["default-route"]} == needs
    assert documents[CONSOLE].capabilities["boot_vga"] is True
    assert documents[GPUS[0]].capabilities["boot_vga"] is False


def test_windows_have_sizes_in_bytes(documents: dict[str, Document]) -> None:
    told = documents[GPUS[0]].capabilities
    assert 8 == len(BARS.splitlines()), "the last line is a window of virtual functions"
    assert [
        "0:16777216:memory32",
        "1:1099511627776:memory64-prefetchable",
        "3:4294967296:memory64-prefetchable",
        "5:128:io",
        "rom:524288:memory32-prefetchable",
    ] == told["bars"]
    assert (1 << 24) + (1 << 40) + (1 << 32) == told["bar_memory_bytes"]


def test_drive_tells_serial_reset_and_power(documents: dict[str, Document]) -> None:
    drive = documents[DRIVE]
    assert ("SAMSUNG MZQL23T8", "S64HNE0T", "GDC5602Q") == (drive.part.model, drive.part.serial, drive.part.firmware)
    assert (["flr", "bus"], True) == (drive.capabilities["reset_methods"], drive.capabilities["d3cold_allowed"])
    assert "reset_methods" not in documents[CONSOLE].capabilities


def test_no_driver_is_said_and_no_numa_node_is_absent(documents: dict[str, Document]) -> None:
    bridge = documents["0000:00:00.0"].capabilities
    assert "" == bridge["driver"]
    assert {"numa_node", "pcie_width", "pci_subsystem_id", "driver_override", "pcie_root"}.isdisjoint(bridge)


def test_without_privilege_the_tree_still_tells_root_port_and_switch(tmp_path: Path) -> None:
    server(tmp_path)
    for config in (tmp_path / "sys/devices").rglob("config"):
        config.write_bytes(config.read_bytes()[:64])
    found = described(tmp_path)
    told = found[GPUS[1]].capabilities
    assert ("0000:00:01.0", "0000:01:00.0") == (told["pcie_root"], told["pcie_switch"])
    assert "pci_serial" not in found[GPUS[1]].capabilities
    assert "pcie_switch" not in found[CONSOLE].capabilities
    assert "acs" not in found["0000:02:08.0"].capabilities


def test_functions_behind_vmd_have_paths_and_root_ports_of_their_own(tmp_path: Path) -> None:
    function(tmp_path, "pci0000:80/0000:80:00.5", "8086:28c0", "010400", driver="vmd")
    below = "pci0000:80/0000:80:00.5/pci10000:00/10000:00:02.0"
    function(tmp_path, below, "8086:347a", "060400")
    function(tmp_path, f"{below}/10000:01:00.0", "8086:0b60", "010802", driver="nvme")
    drive = described(tmp_path)["10000:01:00.0"]
    assert "pci0000:80/00.5/pci:00/02.0/00.0" == drive.slot.path
    assert "10000:00:02.0" == drive.capabilities["pcie_root"]


def test_names_come_from_the_list_of_ids_when_there_is_one(tmp_path: Path) -> None:
    server(tmp_path)
    assert ("10de", "10de:2330") == (described(tmp_path)[GPUS[0]].part.vendor, described(tmp_path)[GPUS[0]].part.model)
    text = "# list\n10de  NVIDIA Corporation\n\t2330  GH100 [H100 SXM5 80GB]\n\t\t10de 16c1  HGX\n\nC 03  Display\n"
    write(tmp_path, "usr/share/misc/pci.ids", text)
    part = described(tmp_path)[GPUS[0]].part
    assert ("NVIDIA Corporation", "GH100 [H100 SXM5 80GB]") == (part.vendor, part.model)
    assert "15b3:101d" == described(tmp_path)[PORT].part.model


def test_open_vfio_group_is_in_use_and_unknown_is_absent(tmp_path: Path) -> None:
    """In use, but not through Muster: whoever looks must be able to look at all processes to deny it."""
    server(tmp_path)
    process(tmp_path, 900, "/dev/null", "/dev/vfio/19", "/dev/vfio/vfio")
    found = described(tmp_path)
    assert [True, True] == [found[address].capabilities["vfio_in_use"] for address in GPUS]
    assert ["qemu-system-x86/900"] == found[GPUS[0]].capabilities["in_use_by"]
    assert found[VFS[0]].capabilities["vfio_in_use"] is False
    assert "in_use_by" not in found[VFS[0]].capabilities
    assert "vfio_in_use" not in found[DRIVE].capabilities, "it is not bound to vfio"
    link(tmp_path, "proc/self/ns/pid", "pid:[4026532999]")
    found = described(tmp_path)
    assert found[GPUS[0]].capabilities["vfio_in_use"] is True
    assert "vfio_in_use" not in found[VFS[0]].capabilities, "in a container, not seeing it proves nothing"


def test_open_vfio_device_is_in_use(tmp_path: Path) -> None:
    """The newer way in, without groups: `/dev/vfio/devices`."""
    server(tmp_path)
    (tmp_path / f"sys/bus/pci/devices/{VFS[2]}/vfio-dev/vfio7").mkdir(parents=True)
    process(tmp_path, 901, "/dev/vfio/devices/vfio7")
    found = described(tmp_path)
    assert [False, False, True, False] == [found[address].capabilities["vfio_in_use"] for address in VFS]


def test_function_that_no_longer_answers_has_no_document(tmp_path: Path) -> None:
    server(tmp_path)
    collector = collector_of(tmp_path)
    before = {one.slot.address: one for one in collector.describe()}
    kept = (tmp_path / f"sys/bus/pci/devices/{GPUS[1]}/config").read_bytes()
    write(tmp_path, f"sys/bus/pci/devices/{GPUS[1]}/config", b"\xff" * 4096)
    after = {one.slot.address: one for one in collector.describe()}
    assert {GPUS[1]} == before.keys() - after.keys()
    assert GPUS[1] in after[GPUS[0]].capabilities["iommu_group_members"], "it is in the group all the same"  # type: ignore[operator]
    write(tmp_path, f"sys/bus/pci/devices/{GPUS[1]}/config", kept)
    assert before == {one.slot.address: one for one in collector.describe()}


def test_sleeping_function_is_not_woken_and_is_asked_when_it_is_awake(tmp_path: Path) -> None:
    server(tmp_path)
    status = f"sys/bus/pci/devices/{GPUS[0]}/power/runtime_status"
    write(tmp_path, status, "suspended\n")
    write(tmp_path, f"sys/bus/pci/devices/{GPUS[0]}/config", b"\xff" * 4096)
    collector = collector_of(tmp_path)
    asleep = {one.slot.address: one for one in collector.describe()}[GPUS[0]]
    assert "pci_serial" not in asleep.capabilities
    write(tmp_path, status, "active\n")
    write(tmp_path, f"sys/bus/pci/devices/{GPUS[0]}/config", config_space(port_type=0, serial=0x1122_3344_5566_7788))
    awake = {one.slot.address: one for one in collector.describe()}[GPUS[0]]
    assert "11-22-33-44-55-66-77-88" == awake.capabilities["pci_serial"]


def test_device_is_asked_for_its_identity_once(tmp_path: Path) -> None:
    """Vital product data are slow to read, and reading them again and again wears on nobody but the card."""
    server(tmp_path)
    collector = collector_of(tmp_path)
    list(collector.describe())
    write(tmp_path, f"sys/bus/pci/devices/{PORT}/vpd", b"")
    assert "MT2048X12345" == {one.slot.address: one for one in collector.describe()}[PORT].part.serial


def test_card_that_was_swapped_is_asked_anew(tmp_path: Path) -> None:
    server(tmp_path)
    collector = collector_of(tmp_path)
    list(collector.describe())
    where = (tmp_path / "sys/bus/pci/devices" / DRIVE).resolve().relative_to(tmp_path / "sys/devices")
    unplug(tmp_path, DRIVE)
    own = {"nvme/nvme0/serial": "NEW1\n"}
    function(tmp_path, str(where), "144d:a80a", "010802", driver="nvme", files=own)
    found = {one.slot.address: one for one in collector.describe()}[DRIVE]
    assert "NEW1" == found.part.serial


def test_unchanged_machine_gives_unchanged_documents(tmp_path: Path) -> None:
    """R004-9: only changes are sent, and nothing changes by being looked at."""
    collector = collector_of(server(tmp_path))
    assert [encode_document(one) for one in collector.describe()] == [
        encode_document(one) for one in collector.describe()
    ]


def test_machine_without_pci_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="no PCI bus"):
        collector_of(tmp_path)

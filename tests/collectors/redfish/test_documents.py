"""What a BMC tells of its machine becomes documents in the words, and under the keys, of the node's own collectors."""

import functools
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.redfish.documents import KEPT, documents, survey
from collectors.redfish.naming import part_id
from collectors.redfish.resource import Resource, UnreadableError, decode
from schemas.capabilities import DPU_WORDS, PCI_WORDS, Word
from schemas.capabilities_bmc import BMC_WORDS, MACHINE_PART_WORDS
from schemas.capabilities_gpu import GPU_WORDS
from schemas.capabilities_nic import NIC_WORDS
from schemas.capabilities_nvme import NVME_WORDS
from schemas.device import DeviceKind, Document, Part, decode_document, encode_document
from tests.fakes.redfish import made, recorded

_WORDS: dict[str, Word] = {
    word.name: word
    for word in (*PCI_WORDS, *DPU_WORDS, *GPU_WORDS, *NIC_WORDS, *NVME_WORDS, *BMC_WORDS, *MACHINE_PART_WORDS)
}
_OF_HOST = frozenset(
    {
        "size_bytes", "type", "form_factor", "registers", "data_width_bits", "total_width_bits", "error_correction",
        "transfers_hertz", "configured_transfers_hertz", "ranks", "cores", "threads", "frequency_max_hertz",
    }
)  # fmt: skip
"""Words of `collectors.host` for memory modules and processors."""
_COUNTS = {
    "dell": {"bmc": 1, "psu": 2, "fan": 6, "cpu": 2, "memory-module": 16, "nvme": 3, "gpu": 1, "nic": 7},
    "lenovo": {"bmc": 1, "psu": 4, "fan": 10, "cpu": 2, "memory-module": 16, "nvme": 4, "gpu": 8, "nic": 4, "dpu": 1},
    "nvidia_dpu": {"bmc": 1, "nic": 3},
    "nvidia_viking": {"bmc": 1, "psu": 6, "fan": 36, "cpu": 2, "memory-module": 32, "gpu": 8, "nic": 5},
}


@functools.cache
def resources(name: str) -> list[Resource]:
    """Give what of a recorded machine is JSON; not to be changed."""
    found = []
    for body in recorded(name).values():
        try:
            found.append(decode(body)[0])
        except UnreadableError:
            continue
    return found


def described(name: str, *, own: bool = False) -> list[Document]:
    """Describe a recorded machine."""
    return documents("b1", resources(name), own=own)


def of_kind(found: list[Document], kind: DeviceKind) -> list[Document]:
    """Give the documents of one kind."""
    return [one for one in found if one.kind is kind]


@pytest.mark.parametrize("name", _COUNTS)
def test_every_part_that_is_there_has_one_document(name: str) -> None:
    found = described(name)
    assert _COUNTS[name] == Counter(one.kind.value for one in found)
    assert len(found) == len({one.device for one in found})


@pytest.mark.parametrize("name", _COUNTS)
def test_documents_have_known_words_and_travel(name: str) -> None:
    for one in described(name):
        assert set(one.capabilities) <= _WORDS.keys() | _OF_HOST
        for word, value in one.capabilities.items():
            if word in _WORDS and _WORDS[word].type in (str, int, bool, float):
                assert isinstance(value, _WORDS[word].type), (one.device, word)
        assert one == decode_document(encode_document(one))


@pytest.mark.parametrize("name", _COUNTS)
def test_no_identity_is_stated_twice(name: str) -> None:
    found = described(name)
    keys = Counter(key for one in found for key in one.merge_keys)
    assert {} == {key: times for key, times in keys.items() if times > 1}


@pytest.mark.parametrize(
    ("name", "uuid", "firmware"),
    [
        ("dell", "4c4c4544-0035-3410-8050-c6c04f314733", "6.00.30.00"),
        ("lenovo", "6173ecec-6ef5-11ee-834a-0a8fc3a58a71", "TGBT42S 2.83 2023-07-05"),
        ("nvidia_viking", "b11dd4f2-bfde-1000-02bc-5cff35fbe6e9", "23.11.20"),
    ],
)
def test_bmc_names_the_machine_by_its_system_uuid(name: str, uuid: str, firmware: str) -> None:
    bmc = described(name)[0]
    assert ("bmc:b1", DeviceKind.BMC) == (bmc.device, bmc.kind)
    assert (uuid, firmware) == (bmc.capabilities["system_uuid"], bmc.part.firmware)
    assert all(key.startswith("bmc:") for key in bmc.merge_keys)


def test_baseboard_of_gpus_is_not_the_machine() -> None:
    """It shows the UUID of its last GPU as its own."""
    found = described("nvidia_viking")
    system = found[0].capabilities["system_uuid"]
    assert f"GPU-{system}" not in {one.part.uuid for one in of_kind(found, DeviceKind.GPU)}


def test_machine_without_a_system_uuid_is_joined_to_none() -> None:
    assert "system_uuid" not in described("nvidia_dpu")[0].capabilities


def test_gpu_has_the_keys_and_words_of_nvidias_driver() -> None:
    gpu = of_kind(described("nvidia_viking"), DeviceKind.GPU)[0]
    assert ["gpu:GPU-9dad5bfd-a732-23fe-40ad-465d0cbe5f95", "serial:1652923003067"] == gpu.merge_keys
    assert "SXM1" == gpu.slot.location
    assert Part(
        vendor="NVIDIA", model="H100 80GB HBM3", part_number="2330-885-A1", serial="1652923003067",
        uuid="GPU-9dad5bfd-a732-23fe-40ad-465d0cbe5f95", firmware="96.00.89.00.01",
    ) == gpu.part  # fmt: skip
    assert {
        "memory_bytes": 81559 << 20, "pci_vendor_id": "10de", "pci_device_id": "2330", "pcie_generation": 5,
        "pcie_width": 16, "health": "ok",
    } == gpu.capabilities  # fmt: skip


def test_what_belongs_to_a_gpu_alone_leads_to_the_gpu() -> None:
    """The Xid log of a baseboard names the chassis of a GPU as the origin of each entry."""
    _, near = survey("b1", resources("nvidia_viking"), own=False)
    gpu = "gpu:b1/HGX_Baseboard_0/GPU_SXM_4"
    for path in ("Chassis/HGX_GPU_SXM_4", "Systems/HGX_Baseboard_0/Memory/GPU_SXM_4_DRAM_0"):
        assert gpu == near[f"/redfish/v1/{path}"]
    assert "/redfish/v1/Chassis/System.Embedded.1" not in survey("b1", resources("dell"), own=False)[1]


def test_slot_of_a_card_is_what_is_printed_beside_it() -> None:
    found = described("lenovo")
    places = {one.device: one.slot.location for one in found}
    assert "PCIe 3" == places["gpu:b1/1/GPU1"]
    assert "PCIe 15" == places["dpu:b1/1/slot-15"]
    assert "DIMM 1" == places["memory-module:b1/1/1"]
    assert "Drive 0" == places["nvme:b1/1/Direct_Attached_NVMe/Drive.Bay_0"]
    places = {one.device: one.slot.location for one in described("dell")}
    assert "NIC Slot 5" == places["nic:b1/System.Embedded.1/NIC.Slot.5/NIC.Slot.5-1"]
    assert "Disk Bay 0" == places["nvme:b1/System.Embedded.1/CPU.1/Disk.Bay.0:Enclosure.Internal.0-1"]
    assert "System Board Fan1A" == places["fan:b1/System.Embedded.1/Fan.Embedded.1A"]


def test_empty_slot_for_memory_has_no_document() -> None:
    """Of 32 resources 16 say that they are absent."""
    found = {one.device for one in described("lenovo")}
    assert "memory-module:b1/1/1" in found
    assert "memory-module:b1/1/11" not in found


def test_drive_that_the_bmc_names_and_knows_nothing_of_has_no_document() -> None:
    assert [] == of_kind(described("nvidia_viking"), DeviceKind.NVME)


def test_settings_for_the_next_reset_are_no_devices() -> None:
    nics = of_kind(described("dell"), DeviceKind.NIC)
    assert 7 == len(nics)
    assert not [one for one in nics if "Settings" in one.device]


def test_firmware_in_use_is_told_without_what_is_kept_beside_it() -> None:
    for name, item in (("dell", "BIOS.Setup.1-1=1.8.2"), ("lenovo", "BMC-Primary=42S-2.83")):
        versions = described(name)[0].capabilities["firmware_versions"]
        assert isinstance(versions, list)
        assert item in versions
        assert sorted(versions) == versions
        assert not [one for one in versions if one.startswith(("Previous-", "BMC-Backup"))]


def test_older_schemas_tell_of_supplies_and_fans_where_newer_ones_are_missing() -> None:
    old = [one for one in resources("lenovo") if "Subsystem" not in str(one.get("@odata.id"))]
    newer, older = described("lenovo"), documents("b1", old, own=False)
    for kind in (DeviceKind.PSU, DeviceKind.FAN):
        assert len(of_kind(newer, kind)) == len(of_kind(older, kind))
    assert {one.part.serial for one in of_kind(newer, DeviceKind.PSU)} == {
        one.part.serial for one in of_kind(older, DeviceKind.PSU)
    }


def test_parts_of_an_own_bmc_are_the_nodes() -> None:
    found = {one.kind: one.parent for one in described("dell", own=True)}
    assert ("", "bmc:b1", "bmc:b1", "node", "node") == tuple(
        found[kind] for kind in (DeviceKind.BMC, DeviceKind.PSU, DeviceKind.FAN, DeviceKind.GPU, DeviceKind.NVME)
    )


def test_number_that_two_parts_state_names_neither() -> None:
    found = [decode(body)[0] for body in made("made").values()]
    supplies = [one for one in found if str(one.get("@odata.type")).startswith("#PowerSupply.")]
    for one in supplies:
        one["SerialNumber"] = "SAME"
    told = of_kind(documents("b1", found, own=False), DeviceKind.PSU)
    assert len(supplies) == len(told)
    assert [([], "")] * len(told) == [(one.merge_keys, one.part.serial) for one in told]


def test_older_and_newer_names_differ_by_bmc_and_place() -> None:
    path = "/redfish/v1/Chassis/1/PowerSubsystem/PowerSupplies/PSU1"
    assert "psu:b1/1/PSU1" == part_id(DeviceKind.PSU, "b1", path)
    assert "psu:b1/1/0" == part_id(DeviceKind.PSU, "b1", "/redfish/v1/Chassis/1/Power", "0")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@given(data=st.data())
def test_whatever_a_property_holds_documents_can_be_made_and_travel(data: st.DataObject) -> None:
    found = [decode(body)[0] for body in made("made").values()]
    looked_at = [one for one in found if str(one.get("@odata.type", "")).lstrip("#").partition(".")[0] in KEPT]
    for _ in range(data.draw(st.integers(1, 8))):
        _spoil(data.draw(st.sampled_from(looked_at)), data)
    for one in documents("b1", found, own=data.draw(st.booleans())):
        assert one == msgspec.convert(msgspec.to_builtins(one), Document)
        encode_document(one)


def _spoil(resource: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(resource)))
    inside = resource[name]
    if isinstance(inside, dict) and inside and data.draw(st.booleans()):
        _spoil(inside, data)
    else:
        resource[name] = data.draw(_json)


@pytest.mark.parametrize(
    "wrong",
    [
        {"AllowedSpeedsMHz": 5},
        {"AllowedSpeedsMHz": [1e30, "x", 1e308]},
        {"CapacityMiB": 1 << 52},
        {"MemoryLocation": {"Socket": 10**5000, "Slot": 3}},
    ],
    ids=["a number", "speeds that cannot be", "a size that cannot be", "a place that cannot be"],
)
def test_a_number_that_cannot_be_is_absent_and_its_part_is_described(wrong: Resource) -> None:
    module = {
        "@odata.id": "/redfish/v1/Systems/1/Memory/A1", "@odata.type": "#Memory.v1_20_0.Memory", "SerialNumber": "42",
        "MemoryDeviceType": "DDR5", **wrong,
    }  # fmt: skip
    [_, found] = documents("b", [module], own=False)
    assert found == decode_document(encode_document(found))
    assert {"size_bytes", "transfers_hertz"}.isdisjoint(found.capabilities)
    assert "42" == found.part.serial


def test_a_rate_that_cannot_be_is_absent() -> None:
    card = "/redfish/v1/Chassis/1/NetworkAdapters/N"
    found = documents(
        "b",
        [
            {"@odata.id": card, "@odata.type": "#NetworkAdapter.v1_11_0.NetworkAdapter"},
            {"@odata.id": f"{card}/Ports/1", "@odata.type": "#Port.v1_13_0.Port", "MaxSpeedGbps": 1e300},
            {
                "@odata.id": f"{card}/NetworkDeviceFunctions/1",
                "@odata.type": "#NetworkDeviceFunction.v1_11_0.NetworkDeviceFunction",
                "Ethernet": {"PermanentMACAddress": "02:00:00:00:00:01"},
                "Links": {"PhysicalNetworkPortAssignment": {"@odata.id": f"{card}/Ports/1"}},
            },
        ],
        own=False,
    )
    assert "mac" in found[1].capabilities
    assert "link_rate_bytes_per_second" not in found[1].capabilities

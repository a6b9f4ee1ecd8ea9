"""A real bus: root ports, a switch, an IOMMU, virtual functions that are made, and a drive that is pulled.

In a guest of QEMU, with the guest's kernel, its hot plug and its uevents. Requirements: R004-1, R004-9, R000-1,
R002-1, R002-5.
"""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.ledger.entries import ViewGone
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device, view_source
from aggregator.ledger.relations import excludes, together
from aggregator.ledger.words import Lifecycle, Reach
from schemas.device import DeviceKind, Document
from tests.aggregator.ledger.worlds import Book, begin
from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.slow]


_SRIOV = "sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=8,max_ioqpairs=10,msix_qsize=10"


def _devices(folder: Path) -> list[str]:
    """Give QEMU's arguments: a drive with virtual functions, one behind a switch, and one to pull."""
    arguments = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-device", "intel-iommu,intremap=off"]
    arguments += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on intel_iommu=on"]
    for device in (
        *(f"pcie-root-port,id=rp{number},chassis={number},slot={number}" for number in (1, 2, 3)),
        "x3130-upstream,id=up,bus=rp2",
        "xio3130-downstream,id=down,bus=up,chassis=12,slot=12",
        "nvme-subsys,id=ss0,nqn=ss0",
        f"nvme,serial=FAMILY,id=family,bus=rp1,subsys=ss0,{_SRIOV}",
    ):
        arguments += ["-device", device]
    for name, bus in (("BEHIND", "down"), ("PULLED", "rp3")):
        disk = folder / f"{name}.img"
        with disk.open("wb") as file:
            file.truncate(16 << 20)
        arguments += ["-drive", f"file={disk},if=none,format=raw,id=d{name}"]
        arguments += ["-device", f"nvme,serial={name},id={name},drive=d{name},bus={bus}"]
    return arguments


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the collector in the guest said, by word, in order."""
    said: dict[str, list[Any]] = {"documents": [], "event": [], "pull": []}
    extra = _devices(tmp_path_factory.mktemp("drives"))
    with Machine("python3.11 -m tests.vm.guest.pci_bus", memory=1024, extra=extra) as machine:
        for line in machine.lines(180):
            for word, what in json.loads(line).items():
                said[word].append(what)
                if word == "pull":
                    machine.qmp("device_del", id="PULLED")
        assert 0 == machine.exit_status, machine.console
    return said


def _by_serial(documents: dict[str, Any], serial: str) -> Any:
    (found,) = [one for one in documents.values() if one["part"].get("serial") == serial]
    return found


def test_drive_behind_a_switch_tells_its_way(told: dict[str, list[Any]]) -> None:
    documents = told["documents"][0]
    drive = _by_serial(documents, "BEHIND")
    assert "nvme" == drive["kind"]
    switch = documents[drive["capabilities"]["pcie_switch"]]
    assert "104c" == switch["capabilities"]["pci_vendor_id"], "the switch is one of Texas Instruments"
    root = documents[drive["capabilities"]["pcie_root"]]
    assert "bridge" in root["capabilities"]
    assert drive["slot"]["path"].startswith(root["slot"]["path"] + "/00.0/")
    assert 4 == drive["slot"]["path"].count("/"), "root port, upstream port, downstream port, drive"
    assert "slot 12" == drive["slot"]["location"]


def test_every_endpoint_has_a_group_and_is_a_member_of_it(told: dict[str, list[Any]]) -> None:
    for address, one in told["documents"][0].items():
        assert address in one["capabilities"]["iommu_group_members"]
    drive = _by_serial(told["documents"][0], "BEHIND")
    bridges = drive["capabilities"].get("iommu_group_bridges", [])
    assert set(bridges) < set(drive["capabilities"]["iommu_group_members"])


def test_virtual_functions_are_told_as_they_are_made(told: dict[str, list[Any]]) -> None:
    before, after, *_ = told["documents"]
    parent = _by_serial(before, "FAMILY")
    assert (4, 0) == tuple(parent["capabilities"][f"sriov_{word}"] for word in ("total_vfs", "vfs"))
    new = {address: one for address, one in after.items() if address not in before}
    assert {"vf"} == {one["kind"] for one in new.values()}
    assert [f"{parent['slot']['path']}/vf{index}" for index in (0, 1)] == sorted(
        one["slot"]["path"] for one in new.values()
    )
    assert {parent["device"]} == {one["parent"] for one in new.values()}
    added = {device for kind, device, _ in told["event"] if kind == "device.added"}
    assert {one["device"] for one in new.values()} == added
    changes = [
        detail for kind, device, detail in told["event"] if kind == "device.changed" and device == parent["device"]
    ]
    assert [("sriov_vfs", "0", "2")] == [(one["what"], one["before"], one["after"]) for one in changes]


def test_pulled_drive_is_told_once_and_its_document_is_gone(told: dict[str, list[Any]]) -> None:
    _, before, after, *_ = told["documents"]
    drive = _by_serial(before, "PULLED")
    removed = [(device, detail) for kind, device, detail in told["event"] if kind == "device.removed"]
    assert [(drive["device"], "PULLED", drive["slot"]["path"])] == [
        (device, detail["serial"], detail["path"]) for device, detail in removed
    ]
    assert {drive["slot"]["address"]} == before.keys() - after.keys()


def test_nothing_else_changed(told: dict[str, list[Any]]) -> None:
    """R004-9: only changes are sent."""
    first, second, third, *_ = told["documents"]
    parent = _by_serial(first, "FAMILY")["slot"]["address"]
    assert {parent} == {address for address in first if second[address] != first[address]}
    assert set() == {address for address in third if third[address] != second[address]}


@pytest.fixture(scope="module")
def ledger(told: dict[str, list[Any]]) -> tuple[Book, list[dict[str, Device]]]:
    """A ledger that took what the guest said, and its devices by address after each description."""
    book = Book()
    begin(book, "guest")
    shown: list[dict[str, Device]] = []
    before: dict[str, Document] = {}
    for described in told["documents"]:
        documents = {address: msgspec.convert(one, Document) for address, one in described.items()}
        for address in before.keys() - documents.keys():
            source = view_source("guest", "pci", before[address].device)
            book.write(withdraw(book.state, "guest", source, "its collector no longer describes it"))
        for document in sorted(documents.values(), key=lambda one: one.kind is DeviceKind.VF):
            book.see(document, "guest")
        before = documents
        shown.append({one.slot.address: copy.deepcopy(one) for one in book.state.devices_of("guest")})
    return book, shown


def test_ledger_has_each_function_once_with_its_group_and_parent(ledger: tuple[Book, list[dict[str, Device]]]) -> None:
    book, shown = ledger
    assert len(book.state.devices) == len(shown[-1])
    functions = [device for device in shown[1].values() if device.kind is DeviceKind.VF]
    (parent,) = {device.parent for device in functions}
    assert "FAMILY" == book.state.devices[parent].part.serial
    assert all(parent in [one.id for one in excludes(book.state, device)] for device in functions)
    for device in shown[-1].values():
        members = {book.state.devices[device.id].slot.address, *_addresses(together(book.state, device))}
        bridges = set(_texts(device, "iommu_group_bridges"))
        if not device.is_bridge:
            assert set(_texts(device, "iommu_group_members")) - bridges == members


def test_pulled_drive_is_absent_with_its_last_identity(ledger: tuple[Book, list[dict[str, Device]]]) -> None:
    book, shown = ledger
    (drive,) = [device for device in shown[0].values() if device.part.serial == "PULLED"]
    after = shown[2][drive.slot.address]
    assert (Reach.LIVE, Reach.ABSENT) == (drive.reach, after.reach)
    assert (drive.id, drive.part, drive.slot.path) == (after.id, after.part, after.slot.path)
    gone = [written.entry for written in book.written if isinstance(written.entry, ViewGone)]
    assert [drive.id] == [entry.device for entry in gone], "one removal, once"
    (stay,) = book.state.sights[drive.id]
    assert stay.until is not None


def test_drive_whose_vfio_group_is_open_is_foreign_until_it_is_closed(
    ledger: tuple[Book, list[dict[str, Device]]],
) -> None:
    _, shown = ledger
    ways = [(_at(documents, "BEHIND").lifecycle.value, _at(documents, "BEHIND").get("driver")) for documents in shown]
    assert ("dirty", "nvme") == ways[2]
    assert [("foreign", "vfio-pci"), ("dirty", "vfio-pci")] == ways[3:]
    assert "python" in str(_at(shown[3], "BEHIND").get("in_use_by"))
    others = {device.id for device in shown[3].values() if device.lifecycle is Lifecycle.FOREIGN}
    group = _at(shown[3], "BEHIND").group
    assert {group} == {device.group for device in shown[3].values() if device.id in others}, "its group, and no other"


def _at(shown: dict[str, Device], serial: str) -> Device:
    (found,) = [device for device in shown.values() if device.part.serial == serial]
    return found


def _addresses(devices: Iterable[Device]) -> set[str]:
    return {device.slot.address for device in devices if device.reach is not Reach.ABSENT}


def _texts(device: Device, word: str) -> list[str]:
    value = device.get(word)
    return value if isinstance(value, list) else []

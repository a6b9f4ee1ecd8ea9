"""What `sriov` and `pci` say of one machine makes one device of each function, VFs below their ports (R000-1)."""

from pathlib import Path

from aggregator.ledger.relations import excludes
from schemas.capabilities import PCI_WORDS, Word
from schemas.capabilities_nic import NIC_WORDS
from schemas.device import DeviceKind, Document, Value
from tests.aggregator.ledger.worlds import Book
from tests.collectors.pci.help import described as pci_described
from tests.collectors.sriov.help import collector_of, described
from tests.collectors.sriov.made import answer
from tests.collectors.sriov.test_drift import MACS, VFS, machine

_TYPES: dict[str, Word] = {word.name: word for word in (*PCI_WORDS, *NIC_WORDS)}
_SHARED = ("link_rate_bytes_per_second",)
"""Words of other kinds of device, with the same name, type and meaning."""


def _documents(root: Path) -> dict[str, Document]:
    return described(collector_of(root, machine(root)))


def test_function_is_one_device_of_two_sources(tmp_path: Path) -> None:
    ours = _documents(tmp_path)
    for first in ("pci", "sriov"):
        book = Book()
        sources = {"pci": pci_described(tmp_path), "sriov": ours}
        for collector in sorted(sources, key=lambda name: name != first):
            documents = sorted(sources[collector].values(), key=lambda one: one.kind is DeviceKind.VF)
            for document in documents:
                book.see(document, "n1", collector=collector)
        found = {one.slot.address: one for one in book.state.devices.values() if one.slot.address in ours}
        assert len(ours) == len(found)
        assert {2} == {len(one.views) for one in found.values()}
        for address, vlan in zip(VFS, (1, 2, 1), strict=True):
            device = found[address]
            assert (vlan, "vfio-pci") == (device.get("vlan"), device.get("driver"))
            port = book.state.devices[device.parent]
            assert (DeviceKind.NIC, "mlx5_core") == (port.kind, port.get("driver"))
            assert port.id in [one.id for one in excludes(book.state, device)]


def test_words_are_those_that_are_declared(tmp_path: Path) -> None:
    for document in _documents(tmp_path).values():
        for name, value in document.capabilities.items():
            if name not in _SHARED:
                assert _is(value, _TYPES[name].type), f"{name} of {document.device}"
    assert [] == [word.name for word in NIC_WORDS if not word.meaning.endswith(".")]
    assert len(_TYPES) == len(PCI_WORDS) + len(NIC_WORDS)


def _is(value: Value, kind: object) -> bool:
    if isinstance(value, list):
        return str(kind) == "list[str]" and all(isinstance(one, str) for one in value)
    return type(value) is kind


def test_two_ports_with_one_mac_are_named_by_their_place(tmp_path: Path) -> None:
    """A driver that tells the same address for both ports names neither."""
    answers = machine(tmp_path)
    answers.links[5] = answer(5, "ens1f1", mac=MACS[0])
    documents = described(collector_of(tmp_path, answers))
    assert {"nic:0000:3b:00.0", "nic:0000:3b:00.1"} == {
        one.device for one in documents.values() if one.kind is DeviceKind.NIC
    }
    assert [] == [key for one in documents.values() for key in one.merge_keys if key.startswith("mac:")]


def test_bonded_port_keeps_its_name(tmp_path: Path) -> None:
    """In a bond all ports show one address, and each keeps the one that it was made with."""
    answers = machine(tmp_path)
    for index, mac in ((4, MACS[0]), (5, MACS[1])):
        answers.links[index] = answer(index, mac="02:00:00:00:00:99", permanent=mac)
    documents = described(collector_of(tmp_path, answers))
    assert {f"nic:{mac}" for mac in MACS} == {one.device for one in documents.values() if one.kind is DeviceKind.NIC}

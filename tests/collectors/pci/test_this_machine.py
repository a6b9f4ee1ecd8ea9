"""The real `/sys` of the machine that runs the tests, whatever it is."""

from pathlib import Path

import pytest

from collectors.pci_sysfs import DEVICES
from schemas.device import decode_document, encode_document, pci_address
from tests.collectors.pci.help import collector_of

_DEVICES = Path("/") / DEVICES


@pytest.fixture(autouse=True)
def _has_a_bus() -> None:
    if not _DEVICES.is_dir():
        pytest.skip("this machine has no PCI bus")


def test_every_function_gives_exactly_one_document() -> None:
    """R004-1: all PCI devices of a node."""
    documents = list(collector_of(Path("/")).describe())
    assert sorted(path.name for path in _DEVICES.iterdir()) == [document.slot.address for document in documents]
    for document in documents:
        assert document == decode_document(encode_document(document))
        assert document.slot.address == pci_address(document.slot.address)
        folder = _DEVICES / document.slot.address
        told = document.capabilities
        assert (folder / "vendor").read_text().strip() == f"0x{told['pci_vendor_id']}"
        assert (folder / "class").read_text().strip() == f"0x{told['pci_class']}"
        assert ((folder / "driver").resolve().name if (folder / "driver").exists() else "") == told["driver"]
        assert (folder / "physfn").exists() is ("vf_index" in told)


def test_documents_do_not_change_by_being_asked_for() -> None:
    """R004-9: only changes are sent."""
    collector = collector_of(Path("/"))
    assert list(collector.describe()) == list(collector.describe())
    list(collector.collect())
    collector.stop()

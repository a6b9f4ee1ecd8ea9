"""What can be given to somebody: by PCI class, a machine's own functions are the host's from the first sight on."""

from typing import Any

import pytest

from aggregator.ledger import adoption
from aggregator.ledger.words import Lifecycle
from schemas.device import DeviceKind, Value
from tests.aggregator.ledger.worlds import Book, begin, document

ADDRESS = "0000:00:1f.0"


@pytest.fixture
def book() -> Book:
    made = Book()
    begin(made)
    return made


def first(book: Book, pci_class: str, kind: DeviceKind = DeviceKind.PCI_FUNCTION, **more: Value) -> str:
    told: dict[str, Any] = {"pci_vendor_id": "8086", "pci_class": pci_class, **more}
    device = book.see(document(kind, ADDRESS, **told))
    assert device is not None
    return device.lifecycle.value


@pytest.mark.parametrize(
    ("pci_class", "what"),
    [
        ("060000", "host bridge"),
        ("060100", "ISA bridge"),
        ("068000", "other bridge"),
        ("050000", "memory"),
        ("080600", "IOMMU"),
        ("080700", "root complex event collector"),
        ("088000", "a processor's own registers"),
        ("0c0500", "SMBus"),
        ("0c0701", "IPMI"),
        ("110100", "performance counters"),
        ("130000", "non-essential instrumentation"),
    ],
)
def test_function_of_the_machine_itself_is_the_hosts_and_says_why(book: Book, pci_class: str, what: str) -> None:
    assert Lifecycle.HOST.value == first(book, pci_class), what
    assert book.written[-2].entry.why  # type: ignore[union-attr]
    assert [] == adoption.waiting(book.state, book.state.devices.values())


@pytest.mark.parametrize(
    ("pci_class", "kind"),
    [
        ("030000", DeviceKind.PCI_FUNCTION),
        ("030200", DeviceKind.GPU),
        ("120000", DeviceKind.GPU),
        ("120000", DeviceKind.PCI_FUNCTION),
        ("0b4000", DeviceKind.PCI_FUNCTION),
        ("020000", DeviceKind.NIC),
        ("020700", DeviceKind.VF),
        ("088000", DeviceKind.VF),
        ("010400", DeviceKind.PCI_FUNCTION),
        ("010802", DeviceKind.NVME),
        ("0c0330", DeviceKind.PCI_FUNCTION),
        ("040300", DeviceKind.PCI_FUNCTION),
    ],
)
def test_what_somebody_may_use_waits_to_be_given(book: Book, pci_class: str, kind: DeviceKind) -> None:
    assert Lifecycle.DIRTY.value == first(book, pci_class, kind)


def test_nvswitch_has_the_class_of_a_bridge_and_can_be_given(book: Book) -> None:
    assert Lifecycle.DIRTY.value == first(book, "068000", pci_vendor_id="10de", pci_device_id="1af1")


def test_accelerator_inside_a_processor_can_be_given(book: Book) -> None:
    assert Lifecycle.DIRTY.value == first(book, "088000", pci_device_id="0b25")


def test_bridge_that_the_host_needs_no_more_is_still_the_hosts(book: Book) -> None:
    assert Lifecycle.HOST.value == first(book, "060400", bridge=True, host_needs="root disk")
    assert Lifecycle.HOST.value == first(book, "060400", bridge=True, host_needs="")

"""The server of R002-1: six V100 in four IOMMU groups, bridges in two of them, and a drive that the host needs."""

from aggregator.ledger import cleaning
from aggregator.ledger.entries import VariantSet
from aggregator.ledger.model import Device, Variant
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document

GPUS = {
    "0000:27:00.0": 19,
    "0000:28:00.0": 19,
    "0000:44:00.0": 32,
    "0000:a3:00.0": 75,
    "0000:c3:00.0": 87,
    "0000:c4:00.0": 87,
}
BRIDGES = {"0000:26:00.0": 19, "0000:c2:00.0": 87}
DRIVE, PORT, FUNCTIONS = "0000:01:00.0", "0000:61:00.0", ("0000:61:02.0", "0000:61:02.1")
V100 = "tesla-v100"


class Server(Book):
    """A node with that hardware, its GPUs free."""

    def __init__(self, node: str = "n1") -> None:
        super().__init__()
        begin(self, node)
        self.node = node
        self.write([VariantSet(Variant(V100, DeviceKind.GPU, "10de", "1db4"))])
        for address, group in BRIDGES.items():
            ids = {"pci_vendor_id": "1022", "pci_device_id": "1483", "pci_class": "060400"}
            self.see(document(DeviceKind.PCI_FUNCTION, address, group=group, bridge=True, **ids), node)
        for address, group in GPUS.items():
            gpu = self.see(document(DeviceKind.GPU, address, serial=f"G{address}-{node}", group=group), node)
            assert gpu is not None
            self.free(gpu)
        self.see(document(DeviceKind.NVME, DRIVE, group=5, host_needs=["mount:/"], pci_device_id="a808"), node)

    def free(self, device: Device) -> None:
        """Let an operator vouch for a device."""
        self.decide(cleaning.attest(self.state, device.id, "op", "new"))

    def at(self, address: str) -> Device:
        """Give the device at an address of the node."""
        (found,) = [one for one in self.state.devices_of(self.node) if one.slot.address == address]
        return found

    def port(self, *, group: int = 60) -> None:
        """Add a port that the host keeps, with two functions in groups of their own, and a variant for those."""
        ids = {"pci_vendor_id": "8086", "pci_device_id": "10c9"}
        port = document(DeviceKind.NIC, PORT, serial="P1", group=group, sriov_total_vfs=7, interface="eth4", **ids)
        self.see(port, self.node)
        for number, address in enumerate(FUNCTIONS):
            ids = {"pci_vendor_id": "8086", "pci_device_id": "10ca"}
            function = self.see(
                document(DeviceKind.VF, address, parent=f"pci:{PORT}", group=61 + number, vf_index=number, **ids),
                self.node,
            )
            assert function is not None
            self.free(function)
        self.write([VariantSet(Variant("i350-vf", DeviceKind.VF, "8086", "10ca"))])
        self.write([VariantSet(Variant("i350", DeviceKind.NIC, "8086", "10c9"))])

"""What can be given to somebody at all, and what is the host's by its nature, however idle it is.

A machine's own bridges, timers and management buses are PCI functions like any other; nobody could use one, and a guest
that had one would have its hands on the machine. They are the host's from the first sight on.
"""

from collections.abc import Mapping
from typing import Final

from schemas.device import DeviceKind, Value

GIVEN: Final = frozenset(
    {
        DeviceKind.GPU,
        DeviceKind.GPU_PARTITION,
        DeviceKind.NIC,
        DeviceKind.VF,
        DeviceKind.NVME,
        DeviceKind.NVME_NAMESPACE,
        DeviceKind.DPU,
        DeviceKind.PCI_FUNCTION,
    }
)
"""Kinds of device that can be given to somebody; the others are the host's, from the first sight on."""
HOST_CLASSES: Final[dict[str, str]] = {
    "05": "memory controller: what is behind it is the machine's memory",
    "06": "bridge: it is the way to other devices",
    "08": "system peripheral: interrupts, timers, DMA and the IOMMU are the machine's",
    "0c05": "SMBus: it leads to the machine's sensors and memory modules",
    "0c07": "IPMI interface: it is the way to the machine's BMC",
    "1101": "performance counters of the processor",
    "13": "function without a use of its own (non-essential instrumentation)",
}
"""By the beginning of a PCI class, why nobody can be given it. All else can be: storage, network, displays, processors,
USB controllers, accelerators. Source: PCI Code and ID Assignment Specification 1.15, 1.
"""
EXCEPTIONS: Final[dict[tuple[str, str, str], str]] = {
    ("10de", "", "0680"): "NVSwitch: given to the VM that manages the fabric, or with all of its GPUs",
    ("8086", "0b25", "0880"): "Intel DSA, a copy accelerator",
    ("8086", "0cfe", "0880"): "Intel IAA, a compression accelerator",
}
"""By vendor, device ("" for all) and class: what has the class of a host's function, and is given away all the same.
Source: NVIDIA Fabric Manager User Guide, "Virtualization Models"; pci.ids; `drivers/dma/idxd/init.c` of Linux.
"""


def never_given(kind: DeviceKind, capabilities: Mapping[str, Value]) -> str:
    """Say why a device can be nobody's but the host's; "" for what can be given.

    A virtual function has no class of a host's own: it was made to be given.
    """
    if kind not in GIVEN:
        return f"a device of the kind {kind.value} is nobody's but the host's"
    if capabilities.get("bridge") is True:
        return HOST_CLASSES["06"]
    pci_class = str(capabilities.get("pci_class", ""))
    vendor, device = (str(capabilities.get(name, "")) for name in ("pci_vendor_id", "pci_device_id"))
    excepted = any((vendor, one, pci_class[:4]) in EXCEPTIONS for one in (device, ""))
    if kind is not DeviceKind.PCI_FUNCTION or excepted:
        return ""
    return HOST_CLASSES.get(pci_class[:4]) or HOST_CLASSES.get(pci_class[:2], "")

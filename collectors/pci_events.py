"""The events of the collector `pci`."""

from typing import Final

from schemas.events import EventSpec
from schemas.rows import Severity

_FACTS: Final = ("address", "path", "pci_vendor_id", "pci_device_id", "pci_class", "driver")

EVENTS: Final = (
    EventSpec("device.added", "A PCI function appeared.", (Severity.NOTICE,), _FACTS),
    EventSpec(
        "device.removed", "A PCI function is gone.", (Severity.WARNING,), (*_FACTS, "kind", "serial", "location")
    ),
    EventSpec("device.lost", "A PCI function is there, and no longer answers on its bus.", (Severity.ERROR,), _FACTS),
    EventSpec("device.found", "A PCI function answers on its bus again.", (Severity.NOTICE,), _FACTS),
    EventSpec(
        "device.changed",
        "A PCI function has another driver, number of VFs or user through vfio.",
        (Severity.NOTICE,),
        ("address", "what", "before", "after"),
    ),
)
"""What is told of functions that come, go and change."""

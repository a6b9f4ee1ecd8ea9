"""What a BMC tells of the parts of its machine: it sees them from outside, and the machine itself has the last word.

Of what can be given to somebody (GPUs, drives, network functions) a BMC makes no device, and keeps none alive: it may
go on telling of a card that has fallen off the bus. It adds to one that the machine itself describes, found by serial
number, UUID or MAC: where it sits, how the BMC finds it, and what nobody else says of its making.

Of what is the board's alone (supplies, fans, memory modules) its word is as good as any.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from aggregator.ledger.givable import GIVEN
from aggregator.ledger.model import Device, view_source
from aggregator.ledger.state import State
from aggregator.ledger.words import BMC_KEY, Reach
from schemas.capabilities_bmc import MACHINE_PART_WORDS
from schemas.device import DeviceKind, Document, Slot

COLLECTOR: Final = "redfish"
"""Who reads BMCs."""
_SLOT_KEY: Final = "pci:"
_WORDS: Final = frozenset(word.name for word in MACHINE_PART_WORDS)


def is_outside(node: str, collector: str, kind: DeviceKind) -> bool:
    """Tell whether a document of a BMC can only add to a device that its machine describes."""
    return kind in GIVEN and (collector == COLLECTOR or node.startswith(BMC_KEY))


def may_add(device: Device | None) -> bool:
    """Tell whether there is a device that such a document adds to."""
    return device is not None and device.reach is not Reach.ABSENT


def outside(device: Device, beside: str = "") -> list[str]:
    """Give the sources of a device's views when all but `beside` see it from outside only; [] when others see it too.

    `beside`: a source that is left out.
    """
    if device.kind not in GIVEN:
        return []
    others = [source for source in device.views if source != beside]
    seen = [source for source in others if device.views[source].collector == COLLECTOR]
    return seen if len(seen) == len(others) else []


def joined_to(state: State, publisher: str, collector: str, subject: str) -> str:
    """Give the machine of the BMC that a subject is, as it says of itself; "" for none."""
    for name in state.found.bmcs.get(view_source(publisher, collector, subject)):
        device = state.devices[name]
        if device.reach is not Reach.ABSENT and device.node != subject:
            return device.node
    return ""


def added(document: Document) -> Document:
    """Give what a BMC that somebody polls may add to a device of its machine: no place on its bus, and no use."""
    keys = [key for key in document.merge_keys if not key.startswith(_SLOT_KEY)]
    told = {name: value for name, value in document.capabilities.items() if name in _WORDS}
    return msgspec.structs.replace(
        document, merge_keys=keys, parent="", slot=Slot(location=document.slot.location), capabilities=told
    )


def views_through(state: State, node: str, publisher: str, collector: str, subject: str) -> Iterable[str]:
    """Give the sources of what a BMC has added to the devices of a machine."""
    begins, whose = view_source(publisher, collector, ""), subject.removeprefix(BMC_KEY)
    for device in state.devices_of(node):
        for source in device.views:
            if source.startswith(begins) and source.removeprefix(begins).partition(":")[2].startswith(f"{whose}/"):
                yield source

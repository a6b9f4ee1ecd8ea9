"""All PCI functions of a machine, and what is known of them only together: groups, slots, virtual functions."""

from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import names, read_text
from collectors._smbios import structures
from collectors.pci_sysfs import DEVICES, Function, UnreadableError, read_function, virtual_functions

_SYSTEM_SLOT: Final = 9
_SLOT_LEAST: Final = 0x11
"""Length of a structure that has the address: SMBIOS 2.6 and later."""


class Bus(msgspec.Struct):
    """One look at the whole bus."""

    functions: dict[str, Function] = {}
    """By address."""
    unreadable: list[str] = []
    """Sentences on those that are there and could not be read."""
    groups: dict[int, list[str]] = {}
    """Members of each IOMMU group, sorted; the kernel's own list, so that none is missing."""
    indexes: dict[str, int] = {}
    """Of each virtual function, which one it is."""
    slots: dict[str, str] = {}
    """Names of physical slots, by address without function, or by bus alone."""
    designations: dict[str, str] = {}
    """What is printed beside each slot, by the address that the firmware gives for it."""

    def path(self, function: Function) -> str:
        """Give the path of a function; a virtual one's is its parent's with its index."""
        parent = self.functions.get(function.physical)
        if parent is None or function.address not in self.indexes:
            return function.path
        return f"{parent.path}/vf{self.indexes[function.address]}"

    def slot(self, function: Function) -> str:
        """Give the physical slot that the function, or the card that it is on, sits in; "" when it is in none."""
        for address in (function.address, *reversed(function.chain)):
            name = self.slots.get(address[:-2]) or self.slots.get(address[:-5])
            if name:
                return name
        return ""

    def location(self, function: Function) -> str:
        """Give what is printed on the machine: the firmware's words if there are any, else the slot's number."""
        own = self.designations.get(function.address)
        if not own and not function.is_bridge:  # the ports of one root complex differ by function alone
            own = self.designations.get(function.address[:-2])
        if own:
            return own
        for address in reversed(function.chain):
            if address in self.designations:
                return self.designations[address]
        slot = self.slot(function)
        return function.label or (f"slot {slot}" if slot else "")


def read_bus(root: Path) -> Bus:
    """Read every function. Raises nothing: what cannot be read is told in `unreadable`."""
    bus = Bus(slots=_slots(root), designations=_designations(root))
    for address in names(root / DEVICES):
        try:
            function = read_function(root, address)
        except UnreadableError as error:
            bus.unreadable.append(str(error))
            continue
        if function is not None:
            bus.functions[address] = function
    for address, function in bus.functions.items():
        if function.vfs:
            bus.indexes |= virtual_functions(root, address)
        if function.iommu_group is not None:
            bus.groups.setdefault(function.iommu_group, []).append(address)
    for group, members in bus.groups.items():
        listed = names(root / "sys/kernel/iommu_groups" / str(group) / "devices")
        bus.groups[group] = sorted({*members, *listed})
    return bus


def _slots(root: Path) -> dict[str, str]:
    """Read `/sys/bus/pci/slots`: a slot's name, and the address of what may sit in it."""
    folder = root / "sys/bus/pci/slots"
    found: dict[str, str] = {}
    for name in names(folder):
        address = read_text(folder / name / "address")
        if address:
            found.setdefault(address, name)
    return found


def _designations(root: Path) -> dict[str, str]:
    """Read SMBIOS type 9; an address that several slots claim, or that no card can have, is no address.

    Firmware gives the card's address or that of the port above it, and for the card often any of its functions.
    Source: SMBIOS 3.7, 7.10.
    """
    claimed: list[tuple[str, str]] = []
    for slot in structures(root, _SYSTEM_SLOT, _SLOT_LEAST):
        name, segment, bus, rest = slot.text(0x04), slot.word(0x0D), slot.byte(0x0F), slot.byte(0x10)
        if not name or segment is None or bus is None or rest is None:
            continue
        if segment == 0xFFFF or (bus, rest) in ((0xFF, 0xFF), (0, 0)):
            continue
        claimed.append((f"{segment:04x}:{bus:02x}:{rest >> 3:02x}.{rest & 7}", name))
    whole = Counter(address for address, _ in claimed)
    cards = Counter(address[:-2] for address, _ in claimed)
    found = {address: name for address, name in claimed if whole[address] == 1}
    found |= {address[:-2]: name for address, name in claimed if cards[address[:-2]] == 1}
    return found

"""Where a part sits, in the words that are printed on the machine, out of the places where BMCs write that.

Source: Redfish Resource 1.20 (Location), PCIeSlots 1.6, Memory 1.20, Processor 1.20; Dell's FQDD (`NIC.Slot.5-1`).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from collectors._dmi import usable
from collectors.redfish.naming import own_id
from collectors.redfish.resource import Resource, canonical, link, links, member, objects, text

_MOST: Final = 128
_NAMED: Final = re.compile(
    r"(?P<what>[A-Za-z]+)\.(?P<place>Slot|Embedded|Integrated|Mezzanine|Bay|Socket)\.(?P<number>[0-9A-Za-z]+)", re.ASCII
)
"""A name that says where: `InfiniBand.Slot.7`, `NIC.Integrated.1-1-1`, `Disk.Bay.0:Enclosure.Internal.0-1`."""


class Places:
    """Knows which slot leads to which PCI device."""

    def __init__(self, slots: Iterable[Resource]) -> None:
        """`slots`: resources of the schema PCIeSlots."""
        self._by_device: dict[str, str] = {}
        for resource in slots:
            for slot in objects(resource, "Slots"):
                label = _labelled(member(slot, "Location"))
                if label:
                    for device in _devices(slot):
                        self._by_device.setdefault(device, label)

    def of(self, resource: Resource, *others: Resource, devices: Iterable[str] = ()) -> str:
        """Say where a part sits; "" when nobody does.

        In order: what it says itself, what `others` that belong to it say, the slot of its PCI `devices`, its name, its
        number among its like.
        """
        for one in (resource, *others):
            if found := said(one):
                return found
        for device in devices:
            if found := self._by_device.get(device, ""):
                return found
        return _by_name(own_id(resource)) or _counted(resource)


def said(resource: Resource) -> str:
    """Give what a resource itself says of its place; "" for nothing."""
    for place in _places(resource):
        if label := _labelled(place):
            return label
    for name in ("DeviceLocator", "Socket"):
        if label := _cut(text(resource, name)):
            return _by_name(label) or label
    return ""


def _labelled(place: Resource) -> str:
    """Give the label of a Location; what only counts, or fills in an address, is no label."""
    part = member(place, "PartLocation")
    if label := _cut(text(part, "ServiceLabel")):
        return label
    info = _cut(text(place, "Info"))
    if info and not info.startswith(";") and text(place, "InfoFormat").count(";") == 0:
        return info
    return ""


def _counted(resource: Resource) -> str:
    """Give kind and number of a Location that has no label."""
    for place in _places(resource):
        part = member(place, "PartLocation")
        ordinal, kind = part.get("LocationOrdinalValue"), _cut(text(part, "LocationType"))
        if isinstance(ordinal, int) and not isinstance(ordinal, bool) and kind and kind != "Embedded":
            return f"{kind} {ordinal}"
    return ""


def _places(resource: Resource) -> Iterator[Resource]:
    for name in ("Location", "PhysicalLocation"):
        found = resource.get(name)
        yield from [found] if isinstance(found, dict) else objects(resource, name)


def _devices(slot: Resource) -> list[str]:
    inside = member(slot, "Links")
    return [path for path in (*links(inside, "PCIeDevice"), link(inside, "PCIeDevice")) if path]


def _by_name(name: str) -> str:
    match = _NAMED.match(name)
    return f"{match['what']} {match['place']} {match['number']}" if match else ""


def _cut(label: str) -> str:
    return usable(label[:_MOST]) if len(label) != 1 else label


def of_device(path: str) -> str:
    """Give the path of the PCI device that a function's path is below; "" for none."""
    return canonical(path).partition("/PCIeFunctions/")[0]

"""One device out of the views of several collectors."""

from collections.abc import Iterable
from typing import Final

from aggregator.ledger.model import Device, Profile, View
from aggregator.ledger.sharing import Sharing
from schemas.device import DeviceKind, Part, Slot, Value

_WEAK: Final = {"redfish": 0, "pci": 1}
"""Collectors that see every device, from outside (the BMC) or as the bus tells of it: others know better what it is."""
BOARD: Final = frozenset(
    {
        DeviceKind.BMC,
        DeviceKind.PSU,
        DeviceKind.FAN,
        DeviceKind.SENSOR_HUB,
        DeviceKind.CPU,
        DeviceKind.MEMORY_MODULE,
    }
)
"""What sits on a board and not on the bus: nothing that is told of one is told of a device of another kind."""
_NO_PART: Final = Part()
_NO_SLOT: Final = Slot()


def of_one_bus(one: DeviceKind, other: DeviceKind) -> bool:
    """Tell whether views of these kinds may be of one device: of a function of the bus others know better what it is.

    A BMC is nothing but a BMC, whatever place or identity its document states.
    """
    return one is other or not (one in BOARD or other in BOARD)


def same_kind(one: DeviceKind, other: DeviceKind) -> bool:
    """Tell whether devices are of one kind, as far as is known: of a function of the bus it is not yet."""
    return one is other or (DeviceKind.PCI_FUNCTION in (one, other) and of_one_bus(one, other))


def _rank(view: View) -> tuple[int, str]:
    return (_WEAK.get(view.collector, len(_WEAK)), view.source)


def merge(device: Device, profiles: list[Profile], sharing: Sharing | None = None) -> None:
    """Derive kind, part, slot and capabilities from a device's views. What no view tells any more of its part stays.

    A specialised collector's word goes before the bus's, and that before a BMC's, which fills what is left; between two
    specialised ones the later by name wins, which is the same on every replay. With `sharing`, what other devices have
    as well is not made again.
    """
    for view in merge_capabilities(device, profiles, sharing):
        profile = profiles[view.profile]
        if profile.kind is not DeviceKind.PCI_FUNCTION:
            device.kind = profile.kind
        device.part = merge_part(device.part, profile.part, view)
        device.slot = merge_slot(device.slot, view.slot)


def merge_capabilities(device: Device, profiles: list[Profile], sharing: Sharing | None = None) -> list[View]:
    """Derive capabilities and profiles from a device's views; give those, the strongest word last."""
    views = _ranked(device.views.values())
    device.profiles = tuple([view.profile for view in views])
    if sharing is not None:
        device.profiles = sharing.profiles(device.profiles)
        if len(views) == 1:
            device.capabilities = sharing.capabilities(views[0], profiles)
            return views
    capabilities: dict[str, Value] = {}
    for view in views:
        capabilities |= profiles[view.profile].capabilities
        capabilities |= view.own
    device.capabilities = capabilities
    return views


def merged_kind(told: Iterable[tuple[View, DeviceKind]], known: DeviceKind) -> DeviceKind:
    """Give the kind as views tell it; `known` where none knows better than that it is a function of the bus."""
    kind = known
    for _, one in sorted(told, key=lambda one: _rank(one[0])):
        if one is not DeviceKind.PCI_FUNCTION:
            kind = one
    return kind


def merged_part(views: Iterable[View], profiles: list[Profile]) -> tuple[Part, Slot]:
    """Give part and slot as views tell them, and nothing that was known before."""
    part, slot = Part(), Slot()
    for view in _ranked(views):
        part, slot = merge_part(part, profiles[view.profile].part, view), merge_slot(slot, view.slot)
    return part, slot


def _ranked(views: Iterable[View]) -> list[View]:
    ranked = list(views)
    if len(ranked) > 1:
        ranked.sort(key=_rank)
    return ranked


def merge_part(known: Part, shared: Part, view: View) -> Part:
    """Give a part as one view more tells it; what that does not tell stays as it was known."""
    if known == _NO_PART and not (view.serial or view.uuid):
        return shared
    return Part(
        vendor=shared.vendor or known.vendor,
        model=shared.model or known.model,
        part_number=shared.part_number or known.part_number,
        serial=view.serial or known.serial,
        uuid=view.uuid or known.uuid,
        revision=shared.revision or known.revision,
        firmware=shared.firmware or known.firmware,
    )


def merge_slot(known: Slot, seen: Slot) -> Slot:
    """Give a slot as one view more tells it; what that does not tell stays as it was known."""
    if known in (_NO_SLOT, seen):
        return seen
    return Slot(
        path=seen.path or known.path, location=seen.location or known.location, address=seen.address or known.address
    )

"""One device out of the views of several collectors."""

from aggregator.ledger.model import Device, Profile, View
from schemas.device import DeviceKind, Part, Slot

_BUS = "pci"
"""The collector that sees every function, and of each only what the bus tells: others know better what it is."""


def _rank(view: View) -> tuple[bool, str]:
    return (view.collector != _BUS, view.source)


def merge(device: Device, profiles: list[Profile]) -> None:
    """Derive kind, part, slot and capabilities from a device's views. What no view tells any more of its part stays.

    A specialised collector's word goes before the bus's; between two specialised ones the later by name wins, which is
    the same on every replay.
    """
    views = sorted(device.views.values(), key=_rank)
    device.profiles = tuple(view.profile for view in views)
    capabilities = {}
    for view in views:
        capabilities.update(profiles[view.profile].capabilities)
        capabilities.update(view.own)
    device.capabilities = capabilities
    for view in views:
        profile = profiles[view.profile]
        if profile.kind is not DeviceKind.PCI_FUNCTION:
            device.kind = profile.kind
        device.part = _part(device.part, profile.part, view)
        device.slot = _slot(device.slot, view.slot)


def _part(known: Part, shared: Part, view: View) -> Part:
    return Part(
        vendor=shared.vendor or known.vendor,
        model=shared.model or known.model,
        part_number=shared.part_number or known.part_number,
        serial=view.serial or known.serial,
        uuid=view.uuid or known.uuid,
        revision=shared.revision or known.revision,
        firmware=shared.firmware or known.firmware,
    )


def _slot(known: Slot, seen: Slot) -> Slot:
    return Slot(
        path=seen.path or known.path, location=seen.location or known.location, address=seen.address or known.address
    )

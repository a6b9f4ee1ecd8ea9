"""Devices that a machine showed under two ids, before anybody said that the one goes on as the other.

Who is whose twin is decided once, and stands in the entry. Entries of before that are still read by `twins_of`: a later
decision may go by another rule, and for them this one stays.
"""

from aggregator.ledger.model import Device
from aggregator.ledger.state import State


def twins_of(state: State, old: str, new: str) -> dict[str, str]:
    """Give the devices of a machine that its new id showed already, before anybody said whose successor it is.

    By identity; what tells none, by its place and making. What a claim holds under the new id is a device of its own.
    """
    shown: dict[tuple[object, ...], str] = {}
    for device in state.devices_of(new):
        if device.hold is None:
            for key in _likeness(device):
                shown.setdefault(key, device.id)
    found: dict[str, str] = {}
    for device in state.devices_of(old):
        twin = next((shown[key] for key in _likeness(device) if key in shown), None)
        if twin is not None and twin not in found.values():
            found[device.id] = twin
    return found


def _likeness(device: Device) -> list[tuple[object, ...]]:
    part = device.part
    if part.uuid or part.serial:
        return [("uuid", part.uuid)] if part.uuid else [("serial", part.vendor, part.serial)]
    return [("slot", device.slot.path or device.slot.address, part.vendor, part.model, device.kind)]

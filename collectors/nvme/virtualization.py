"""Drives that are divided: a primary controller, and the secondary ones of its virtual functions.

A virtual function goes by its number, by which the PCI bus knows its address. It takes commands once it has queues and
interrupts of those that the primary controller can give away, and was put online.
Source: NVM Express Base Specification 2.0, 5.17.2.11 (primary controller capabilities), 5.17.2.12 (secondary controller
list), 8.26 (virtualization enhancements).
"""

import struct
from typing import Final

import msgspec

from collectors.nvme.admin import Admin, AdminError
from schemas.device import Value

PRIMARY, SECONDARY = 0x14, 0x15
"""Values of CNS."""
_ENTRY: Final = struct.Struct("<HHB3xHHH18x")
_FIRST: Final = 32
_MOST: Final = 127
"""Entries of one list."""


class Resources(msgspec.Struct, frozen=True):
    """Queues, or interrupts, of a primary controller; 0 where it cannot give any away."""

    flexible: int
    """That can be given to whichever controller."""
    assigned: int
    """Those of them that secondary controllers have."""
    primary: int
    """Those of them that it has itself."""
    private: int
    """That are its own for good."""
    most: int
    """The most that one secondary controller can have."""


class Secondary(msgspec.Struct, frozen=True):
    """The controller of a virtual function."""

    controller_id: int
    primary_id: int
    online: bool
    number: int
    """Of its virtual function, from 1; 0 for none."""
    queues: int
    interrupts: int


class Division(msgspec.Struct, frozen=True):
    """How a drive is divided."""

    queues: Resources
    interrupts: Resources
    secondary: tuple[Secondary, ...]

    def of(self, index: int) -> Secondary | None:
        """Give the controller of the virtual function with an index, from 0, as the bus counts them."""
        return next((one for one in self.secondary if one.number == index + 1), None)


def read_division(admin: Admin) -> Division | None:
    """Ask a primary controller; None when it has no others. Raises nothing: what cannot be had is not told."""
    try:
        primary = parse_primary(admin.identify(PRIMARY))
        secondary = parse_secondary(admin.identify(SECONDARY))
    except AdminError:
        return None
    return Division(*primary, tuple(secondary)) if primary and secondary else None


def parse_primary(data: bytes) -> tuple[Resources, Resources] | None:
    """Read the capabilities of a primary controller: of queues, and of interrupts; None for less than all of them."""
    if len(data) < 96:
        return None
    queues, interrupts = (Resources(*struct.unpack_from("<IIHHH", data, at)) for at in (32, 64))
    kinds = data[4]
    none = Resources(0, 0, 0, 0, 0)
    return queues if kinds & 1 else none, interrupts if kinds & 2 else none


def parse_secondary(data: bytes) -> list[Secondary]:
    """Read a list of secondary controllers; half an entry is left out."""
    count = min(data[0], _MOST, (len(data) - _FIRST) // _ENTRY.size) if data else 0
    found = []
    for at in range(_FIRST, _FIRST + max(count, 0) * _ENTRY.size, _ENTRY.size):
        controller_id, primary_id, state, number, queues, interrupts = _ENTRY.unpack_from(data, at)
        found.append(Secondary(controller_id, primary_id, bool(state & 1), number, queues, interrupts))
    return found


def primary_words(division: Division | None) -> dict[str, Value | None]:
    """Give the words of a drive that is divided; {} for one that is not."""
    if division is None:
        return {}
    found: dict[str, Value | None] = {
        "secondary_controllers": len(division.secondary),
        "secondary_controllers_online": sum(one.online for one in division.secondary),
    }
    for word, of in (("queues", division.queues), ("interrupts", division.interrupts)):
        found[f"flexible_{word}"] = of.flexible
        found[f"flexible_{word}_unassigned"] = max(0, of.flexible - of.assigned - of.primary)
        found[f"most_{word}_per_vf"] = of.most
    return found


def secondary_words(index: int, secondary: Secondary | None) -> dict[str, Value | None]:
    """Give the words of a virtual function; what its drive does not tell is None."""
    found: dict[str, Value | None] = {"vf_index": index}
    if secondary is not None:
        found |= {"controller_id": secondary.controller_id, "vf_online": secondary.online}
        found |= {"vf_queues": secondary.queues, "vf_interrupts": secondary.interrupts}
    return found

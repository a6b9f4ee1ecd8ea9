"""The two relations between devices, and what they forbid. Derived from facts, never stored (DESIGN, part 3).

*Together*: the endpoints of one IOMMU group; bridges do not count. *Excludes*: a device whole, or its parts.

While a claim holds a device, through cleaning, both bind everybody else: its excludes partners are blocked for all; the
other members of its group are blocked, when it is passthrough, for all but a claim of the same tenant and mode. The
other way round, nothing is given for passthrough while any other member of its group is in anybody else's use, or may
be: the device could read and write what that one does. A part without a PCI function of its own (a GPU's partition, a
drive's name space) is in the group of what it is a part of.

Source: kernel.org/doc/html/latest/driver-api/vfio.html, "Groups, Devices, and IOMMUs".
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from aggregator.ledger import in_use
from aggregator.ledger.model import Device
from aggregator.ledger.state import State
from aggregator.ledger.words import SHARING, WHOLE_OF, Lifecycle, Mode, Reach, is_part

_APART: Final = frozenset({Lifecycle.FOREIGN, Lifecycle.CLEANING})
"""In nobody's hands here, and not to be shared all the same. A whole that is the host's leaves its parts to be given: a
PF that the host's driver keeps, say.
"""
_IDLE: Final = frozenset({Lifecycle.FREE, Lifecycle.RETIRED})
_UNCLEAN: Final = frozenset({Lifecycle.DIRTY, Lifecycle.CLEANING, Lifecycle.QUARANTINED})
_SHARED: Final = SHARING | {WHOLE_OF[kind] for kind in SHARING}
"""Kinds of device that have their memory in common with their parts, or with what they are a part of."""


class Blocked(msgspec.Struct, frozen=True):
    """Why a device cannot be given, on account of another."""

    relation: str
    """`together` or `excludes`."""
    device: str
    """The other device, which is in the way."""
    why: str


def together(state: State, device: Device) -> Iterator[Device]:
    """Yield the other endpoints of a device's IOMMU group."""
    if device.group is None or device.is_bridge:
        return
    for name in state.found.groups.get((device.node, device.group), ()):
        if name != device.id:
            yield state.devices[name]


def excludes(state: State, device: Device) -> Iterator[Device]:
    """Yield what cannot be given while a device is: what it is a part of, and its own parts."""
    if device.parent and WHOLE_OF.get(device.kind) is not None:
        whole = state.devices.get(device.parent)
        if whole is not None:
            yield whole
    for name in state.found.parts.get(device.id, ()):
        part = state.devices[name]
        if is_part(part.kind, device.kind):
            yield part


def unjoined(device: Device) -> str:
    """Give what a device says that it is a part of, as documents name it, while nobody has described that; else "".

    Who has the whole, and what it is used for, is not known then.
    """
    if device.parent or device.kind not in WHOLE_OF:
        return ""
    return next((view.parent for view in device.views.values() if view.parent), "")


def held(device: Device) -> bool:
    """Tell whether a claim holds a device, or held it last and it has not been cleaned since."""
    return device.hold is not None


def whole_or_none(state: State, device: Device) -> bool:
    """Tell whether what a device is a part of, and its parts, are nobody's while it is as it is.

    A claim has it, somebody outside Muster, or whoever cleans it: a drive's clean takes its name spaces along. Who has
    the whole would take from the host a part that it needs.
    """
    if held(device) or device.lifecycle in _APART:
        return True
    part = device.kind in WHOLE_OF and device.reach is not Reach.ABSENT
    if device.lifecycle is Lifecycle.HOST:
        return part
    if device.lifecycle not in _IDLE or not in_use.busy(state, device):
        return False
    return part or bool(in_use.outside(state, device))


def unproved(device: Device) -> int:
    """Give the ledger sequence at which somebody left what may be in a device's memory still; 0 for nothing.

    For one that shares it with parts, or with a whole, whose own evidence may be older than that.
    """
    if device.kind not in _SHARED or held(device) or device.lifecycle is Lifecycle.FREE:
        return 0
    if device.kind in SHARING and device.reach is Reach.ABSENT:
        return 0  # it is gone, and its place with it
    return device.released if device.released > proved(device) else 0


def proved(device: Device) -> int:
    """Give the ledger sequence of the last proof that a device is clean; 0 for none."""
    return device.evidence.sequence if device.evidence is not None else 0


def blocked(state: State, device: Device, tenant: str, mode: Mode) -> Blocked | None:
    """Give what forbids to give a free device to a tenant in a mode; None when nothing does."""
    for other in excludes(state, device):
        if whole_or_none(state, other):
            return Blocked("excludes", other.id, f"{other.id}, {_relation(device, other)}, is {_who(other)}")
        if unproved(other) > proved(device):
            why = f"{other.id}, {_relation(device, other)}, was used since this was proved clean, and is {_who(other)}"
            return Blocked("excludes", other.id, why)
    return blocked_by_group(state, device, tenant, mode)


def blocked_by_group(state: State, device: Device, tenant: str, mode: Mode) -> Blocked | None:
    """Give what of its IOMMU group forbids to give a device, or of a part of it its whole; None when nothing does."""
    for one in (device, *shared_whole(state, device)):
        for other in together(state, one):
            why = _in_the_way(state, other, tenant, mode)
            if why:
                return Blocked("together", other.id, f"{other.id}, in the same IOMMU group {one.group}, is {why}")
    return None


def at_odds(state: State, device: Device, tenant: str, mode: Mode, claim: str) -> list[Device]:
    """Give what other claims than `claim` hold, or held last, and were not given beside a device held like that.

    The ledger gives no two such: a fact may bring them together, or a node that keeps what the ledger has lost.
    """
    found = {other.id: other for other in excludes(state, device) if other.hold and other.hold.claim != claim}
    found |= {other.id: other for other in at_odds_in_group(state, device, tenant, mode, claim)}
    return list(found.values())


def at_odds_in_group(state: State, device: Device, tenant: str, mode: Mode, claim: str) -> Iterator[Device]:
    """Yield what is `at_odds` on account of an IOMMU group alone: its members, and parts that need their driver."""
    for one in (device, *shared_whole(state, device)):
        for member in together(state, one):
            parts = (state.devices[name] for name in state.found.parts.get(member.id, ()))
            for other in (member, *(part for part in parts if part.kind in SHARING)):
                hold = other.hold
                if hold is None or hold.claim == claim or (hold.tenant == tenant and hold.mode is mode):
                    continue
                if Mode.PASSTHROUGH in (mode, hold.mode):
                    yield other


def strangers(state: State, device: Device, mode: Mode) -> Iterator[tuple[Device, str]]:
    """Yield what no claim holds, and is not in one IOMMU group with a device held like that; and who has it.

    The host needs it, or it is in use outside Muster: the ledger gives nothing beside such a one, but a fact may bring
    them together. Who has a device has its group open: what the same program has beside it is no stranger.
    """
    for one in (device, *shared_whole(state, device)):
        own = in_use.seen(one)
        for member in together(state, one):
            if held(member) or member.reach is Reach.ABSENT:
                continue
            why = _in_the_way(state, member, "", mode)
            user = in_use.busy(state, member)
            if why == member.lifecycle.value:  # what waits to be cleaned is nobody's
                why = f"{why}, and {user}" if user else why if member.lifecycle not in _UNCLEAN else ""
            if why and not (user and user == f"in use by {own}"):
                yield member, why


def shared_whole(state: State, device: Device | None) -> Iterator[Device]:
    """Yield what a part without a PCI function of its own is a part of: that has its place in a group."""
    if device is not None and device.kind in SHARING and device.parent in state.devices:
        yield state.devices[device.parent]


def _in_the_way(state: State, other: Device, tenant: str, mode: Mode) -> str:
    """Say why a member of its group keeps a device from being given; "" when it does not."""
    hold = other.hold
    if hold is not None:
        if hold.tenant == tenant and hold.mode is mode:
            return ""
        return _who(other) if Mode.PASSTHROUGH in (mode, hold.mode) else ""
    if other.reach is Reach.ABSENT:
        return ""
    if mode is Mode.DRIVER:
        return f"in a guest's hands ({in_use.outside(state, other)})" if in_use.passed(state, other) else ""
    for name in state.found.parts.get(other.id, ()):
        part = state.devices[name]
        if part.kind in SHARING and whole_or_none(state, part):
            return f"driven for {part.id}, which is {_who(part)}"
    return in_use.uneasy(state, other)


def _who(other: Device) -> str:
    return str(other.lifecycle.value) if other.hold is None else f"{other.lifecycle.value} for claim {other.hold.claim}"


def _relation(device: Device, other: Device) -> str:
    return "which it is a part of" if device.parent == other.id else "a part of it"

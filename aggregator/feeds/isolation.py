"""Which devices can be given to virtual machines by a scheduler that knows no IOMMU groups.

Such a scheduler gives every device that it is told of to anybody. So of a group it may be told of one device, whose
neighbours nobody else is given, or of all of them under a name that only asks for all.

Source: kernel.org/doc/html/latest/driver-api/vfio.html, "Groups, Devices, and IOMMUs".
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final

import msgspec

from aggregator.ledger import in_use
from aggregator.ledger.asks import unshown
from aggregator.ledger.model import Device
from aggregator.ledger.relations import excludes, proved, together, unproved, whole_or_none
from aggregator.ledger.state import State
from aggregator.ledger.words import Lifecycle, Reach
from schemas.device import DeviceKind

PASSED: Final = frozenset(
    {DeviceKind.GPU, DeviceKind.NIC, DeviceKind.VF, DeviceKind.NVME, DeviceKind.DPU, DeviceKind.PCI_FUNCTION}
)
"""Kinds of device that are a PCI function of their own."""
GIVEN: Final = frozenset({Lifecycle.FREE, Lifecycle.RESERVED, Lifecycle.PROVISIONING, Lifecycle.ASSIGNED})
_TAKEN: Final = GIVEN - {Lifecycle.FREE}


class Policy(Enum):
    """What of an IOMMU group of several devices is handed on."""

    ONE_PER_GROUP = "one-per-group"
    """The device with the lowest address, or the one that is given already; its neighbours stay with nobody."""
    WHOLE_GROUPS = "whole-groups"
    """All of them or none."""


class Skipped(msgspec.Struct, frozen=True):
    """A device that is not handed on."""

    node: str
    device: str
    address: str
    reason: str


class Chosen(msgspec.Struct, frozen=True):
    """A device that is handed on, and how many of its group are."""

    device: Device
    of: int


def passable(
    state: State, devices: Iterable[Device], own: str = "", *, held: bool = False
) -> Iterator[tuple[Device, str]]:
    """Yield PCI functions that a variant names, each with why it cannot be handed on; "" when it can.

    `own`: the kind of record whose uses are the other scheduler's own, and no hindrance. `held`: whether claims are
    the other scheduler's own too: who records its machines as claims hands on what they hold.
    """
    for device in devices:
        if device.kind in PASSED and not device.is_bridge and device.slot.address and state.variant_of(device):
            yield device, why_not(state, device, own, held=held)


def why_not(state: State, device: Device, own: str = "", *, held: bool = False) -> str:
    """Say why a device by itself cannot be handed on; "" when it can. Its group is another question."""
    if device.reach is Reach.ABSENT:
        return "it is not there"
    if len(device.slot.address) > len("0000:00:00.0"):
        return "its PCI domain is above ffff"
    if device.group is None:
        return "it has no IOMMU group"
    if device.lifecycle is Lifecycle.FREE and (why := _not_free(state, device, own)):
        return why
    if not held and device.hold is not None and device.lifecycle in _TAKEN:
        return f"it is {device.lifecycle.value} for claim {device.hold.claim}"
    if device.lifecycle in GIVEN or is_own(state, device, own):
        return ""
    return f"it is {device.lifecycle.value}"


def _not_free(state: State, device: Device, own: str) -> str:
    """Say why a device that is free is nobody's to hand on; "" when it is."""
    node = state.nodes[device.node]
    if device.taints:
        marked = next(iter(device.taints.values()))
        return f"it is marked {marked.effect.value} by {marked.rule}"
    if node.shown != state.generation:
        return unshown(state, node)
    user = "" if is_own(state, device, own) else in_use.busy(state, device)
    return f"it is {user}" if user else ""


def is_own(state: State, device: Device, own: str) -> bool:
    """Tell whether nobody but the scheduler of this kind of record has a device that no claim of ours has."""
    sources = state.recorded.get(device.id, {})
    kinds = {state.records[source].kind for source in sources}
    return bool(own) and device.lifecycle in (Lifecycle.FOREIGN, Lifecycle.FREE) and kinds == {own}


def choose(
    state: State, devices: Iterable[Device], policy: Policy, own: str = "", *, held: bool = False
) -> tuple[list[Chosen], list[Skipped]]:
    """Choose what is handed on of some devices of one node; all of their groups' members count, asked for or not."""
    chosen: list[Chosen] = []
    skipped: list[Skipped] = []
    groups: dict[int, list[Device]] = {}
    for device, hindrance in passable(state, devices, own, held=held):
        reason = hindrance or _part_or_whole(state, device)
        if reason:
            skipped.append(_skip(device, reason))
        else:
            assert device.group is not None
            groups.setdefault(device.group, []).append(device)
    for members in groups.values():
        members.sort(key=lambda device: device.slot.address)
        found, left = _of_group(state, members, policy, own)
        chosen += [Chosen(device, len(found)) for device in found]
        skipped += left
    chosen.sort(key=lambda one: one.device.slot.address)
    return chosen, sorted(skipped, key=lambda one: one.address)


def _of_group(state: State, members: list[Device], policy: Policy, own: str) -> tuple[list[Device], list[Skipped]]:
    names = {device.id for device in members}
    others = [other for other in together(state, members[0]) if other.id not in names]
    why = next((reason for other in others if (reason := in_the_way(state, other, own))), "")
    if not why and policy is Policy.WHOLE_GROUPS and (missing := [one for one in others if one.reach is Reach.LIVE]):
        why = f"{missing[0].slot.address}, in the same IOMMU group, is of no variant that is handed on"
    if why:
        return [], [_skip(device, why) for device in members]
    if policy is Policy.WHOLE_GROUPS:
        return members, []
    taken = [device for device in members if device.lifecycle in _TAKEN or is_own(state, device, own)]
    first = (taken or members)[0]
    reason = f"{first.slot.address}, in the same IOMMU group {first.group}, is handed on"
    return [first], [_skip(device, reason) for device in members if device is not first]


def in_the_way(state: State, other: Device, own: str = "") -> str:
    """Say why a member of a group that is not handed on keeps the others from being; "" when it does not."""
    if other.is_bridge or other.reach is Reach.ABSENT or is_own(state, other, own):
        return ""
    why = in_use.uneasy(state, other)
    return f"{other.slot.address}, in the same IOMMU group {other.group}, is {why}" if why else ""


def _part_or_whole(state: State, device: Device) -> str:
    """Say whether the other side of a device and its parts goes before it: what is given, else the parts."""
    for partner in excludes(state, device):
        if whole_or_none(state, partner) or unproved(partner) > proved(device):
            return f"{partner.slot.address or partner.id} is {partner.lifecycle.value}, and one is a part of the other"
    if device.lifecycle is Lifecycle.FREE:
        for partner in excludes(state, device):
            if partner.parent == device.id and partner.lifecycle is Lifecycle.FREE and state.variant_of(partner):
                return "its functions are handed on"
    return ""


def _skip(device: Device, reason: str) -> Skipped:
    return Skipped(device.node, device.id, device.slot.address, reason)

"""Triton: `assignable_devices` of a server, and `assigned_devices` of each virtual machine (RFD 114; R004-4).

A device's id is its slot's path, which survives reboots, as the path of a device does there; one without a known path
goes by its PCI address. `used_by` is the consumer of the claim, which is the machine's uuid there.

`unassigned` is what anybody could be given now. What is free, and yet nobody could be given it (its node is silent, it
is marked, something of its IOMMU group is in use), is `skipped` with the reason.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from aggregator.feeds.isolation import PASSED, Skipped
from aggregator.ledger.asks import unschedulable
from aggregator.ledger.model import Device, Node
from aggregator.ledger.relations import blocked
from aggregator.ledger.state import State
from aggregator.ledger.words import LIVE_CLAIMS, Lifecycle, Mode, Reach

STATES: Final[dict[Lifecycle, str]] = {
    Lifecycle.FREE: "unassigned",
    Lifecycle.RESERVED: "provisioning",
    Lifecycle.PROVISIONING: "provisioning",
    Lifecycle.ASSIGNED: "used",
    Lifecycle.SUSPECT: "used",
    Lifecycle.DIRTY: "dirty",
    Lifecycle.CLEANING: "dirty",
    Lifecycle.QUARANTINED: "dirty",
}
"""Lifecycle -> Triton's word; the others are not Triton's to assign, and are left out."""
_HELD: Final = frozenset({"provisioning", "used"})


class Assignable(msgspec.Struct, frozen=True):
    """A device of a server."""

    id: str
    state: str
    type: str
    variant: str
    used_by: str | None
    """The virtual machine; None without one, and from `dirty` on."""
    muster_id: str
    """Its id here."""


class Assigned(msgspec.Struct, frozen=True):
    """A device of a virtual machine."""

    id: str
    type: str
    variant: str
    server: str


class Server(msgspec.Struct, frozen=True):
    """A server with its devices."""

    server: str
    hostname: str
    assignable_devices: list[Assignable]
    skipped: list[Skipped] = []
    """Free devices that nobody can be given now."""


class TritonFeed(msgspec.Struct, frozen=True):
    """The servers, and what virtual machines have."""

    sequence: int
    servers: list[Server]
    vms: dict[str, list[Assigned]]
    """By the consumer of the claim: `assigned_devices`."""


def feed(state: State, nodes: Iterable[Node], variants: Iterable[str] = ()) -> TritonFeed:
    """Give the devices of some nodes that a variant names; of `variants` alone when there are any."""
    wanted = set(variants)
    servers: list[Server] = []
    machines: dict[str, list[Assigned]] = {}
    for node in nodes:
        devices: list[Assignable] = []
        skipped: list[Skipped] = []
        for device in state.devices_of(node.id):
            told = _assignable(state, device, wanted)
            if told is None:
                continue
            if device.lifecycle is Lifecycle.FREE and (reason := _not_givable(state, device)):
                skipped.append(Skipped(node.id, device.id, device.slot.address, reason))
                continue
            devices.append(told)
            if told.used_by is not None:
                mine = machines.setdefault(told.used_by, [])
                mine.append(Assigned(told.id, told.type, told.variant, node.id))
        if devices or skipped:
            servers.append(Server(node.id, node.name, sorted(devices, key=lambda one: one.id), skipped))
    return TritonFeed(state.sequence, servers, machines)


def _not_givable(state: State, device: Device) -> str:
    """Say why nobody can be given a free device; "" when somebody can. A machine there has its devices passed through.

    Whoever holds a neighbour is not told apart: who asks is not known.
    """
    objection = unschedulable(state, device)
    if objection is not None:
        return objection.message
    hindrance = blocked(state, device, "", Mode.PASSTHROUGH)
    return hindrance.why if hindrance is not None else ""


def _assignable(state: State, device: Device, wanted: set[str]) -> Assignable | None:
    word, variant = STATES.get(device.lifecycle), state.variant_of(device)
    if word is None or not variant or device.kind not in PASSED or device.is_bridge or device.reach is Reach.ABSENT:
        return None
    if wanted and variant not in wanted:
        return None
    claim = state.claims.get(device.hold.claim) if device.hold else None
    holds = claim is not None and claim.state in LIVE_CLAIMS and word in _HELD
    return Assignable(
        device.slot.path or device.slot.address,
        word,
        state.variants[variant].kind.value,
        variant,
        claim.consumer if claim is not None and holds else None,
        device.id,
    )

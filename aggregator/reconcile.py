"""Where two views of one thing do not agree: the ledger's, and a node's, a record's, or a checkpoint's.

Plain functions of the state. What they find is told with both views, and nothing is done about it: who is right, people
decide (invariant 18).
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from aggregator.ledger import in_use, nodes
from aggregator.ledger.claims import claimed, may_be_in_use
from aggregator.ledger.model import Claim, Device, Held, Node
from aggregator.ledger.nodes import claims_there
from aggregator.ledger.outside import Divergence
from aggregator.ledger.relations import at_odds, strangers
from aggregator.ledger.state import State
from aggregator.ledger.words import CONFLICT, LIVE_CLAIMS, ClaimState, Lifecycle, Mode, Reach
from schemas.claims import Checkpoint

KINDS: Final[Mapping[str, str]] = {
    "claim.foreign": "A claim holds a device, and somebody else has it too.",
    "claim.driver": "A claim holds a device, and its driver is not one for how it is held.",
    "claim.idle": "A claim holds a device for passthrough, and no program has it open.",
    "claim.network": "A claim holds a virtual function, and its MAC or VLAN is not what it was when it was granted.",
    "claim.replaced": "A claim holds a part, and another part is in its slot.",
    "claim.absent": "A claim holds a device, and its node does not see it any more.",
    "claim.related": "Two claims hold what is not given side by side: a whole and its part, or of one IOMMU group.",
    "claim.group": "A claim holds a device, and in its IOMMU group is one that the host has, or somebody else.",
    "claim.orphaned": "A claim holds something of a node that was decommissioned.",
    "part.twice": "Two devices state the identity of one part.",
    "record.host": "A record says that somebody has a device, and the ledger keeps it for the host, or retired it.",
    "record.device": "A record says that somebody has a device, and its node shows none at that address.",
    "record.node": "A record names a node that is not known.",
    "checkpoint.unknown": "A node keeps a claim that the ledger does not know, knows as over, or under another epoch.",
    "checkpoint.missing": "A node confirmed a claim, and keeps it no more.",
}
"""Kinds of divergence, and what each means; stable once released."""
USERSPACE_DRIVERS: Final = ("vfio", "uio", "igb_uio", "pci-stub")
"""How drivers begin that leave a function to programs. Source: kernel.org/doc/html/latest/driver-api/vfio.html."""


class Kept(msgspec.Struct, frozen=True):
    """A node's checkpoint, and when it came."""

    sequence: int
    """The ledger's, when it came: of what changed later it cannot know."""
    checkpoint: Checkpoint
    live: frozenset[str] = frozenset()
    """Claims of it that were live when it came: of those it cannot know that they are over."""

    @classmethod
    def of(cls, state: State, checkpoint: Checkpoint) -> "Kept":
        """Take note of a checkpoint that comes now."""
        found = (state.claims.get(one.claim) for one in checkpoint.claims)
        live = frozenset(claim.id for claim in found if claim is not None and claim.state in LIVE_CLAIMS)
        return cls(state.sequence, checkpoint, live)


def of_node(state: State, node: Node, kept: Kept | None = None) -> Iterator[Divergence]:
    """Yield what does not agree about a node, its devices and the claims on them, as far as it is known now."""
    if node.retired:
        for claim in claims_there(state, node.id):
            yield Divergence("claim.orphaned", node.id, "", claim.id, _claim(claim), "the node was decommissioned")
    for device in state.devices_of(node.id):
        if (twice := device.taints.get(CONFLICT)) is not None:
            told = (
                f"{device.id} at {device.slot.location or device.slot.path or device.slot.address} is {device.part_key}"
            )
            yield Divergence("part.twice", node.id, device.id, "", told, twice.evidence)
        claim_id = device.hold.claim if device.hold else ""
        found = state.claims.get(claim_id)
        if found is not None and found.state in LIVE_CLAIMS and may_be_in_use(state, device):
            held = next((one for one in found.devices if one.device == device.id), None)
            if held is not None:
                yield from _held(state, node, device, found, held)
        elif device.lifecycle in (Lifecycle.HOST, Lifecycle.RETIRED) and (user := in_use.recorded(state, device)):
            ledger = f"{device.id} at {device.slot.address} is {device.lifecycle.value}"
            yield Divergence("record.host", node.id, device.id, "", ledger, f"in use by {user}")
    if kept is not None:
        yield from _checkpoint(state, node, kept)


def of_records(state: State) -> Iterator[Divergence]:
    """Yield what records say of nodes and devices that are not there."""
    unknown: dict[tuple[str, str], int] = {}
    called = nodes.called(state) if state.awaited else {}
    for (name, address), sources in state.awaited.items():
        node = state.nodes.get(name) or called.get(name)
        for source, user in sources.items():
            if node is None:
                unknown[source, name] = unknown.get((source, name), 0) + 1
                continue
            seen = f"{source} says that {user} has {address}"
            told = f"no device at {address} on {node.name or node.id}"
            yield Divergence("record.device", node.id, "", "", told, seen, f"{source} {address}")
    for (source, name), count in unknown.items():
        seen = f"{source} names it with {count} {'device' if count == 1 else 'devices'}"
        yield Divergence("record.node", "", "", "", f"no node is called {name}", seen, f"{source} {name}")


def _claim(claim: Claim) -> str:
    return f"claim {claim.id} of {claim.tenant} ({claim.consumer}) is {claim.state.value}"


def _held(state: State, node: Node, device: Device, claim: Claim, held: Held) -> Iterator[Divergence]:
    def diverged(kind: str, ledger: str, seen: str) -> Divergence:
        return Divergence(kind, node.id, device.id, claim.id, ledger, seen)

    holds = f"{device.id} is {device.lifecycle.value} for claim {claim.id} of {claim.tenant}"
    user = in_use.recorded(state, device)
    if not user and claim.state is ClaimState.RESERVED:
        user = in_use.seen(device)  # no node was told yet: whoever has it, has it by other ways
    if user:
        yield diverged("claim.foreign", holds, f"in use by {user}")
    other = in_its_slot(state, device)
    if other is not None:
        yield diverged("claim.replaced", f"{holds}, which granted {held.part}", f"{other.part_key} is in its slot")
    elif device.reach is Reach.ABSENT:
        yield diverged("claim.absent", holds, "its node does not see it")
    elif held.part != device.part_key and device.reach is Reach.LIVE:
        yield diverged("claim.replaced", f"{holds}, which granted {held.part}", f"it is {device.part_key}")
    for beside, seen in _related(state, device, claim, held):
        yield Divergence("claim.related", node.id, device.id, claim.id, holds, seen, beside)
    for beside, seen in _strangers(state, device, claim, held):
        yield Divergence("claim.group", node.id, device.id, claim.id, holds, seen, beside)
    if device.lifecycle is Lifecycle.ASSIGNED and device.reach is Reach.LIVE and node.live:
        for kind, ledger, seen in (_driver(device, held), _idle(device, held), _network(device, held)):
            if kind:
                yield diverged(kind, f"{holds}{ledger}", seen)


_AGREED: Final = ("", "", "")


def _related(state: State, device: Device, claim: Claim, held: Held) -> Iterator[tuple[str, str]]:
    """Yield what a node was told to give to another claim, and says of its place now; of what is absent nothing.

    A claim that no node was told of cannot be: it is looked at again before one is (`claims.provision`).
    """
    if not _is_told(state, device, claim):
        return
    for other in at_odds(state, device, claim.tenant, held.mode, claim.id):
        holder = state.claims.get(other.hold.claim) if other.hold else None
        if holder is None or holder.state is ClaimState.RESERVED or not claimed(state, other):
            continue
        if other.reach is not Reach.ABSENT:
            whose = f"{other.lifecycle.value} for claim {holder.id} of {holder.tenant}"
            yield other.id, f"{other.id}, {whose}, is {_place(device, other)}"


def _strangers(state: State, device: Device, claim: Claim, held: Held) -> Iterator[tuple[str, str]]:
    """Yield what a fact brought into the group of a device that a node was told to give, and is no claim's."""
    if _is_told(state, device, claim):
        for other, why in strangers(state, device, held.mode):
            group = f"IOMMU group {other.group}"
            yield other.id, f"{other.id} at {other.slot.address or other.slot.path}, in its {group}, is {why}"


def _is_told(state: State, device: Device, claim: Claim) -> bool:
    return claim.state is not ClaimState.RESERVED and device.reach is not Reach.ABSENT and claimed(state, device)


def _place(device: Device, other: Device) -> str:
    if other.id == device.parent:
        return "what it is a part of"
    return "a part of it" if other.parent == device.id else "in its IOMMU group, or a part of what is"


def in_its_slot(state: State, device: Device) -> Device | None:
    """Give what is where an absent device was; None while nothing is, and for one that is not absent."""
    if device.reach is not Reach.ABSENT or not device.slot.path:
        return None
    there = (state.devices[name] for name in state.found.by_slot.get((device.node, device.slot.path), ()))
    return next((one for one in there if one.id != device.id and one.reach is not Reach.ABSENT), None)


def _driver(device: Device, held: Held) -> tuple[str, str, str]:
    driver = device.get("driver")
    if not isinstance(driver, str) or held.profile:
        return _AGREED
    passed = driver.startswith(USERSPACE_DRIVERS)
    if held.mode is Mode.PASSTHROUGH and not passed:
        return "claim.driver", " for passthrough", f"the driver {driver} has it" if driver else "no driver has it"
    if held.mode is Mode.DRIVER and passed:
        return "claim.driver", " with the host's driver", f"the driver {driver} has it"
    return _AGREED


def _idle(device: Device, held: Held) -> tuple[str, str, str]:
    if held.mode is Mode.PASSTHROUGH and device.get("vfio_in_use") is False:
        return "claim.idle", " for passthrough", "no program has it open"
    return _AGREED


def _network(device: Device, held: Held) -> tuple[str, str, str]:
    said = {name: str(device.capabilities[name]) for name in held.expected if name in device.capabilities}
    wrong = {name: value for name, value in said.items() if value.lower() != held.expected[name].lower()}
    if not wrong:
        return _AGREED
    expected = ", ".join(f"{name} {held.expected[name]}" for name in sorted(wrong))
    return "claim.network", f" with {expected}", ", ".join(f"{name} {wrong[name]}" for name in sorted(wrong))


def _checkpoint(state: State, node: Node, kept: Kept) -> Iterator[Divergence]:
    keeps = {one.claim: one for one in kept.checkpoint.claims}
    for name, one in keeps.items():
        claim = state.claims.get(name)
        told = f"the node keeps claim {name} of {one.tenant} at epoch {one.generation}.{one.sequence}"
        if claim is None or claim.state not in LIVE_CLAIMS:
            if name in kept.live or (claim is not None and claim.version > kept.sequence):
                continue  # it ended since: its node has confirmed that
            ledger = f"no claim {name}" if claim is None else _claim(claim)
            yield Divergence("checkpoint.unknown", node.id, "", name, ledger, told)
        elif (claim.epoch.generation, claim.epoch.sequence) != (one.generation, one.sequence):
            yield Divergence("checkpoint.unknown", node.id, "", name, f"{_claim(claim)} at epoch {claim.epoch}", told)
    for claim in claims_there(state, node.id):
        mine = [held.device for held in claim.devices if held.node == node.id and held.device in claim.confirmed]
        left = [device for device in mine if device not in claim.undone]
        if left and claim.id not in keeps and claim.version <= kept.sequence:
            yield Divergence("checkpoint.missing", node.id, "", claim.id, _claim(claim), "the node does not keep it")

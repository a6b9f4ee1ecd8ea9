"""What a node's checkpoint adds to a ledger that is older than it, or is another one altogether (DESIGN, part 3).

A ledger that began a generation knows nothing of a node before that node has shown its checkpoint: whoever was given
something there by the ledger that was lost has it still. What this ledger decided itself, it knows better than any
node: a claim that it saw ending is over, whatever an old checkpoint says.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from aggregator.ledger import asks, claims, conflicts
from aggregator.ledger.entries import (
    CheckpointShown,
    ClaimRestored,
    Entry,
    GenerationBegun,
    Passed,
    Provisioned,
)
from aggregator.ledger.model import Claim, Device, Held, Node
from aggregator.ledger.partitions import hold_for, partitions, slices
from aggregator.ledger.relations import at_odds, at_odds_in_group
from aggregator.ledger.state import State
from aggregator.ledger.transitions import allowed
from aggregator.ledger.words import AMOUNTS, LIVE_CLAIMS, ClaimState, Epoch, Lifecycle, Mode
from schemas.claims import Checkpoint, CheckpointClaim, ClaimDevice
from schemas.device import DeviceKind
from schemas.mig import read_plan

_KINDS: Final = {kind.value for kind in DeviceKind}
_MODES: Final = {mode.value for mode in Mode}
_TERM: Final = 3600.0
"""Seconds that a claim gets whose node tells a term that is none."""


class Restored(msgspec.Struct, frozen=True):
    """What became of a claim of a checkpoint."""

    claim: str
    pending: bool = False
    """A device of it was not described yet: look again when it is."""
    conflict: str = ""
    """Why a device of it cannot be its again, or is beside what another has: both views. People decide."""


def begin_generation(state: State, now_ns: int, why: str, *, known: int = 0) -> tuple[list[Entry], int]:
    """Begin a new generation, named by the time: a ledger made anew after this one is lost has a higher one.

    `known`: the highest that another ledger is known to have had, by what it left or by its nodes. No generation may
    come twice, and the clock may have been set back since: it is above those, whatever the time.
    """
    generation = max(state.generation + 1, known + 1, now_ns // 10**9)
    return [GenerationBegun(generation, why)], generation


def ahead(state: State, checkpoint: Checkpoint) -> bool:
    """Tell whether a node has seen a decision that this ledger has not made: the ledger was set back."""
    return (checkpoint.generation, checkpoint.sequence) > (state.generation, state.sequence)


def lost(state: State, claim: CheckpointClaim) -> bool:
    """Tell whether a claim that a node keeps was granted by a ledger, or a part of this one, that is lost."""
    found = state.claims.get(claim.claim)
    if found is not None and found.epoch == Epoch(claim.generation, claim.sequence):
        return found.state not in LIVE_CLAIMS and found.began_ns is None  # it ended here before its node was told
    return _unknown(state, claim.generation, claim.sequence)


def _unknown(state: State, generation: int, sequence: int) -> bool:
    """Tell whether an epoch is of a decision that this ledger does not hold."""
    if generation not in state.generations:
        return True
    later = [first for other, first in state.generations.items() if other > generation]
    return sequence >= min(later) if later else sequence > state.sequence


def restore(state: State, publisher: str, claim: CheckpointClaim) -> tuple[list[Entry], Restored]:
    """Give a claim back what a node keeps for it, where the ledger has lost it. Again: nothing new.

    Of a claim that the ledger has, it knows better whose it is; under another epoch it is another claim.
    """
    found = state.claims.get(claim.claim)
    live = found is not None and found.state in LIVE_CLAIMS
    if found is not None and live:
        if found.epoch != Epoch(claim.generation, claim.sequence):
            told = f"its node keeps it at epoch {claim.generation}.{claim.sequence}"
            return [], Restored(claim.claim, conflict=f"the ledger has it at epoch {found.epoch}, and {told}")
        if found.state is ClaimState.RESERVED:
            # its node was told by the ledger that was lost
            return [Provisioned(found.id, kept=True)], Restored(claim.claim)
        if found.state not in (ClaimState.ACTIVE, ClaimState.SUSPECT):
            return [], Restored(claim.claim)
    elif not lost(state, claim):
        return [], Restored(claim.claim)
    back, restored = _back(
        state, publisher, claim, {held.device for held in found.devices} if found and live else set()
    )
    promised = [device for held in back for device in _there(state, held) if not _is_of(device, claim)]
    promised += [device for held in back for device in _related(state, claim, held)]
    why = f"its node keeps it for claim {claim.claim} of {claim.tenant}"
    entries = claims.invalidate(state, promised, why)  # of whom it was promised to meanwhile, no node was told
    amounts = _amounts(state, publisher, claim, back[0].node if back else "")
    if back or (not claim.devices and any(node not in (found.amounts if found and live else {}) for node in amounts)):
        whose = (found.tenant, found.consumer) if found is not None and live else (claim.tenant, claim.consumer)
        term = claim.lease_seconds if asks.MIN_LEASE <= claim.lease_seconds <= asks.MAX_LEASE else _TERM
        entries.append(ClaimRestored(claim.claim, *whose, claim.generation, claim.sequence, back, term, amounts))
    return entries, restored


def _back(state: State, publisher: str, claim: CheckpointClaim, known: set[str]) -> tuple[list[Held], Restored]:
    """Give what is the claim's again, beside what is `known` to be, and what has to wait or be told."""
    back: dict[str, Held] = {}
    pending, against = False, []
    for one in claim.devices:
        device = find_kept(state, publisher, one)
        gpu = _gpu(state, publisher, one) if device is None else None
        if gpu is not None:
            held, conflict = _planned(state, gpu, claim, one)
            if conflict:
                against.append(conflict)
            else:
                back[held.device] = held
        elif device is None:
            pending = True
        elif device.id not in known:
            conflict = _in_the_way(state, device, claim, one)
            if conflict:
                against.append(conflict)
            else:
                mode = Mode(one.mode)
                parent = device.parent if one.profile else ""
                back[device.id] = Held(device.id, device.node, mode, one.part, one.profile, dict(one.expected), parent)
    against += [conflict for held in back.values() for conflict in _beside(state, claim, held)]
    return list(back.values()), Restored(claim.claim, pending, "; ".join(against))


def _beside(state: State, claim: CheckpointClaim, held: Held) -> Iterator[str]:
    """Say what another claim may have in use that is not given beside what comes back.

    Both keep what they have: what is withheld from who uses it would be given to a third.
    """
    for other in _related(state, claim, held):
        holder = state.claims.get(other.hold.claim) if other.hold else None
        if holder is not None and holder.state is not ClaimState.RESERVED and claims.claimed(state, other):
            told = f"its node keeps {held.device}, related to it, for claim {claim.claim}"
            epoch = f"at epoch {claim.generation}.{claim.sequence}"
            yield f"the ledger gave {other.id} to claim {holder.id} at epoch {holder.epoch}, and {told} {epoch}"


def _related(state: State, claim: CheckpointClaim, held: Held) -> list[Device]:
    """Give what other claims hold and is not given beside what comes back, on account of a relation."""
    if held.parent:
        return list(at_odds_in_group(state, state.devices[held.parent], claim.tenant, held.mode, claim.claim))
    return at_odds(state, state.devices[held.device], claim.tenant, held.mode, claim.claim)


def _amounts(state: State, publisher: str, claim: CheckpointClaim, node: str) -> dict[str, dict[str, int]]:
    """Give what the claim holds beside devices, by node; of a node that has another id now, it is that of `node`.

    With "" that is the publisher's first. No node brings back more than there is of it, where that is known.
    """
    found: dict[str, dict[str, int]] = {}
    node = node or next((one.id for one in state.nodes.values() if one.publisher == publisher and not one.retired), "")
    for name, amounts in claim.amounts.items():
        there = state.nodes.get(name)
        whose = name if there is not None and there.publisher == publisher and not there.retired else node
        for amount, number in amounts.items() if whose else ():
            most = state.capacity(state.nodes[whose], amount)
            if amount in AMOUNTS and number > 0:
                found.setdefault(whose, {})[amount] = number if most is None else min(number, most)
    return found


def find_kept(state: State, publisher: str, one: ClaimDevice) -> Device | None:
    """Give the device of a checkpoint by its part, among those of the nodes that the publisher speaks for."""
    for name in (one.device, *state.found.by_part.get(one.part, ())):
        device = state.devices.get(name)
        if device is not None and _is(device, one) and state.nodes[device.node].publisher == publisher:
            return device
    return None


def _is(device: Device, one: ClaimDevice) -> bool:
    """Tell whether a device is the part of a checkpoint: a partition was granted before it had a name of its own."""
    granted = device.hold.part if device.planned and device.hold is not None else ""
    return one.part in (device.part_key, granted)


def _gpu(state: State, publisher: str, one: ClaimDevice) -> Device | None:
    """Give the GPU on which a node keeps a partition that the ledger does not know; None for anything else."""
    return None if read_plan(one.profile) is None else find_whole(state, publisher, one)


def find_whole(state: State, publisher: str, one: ClaimDevice) -> Device | None:
    """Give what a device of a checkpoint is a part of, among those of the nodes that the publisher speaks for."""
    found = (state.devices[name] for name in state.found.by_part.get(one.family, ()))
    return next((whole for whole in found if state.nodes[whole.node].publisher == publisher), None)


def _planned(state: State, gpu: Device, claim: CheckpointClaim, one: ClaimDevice) -> tuple[Held, str]:
    """Give what a claim holds of a GPU that a node made a partition on, and what is in the way; "" when nothing is.

    A partition that is described in its place is that one.
    """
    plan = read_plan(one.profile)
    assert plan is not None
    held = msgspec.structs.replace(hold_for(state, gpu, plan, claim.claim), part=one.part)
    there = (one for one in partitions(state, gpu.id) if not one.planned and slices(one) == plan.place.mask)
    same = next((one.id for one in there), "")
    held = msgspec.structs.replace(held, device=same or held.device)
    against = [_in_the_way(state, other, claim, one) for other in _there(state, held) if other is not gpu]
    if gpu.hold is not None:
        against.append(_in_the_way(state, gpu, claim, one))
    return held, "; ".join(conflict for conflict in against if conflict)


def _there(state: State, held: Held) -> list[Device]:
    """Give what is where a claim is to hold something again: a GPU that is divided, and what overlaps its partition."""
    if not held.parent:
        return [state.devices[held.device]]
    plan = read_plan(held.profile)
    overlapping = [one for one in partitions(state, held.parent) if plan and slices(one) & plan.place.mask]
    return [state.devices[held.parent], *overlapping]


def _in_the_way(state: State, device: Device, claim: CheckpointClaim, one: ClaimDevice) -> str:
    """Say what keeps a device from being the claim's again; "" when nothing does, or a claim of which no node knows."""
    if one.mode not in _MODES:
        return f"its node keeps {device.id} in the mode {one.mode!r}, which is none"
    holder: Claim | None = state.claims.get(device.hold.claim) if device.hold else None
    if holder is None or holder.state not in LIVE_CLAIMS or _is_of(device, claim):
        if allowed(device.lifecycle, "restored"):
            return ""
        return f"{device.id} is {device.lifecycle.value}, and its node keeps it for claim {claim.claim}"
    if holder.state is ClaimState.RESERVED:
        return ""
    told = f"its node keeps {one.device} for claim {claim.claim} at epoch {claim.generation}.{claim.sequence}"
    return f"the ledger gave {device.id} to claim {holder.id} at epoch {holder.epoch}, and {told}"


def _is_of(device: Device, claim: CheckpointClaim) -> bool:
    return device.hold is not None and device.hold.claim == claim.claim


def unshown(state: State, nodes: Iterable[str]) -> Iterator[Node]:
    """Yield those of some nodes of which nothing is known in this generation."""
    for name in nodes:
        node = state.nodes.get(name)
        if node is not None and node.shown != state.generation:
            yield node


def show(state: State, nodes: Iterable[str], kept: Checkpoint) -> tuple[list[Entry], None]:
    """Record that a publisher has shown what it keeps for its nodes: their devices are known again.

    Who was told of a decision that is lost may have had any of its devices, and have given it back: what this ledger
    takes for free there was proved clean before that, and is free no more.
    """
    mine = list(unshown(state, nodes))
    entries: list[Entry] = []
    if kept.generation and _unknown(state, kept.generation, kept.sequence):  # 0: it was told of nothing yet
        why = f"its node was told of epoch {kept.generation}.{kept.sequence}, which this ledger has lost"
        there = (device for node in mine for device in state.devices_of(node.id))
        entries += [Passed(one.id, "doubted", "ledger", why) for one in there if one.lifecycle is Lifecycle.FREE]
    entries += [CheckpointShown(node.id, state.generation) for node in mine]
    return [*entries, *conflicts.of_nodes(state, [node.id for node in mine if node.live])], None

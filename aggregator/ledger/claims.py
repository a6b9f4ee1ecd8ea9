"""Decisions about claims: plain functions of the state, which give entries or refuse.

A grant is checked here (`asks`), whoever chose its devices, in the very decision that writes it: nothing can come
between.
"""

from collections.abc import Iterable, Sequence

from aggregator.ledger import in_use
from aggregator.ledger.asks import (
    MAX_LEASE,
    MIN_LEASE,
    Ask,
    ClaimInvalidError,
    NotGrantedError,
    Objection,
    Pick,
    check_ask,
    objections,
)
from aggregator.ledger.entries import (
    Confirmed,
    Entry,
    Granted,
    Invalidated,
    LeaseExpired,
    Provisioned,
    Released,
    Renewed,
    UndoBegun,
    Undone,
)
from aggregator.ledger.evidence import expected
from aggregator.ledger.model import Claim, Device, Held, part_key
from aggregator.ledger.partitions import hold_for, part_of, partitions, slices
from aggregator.ledger.relations import blocked
from aggregator.ledger.state import State
from aggregator.ledger.words import LIVE_CLAIMS, SHARING, ClaimState, Epoch, Lifecycle, Reach
from schemas.claims import Made
from schemas.errors import MusterError
from schemas.mig import read_plan


class ClaimError(MusterError):
    """The claim is not in a state for that, or not as the caller thinks; nothing was changed."""

    code = "claim.conflict"
    status = 409


class ClaimUnknownError(MusterError):
    """There is no such claim, or it is not the caller's."""

    code = "claim.unknown"
    status = 404


def grant(state: State, ask: Ask, claim: str) -> tuple[list[Entry], str]:
    """Grant what is asked for under the id `claim`; give the id, an older one when `ask.key` was used before.

    Raises NotGrantedError, ClaimInvalidError, or ClaimError when the key was used for something else.
    """
    check_ask(ask)
    before = repeated(state, ask.tenant, ask.key, ask.request)
    if before:
        return [], before
    against = list(objections(state, ask))
    if against:
        raise NotGrantedError(against)
    held = [_held(state, state.devices[pick.device], pick, claim) for pick in ask.devices]
    entry = Granted(
        claim,
        ask.tenant,
        ask.consumer,
        held,
        {node: dict(amounts) for node, amounts in ask.amounts.items() if amounts},
        ask.lease_seconds,
        ask.who,
        ask.package,
        ask.request,
        ask.key,
    )
    return [entry], claim


def _held(state: State, device: Device, pick: Pick, claim: str) -> Held:
    plan = read_plan(pick.profile)
    if plan is not None:
        return hold_for(state, device, plan, claim)
    return Held(device.id, device.node, pick.mode, part_key(device), expected=expected(device))


def repeated(state: State, tenant: str, key: str, request: str) -> str:
    """Give the claim that a tenant's `Idempotency-Key` was used for; "" when it is new.

    Raises ClaimError when it was used for another request.
    """
    before = state.claims.get(state.keys.get(f"{tenant}\n{key}", "")) if key else None
    if before is None:
        return ""
    if before.request != request:
        raise ClaimError(f"Idempotency-Key {key!r} was used for another request, of claim {before.id}")
    return before.id


def find(state: State, claim: str, *, version: int | None = None, states: Sequence[ClaimState] = ()) -> Claim:
    """Give a claim. Raises ClaimUnknownError, or ClaimError when it is in another state or version than expected."""
    found = state.claims.get(claim)
    if found is None:
        raise ClaimUnknownError(f"there is no claim {claim}")
    if version is not None and found.version != version:
        raise ClaimError(f"claim {claim} is at version {found.version}, not {version}: read it again")
    if states and found.state not in states:
        can = " or ".join(one.value for one in states)
        raise ClaimError(f"claim {claim} is {found.state.value}, and for this it must be {can}")
    return found


def provision(state: State, claim: str, version: int | None = None) -> tuple[list[Entry], list[Objection]]:
    """Decide that the nodes will be told; written before they are. Again on a provisioning claim: nothing new.

    Gives what is not as it was granted any more; when anything is, all of the claim is given back instead.
    """
    can = (ClaimState.RESERVED, ClaimState.PROVISIONING, ClaimState.ACTIVE)
    found = find(state, claim, version=version, states=can)
    if found.state is not ClaimState.RESERVED:
        return [], []
    changed = [objection for held in found.devices if (objection := _changed(state, found, held)) is not None]
    if changed:
        devices = [state.devices[objection.device] for objection in changed]
        return invalidate(state, devices, "; ".join(objection.message for objection in changed)), changed
    return [Provisioned(claim, kept=True)], []


def _changed(state: State, claim: Claim, held: Held) -> Objection | None:
    device = state.devices[held.device]
    if part_of_held(state, held) != held.part:
        return Objection("device.replaced", f"{device.id} is not the part {held.part} any more", held.node, device.id)
    reach = state.reach(device)
    if reach is not Reach.LIVE:
        return Objection(f"reach.{reach.value}", f"{device.id} is {reach.value}", held.node, device.id)
    for other in partitions(state, held.parent) if held.parent else ():
        if other.id != device.id and slices(other) & slices(device):
            return Objection("partition.taken", f"{other.id} is in the place of {device.id}", held.node, device.id)
    user = in_use.busy(state, state.devices[held.parent] if held.parent else device)
    if user:
        return Objection("device.in_use", f"{held.parent or device.id} is {user}", held.node, device.id)
    beside = blocked(state, device, claim.tenant, held.mode)
    if beside is not None:
        return Objection(f"relation.{beside.relation}", f"{device.id}: {beside.why}", held.node, device.id)
    return None


def part_of_held(state: State, held: Held) -> str:
    """Give the part that a claim would hold now; of a partition that is to be made it is told by the GPU."""
    plan = read_plan(held.profile) if held.parent else None
    return part_key(state.devices[held.device]) if plan is None else part_of(state.devices[held.parent], plan)


def confirm(
    state: State,
    claim: str,
    epoch: Epoch,
    devices: Sequence[str],
    ids: dict[str, Made] | None = None,
    nodes: Sequence[str] = (),
) -> tuple[list[Entry], Claim]:
    """Take a node's word that devices are the claim's, under its epoch. Again: nothing new.

    `nodes`: those that keep what it holds of them beside devices. `ids` are those of partitions that were made; without
    them a partition is not confirmed. Raises ClaimError for that, for another epoch, and for a claim that is past
    confirming: its node undoes it.
    """
    found = find(state, claim)
    if found.epoch != epoch:
        raise ClaimError(f"claim {claim} has epoch {found.epoch}, not {epoch}")
    new = [name for name in devices if name not in found.confirmed]
    keep = [node for node in nodes if node in found.unkept]
    if not new and not keep:
        return [], found
    if found.state is not ClaimState.PROVISIONING:
        raise ClaimError(f"claim {claim} is {found.state.value}: it takes no confirmation")
    strange = set(new) - {held.device for held in found.devices}
    if strange:
        raise ClaimError(f"claim {claim} does not hold {', '.join(sorted(strange))}")
    lost = [name for name in new if name not in state.devices or not claimed(state, state.devices[name], claim)]
    if lost:
        raise ClaimError(f"claim {claim} holds {', '.join(lost)} no more")
    made = {name: one for name, one in (ids or {}).items() if name in new and state.devices[name].planned}
    unnamed = [name for name in new if state.devices[name].planned and name not in made]
    if unnamed:
        raise ClaimError(f"claim {claim}: {', '.join(unnamed)}: a partition that was made is confirmed with its ids")
    return [Confirmed(claim, new, made, keep)], found


def renew(
    state: State, claim: str, lease_seconds: float | None = None, version: int | None = None
) -> tuple[list[Entry], Claim]:
    """Begin the lease anew; a suspect claim of which nothing was taken away is active again."""
    can = (ClaimState.RESERVED, ClaimState.PROVISIONING, ClaimState.ACTIVE, ClaimState.SUSPECT)
    found = find(state, claim, version=version, states=can)
    seconds = found.lease_seconds if lease_seconds is None else lease_seconds
    if not MIN_LEASE <= seconds <= MAX_LEASE:
        raise ClaimInvalidError(f"lease_seconds: {seconds} is not from {MIN_LEASE:g} to {MAX_LEASE:g}")
    whole = not found.fenced and all(_still(state, found, held) for held in found.devices)
    if found.state is ClaimState.SUSPECT and not whole:
        raise ClaimError(f"claim {claim} was suspect, and part of it was taken back: release it")
    if found.state is ClaimState.SUSPECT and found.unkept:
        raise ClaimError(f"claim {claim} was suspect before its nodes confirmed it: release it")
    return [Renewed(claim, seconds)], found


def _still(state: State, claim: Claim, held: Held) -> bool:
    device = state.devices.get(held.device)
    if device is None or device.lifecycle is not Lifecycle.SUSPECT:
        return False
    return claimed(state, device, claim.id) and held.device in claim.confirmed


def expire(state: State, claim: str) -> tuple[list[Entry], Claim]:
    """Record that a lease ran out, by the leader's monotonic clock."""
    found = find(state, claim)
    if found.state not in (ClaimState.RESERVED, ClaimState.PROVISIONING, ClaimState.ACTIVE):
        return [], found
    return [LeaseExpired(claim)], found


def release(
    state: State, claim: str, *, who: str = "", why: str = "", version: int | None = None
) -> tuple[list[Entry], Claim]:
    """Give a claim back. Devices that a node was told of become dirty, never free. Again: nothing new.

    What a node was told of is the claim's until that node has confirmed that nothing of it is in use: force frees
    nothing (invariant 12).
    """
    found = find(state, claim, version=version)
    if found.state not in LIVE_CLAIMS or found.state is ClaimState.RELEASING:
        return [], found
    if found.state is ClaimState.UNDOING:
        raise ClaimError(f"claim {claim} is being undone: its nodes have yet to confirm it")
    return [Released(claim, who, why)], found


def begin_undo(state: State, claim: str, why: str) -> tuple[list[Entry], Claim]:
    """Decide that a provision failed and its nodes undo it. A claim that is not being provisioned: nothing new.

    Of amounts alone there is nothing to undo: it has failed at once.
    """
    found = find(state, claim)
    if found.state is not ClaimState.PROVISIONING:
        return [], found
    entries: list[Entry] = [UndoBegun(claim, why)]
    if all(held.device in found.undone for held in found.devices):
        entries.append(Undone(claim, []))
    return entries, found


def undone(state: State, claim: str, epoch: Epoch, devices: Sequence[str]) -> tuple[list[Entry], Claim]:
    """Take a node's word that devices of a claim are not in use. Again: nothing new."""
    found = find(state, claim)
    if found.epoch != epoch:
        raise ClaimError(f"claim {claim} has epoch {found.epoch}, not {epoch}")
    new = [held.device for held in found.devices if held.device in devices and held.device not in found.undone]
    if not new or found.state not in (ClaimState.UNDOING, ClaimState.RELEASING, ClaimState.SUSPECT):
        return [], found
    return [Undone(claim, new)], found


def may_be_in_use(state: State, device: Device) -> bool:
    """Tell whether a live claim holds a device, and its node has not confirmed that it does not use it.

    Who uses a part that has no PCI function of its own uses the whole.
    """
    parts = (state.devices[name] for name in state.found.parts.get(device.id, ()))
    return claimed(state, device) or any(part.kind in SHARING and claimed(state, part) for part in parts)


def claimed(state: State, device: Device, by: str = "") -> bool:
    """Tell whether a live claim (`by`, or any) holds a device itself, and its node has not confirmed its end."""
    claim = state.claims.get(device.hold.claim) if device.hold else None
    if claim is None or (by and claim.id != by):
        return False
    return claim.state in LIVE_CLAIMS and device.id not in claim.undone


def invalidate(state: State, devices: Iterable[Device], why: str) -> list[Entry]:
    """Give back the claims of devices that changed before any node was told of them; [] when there are none such.

    With a GPU change the partitions that were to be made on it.
    """
    changed: dict[str, list[str]] = {}
    parts = ((one, *(state.devices[name] for name in state.found.parts.get(one.id, ()))) for one in devices)
    for device in (one for each in parts for one in each if one is each[0] or one.planned):
        claim = state.claims.get(device.hold.claim) if device.hold else None
        if claim is not None and claim.state is ClaimState.RESERVED:
            changed.setdefault(claim.id, []).append(device.id)
    return [Invalidated(claim, first, why, others) for claim, (first, *others) in changed.items()]

"""Decisions about claims: plain functions of the state, which give entries or refuse.

Whether something may be given is one question, `objections`, asked by a grant and by a dry run alike. A grant is
checked here, whoever chose its devices, in the very decision that writes it: nothing can come between.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

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
from aggregator.ledger.model import Claim, Device, Held, Node, part_key
from aggregator.ledger.relations import blocked, excludes, together
from aggregator.ledger.state import State
from aggregator.ledger.words import AMOUNTS, LIVE_CLAIMS, ClaimState, Effect, Epoch, Lifecycle, Mode, Reach
from schemas.errors import MusterError

MIN_LEASE: Final = 1.0
MAX_LEASE: Final = 366 * 86_400.0
"""Bounds of a lease, in seconds."""


class ClaimError(MusterError):
    """The claim is not in a state for that, or not as the caller thinks; nothing was changed."""

    code = "claim.conflict"
    status = 409


class ClaimUnknownError(MusterError):
    """There is no such claim, or it is not the caller's."""

    code = "claim.unknown"
    status = 404


class ClaimInvalidError(MusterError):
    """The request cannot be meant like this."""

    code = "claim.invalid"
    status = 400


class Objection(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reason why something cannot be given."""

    reason: str
    """A word, stable once released."""
    message: str
    node: str = ""
    device: str = ""
    """The device that is in the way; "" where it is none."""


class NotGrantedError(MusterError):
    """It cannot be given now; `objections` say why."""

    code = "claim.refused"
    status = 409

    def __init__(self, objections: Sequence[Objection]) -> None:
        super().__init__("; ".join(objection.message for objection in objections))
        self.objections = list(objections)


class Pick(msgspec.Struct, frozen=True):
    """A device to be given."""

    device: str
    mode: Mode = Mode.PASSTHROUGH
    part: str = ""
    """The part that the caller saw there; "" when any will do."""
    profile: str = ""
    """The MIG profile and placement to make on it, `<profile>@<start>`."""


class Ask(msgspec.Struct, frozen=True):
    """What a claim would hold."""

    tenant: str
    consumer: str
    devices: list[Pick] = []
    amounts: dict[str, dict[str, int]] = {}
    """By node."""
    lease_seconds: float = 3600.0
    tolerations: list[str] = []
    """Rules of taints that the caller puts up with."""
    who: str = ""
    package: str = ""
    request: str = ""
    key: str = ""


def unschedulable(state: State, device: Device, tolerations: Sequence[str] = ()) -> Objection | None:
    """Say why nobody could be given a device now, whoever asks; None when somebody could."""
    node = state.nodes[device.node]
    reason = message = ""
    reach = state.reach(device)
    if device.lifecycle is not Lifecycle.FREE:
        reason = f"lifecycle.{device.lifecycle.value}"
        holder = f" for claim {device.hold.claim}" if device.hold else ""
        message = f"{device.id} is {device.lifecycle.value}{holder}"
    elif reach is not Reach.LIVE:
        reason, message = f"reach.{reach.value}", f"{device.id} is {reach.value}"
    else:
        return _marked(device, tolerations) or node_closed(node, tolerations)
    return Objection(reason, message, device.node, device.id)


def _marked(device: Device, tolerations: Sequence[str]) -> Objection | None:
    for taint in device.taints.values():
        if taint.rule not in tolerations:
            message = f"{device.id} is marked {taint.effect.value} by {taint.rule}: {taint.evidence}"
            return Objection(f"taint.{taint.rule}", message, device.node, device.id)
    return None


def node_closed(node: Node, tolerations: Sequence[str] = ()) -> Objection | None:
    """Say why nothing new may go to a node; None when it may."""
    for reason, why in (("cordoned", node.cordoned), ("draining", node.draining)):
        if why:
            return Objection(f"node.{reason}", f"node {node.name or node.id} is {reason}: {why}", node.id)
    if node.retired:
        return Objection("node.retired", f"node {node.name or node.id} is retired", node.id)
    if node.maintenance_until_ns is not None:
        return Objection("node.maintenance", f"node {node.name or node.id} is in maintenance", node.id)
    if not node.live:
        return Objection("reach.stale", f"node {node.name or node.id} is silent", node.id)
    for taint in node.taints.values():
        if taint.rule not in tolerations and taint.effect in (Effect.NO_SCHEDULE, Effect.DRAIN):
            message = f"node {node.name or node.id} is marked {taint.effect.value} by {taint.rule}: {taint.evidence}"
            return Objection(f"taint.{taint.rule}", message, node.id)
    return None


def objections(state: State, ask: Ask) -> Iterator[Objection]:
    """Yield every reason why `ask` cannot be granted as it is; none when it can."""
    names = {pick.device for pick in ask.devices}
    for pick in ask.devices:
        device = state.devices.get(pick.device)
        if device is None:
            yield Objection("device.unknown", f"there is no device {pick.device}", device=pick.device)
            continue
        yield from _about(state, ask, pick, device, names)
    yield from _amounts(state, ask)
    yield from over_quota(state, ask)


def _about(state: State, ask: Ask, pick: Pick, device: Device, names: set[str]) -> Iterator[Objection]:
    objection = unschedulable(state, device, ask.tolerations)
    if objection is not None:
        yield objection
    if pick.part and pick.part != part_key(device):
        yield Objection("device.replaced", f"{device.id} is not the part {pick.part} any more", device.node, device.id)
    other = blocked(state, device, ask.tenant, pick.mode)
    if other is not None:
        yield Objection(f"relation.{other.relation}", f"{device.id}: {other.why}", device.node, other.device)
    for partner in excludes(state, device):
        if partner.id in names:
            message = f"{device.id} and {partner.id} cannot be given both: one is a part of the other"
            yield Objection("relation.excludes", message, device.node, partner.id)
    if pick.mode is Mode.PASSTHROUGH:
        yield from _modes(state, ask, device, names)


def _modes(state: State, ask: Ask, device: Device, names: set[str]) -> Iterator[Objection]:
    """A group that is asked for in two modes at once would leave a host driver beside a tenant's device."""
    modes = {pick.device: pick.mode for pick in ask.devices}
    for member in together(state, device):
        if member.id in names and modes[member.id] is not Mode.PASSTHROUGH:
            message = f"{device.id} and {member.id} are in one IOMMU group and cannot be given in two modes"
            yield Objection("relation.together", message, device.node, member.id)


def _amounts(state: State, ask: Ask) -> Iterator[Objection]:
    for name, amounts in ask.amounts.items():
        node = state.nodes.get(name)
        if node is None:
            yield Objection("node.unknown", f"there is no node {name}", name)
            continue
        closed = node_closed(node, ask.tolerations)
        if closed is not None:
            yield closed
        for amount, number in amounts.items():
            capacity = state.capacity(node, amount)
            free = None if capacity is None else capacity - node.used.get(amount, 0)
            if free is None or number > free:
                left = "how much there is of it is not known" if free is None else f"{max(0, free)} of {capacity} left"
                message = f"node {node.name or node.id} cannot give {number} {amount}: {left}"
                yield Objection(f"amount.{amount}", message, name)


def over_quota(state: State, ask: Ask) -> Iterator[Objection]:
    """Yield the limits of its tenant that `ask` would break."""
    quota = state.quota(ask.tenant)
    if quota is None:
        return
    more = {"claims": 1, "devices": len(ask.devices)}
    for amounts in ask.amounts.values():
        for amount, number in amounts.items():
            more[amount] = more.get(amount, 0) + number
    tenant = state.tenants.get(ask.tenant)
    used = tenant.used if tenant else {}
    for name, limit in quota.limits.items():
        kind, _, variant = name.partition(":")
        held, wanted = used.get(kind, 0), more.get(kind, 0)
        if variant:
            held = sum(
                number
                for profiles, number in (tenant.profiles if tenant else {}).items()
                if state.is_variant(profiles, variant)
            )
            picked = [state.devices[pick.device] for pick in ask.devices if pick.device in state.devices]
            wanted = sum(state.is_variant(device.profiles, variant) for device in picked)
        if wanted and held + wanted > limit:
            message = f"tenant {ask.tenant} would hold {held + wanted} of {name}, and its quota is {limit}"
            yield Objection(f"quota.{name}", message)


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
    held = [_held(state.devices[pick.device], pick) for pick in ask.devices]
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


def _held(device: Device, pick: Pick) -> Held:
    return Held(device.id, device.node, pick.mode, part_key(device), pick.profile, expected(device))


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


def check_ask(ask: Ask) -> None:
    """Raise ClaimInvalidError for what nobody can mean."""
    names = [pick.device for pick in ask.devices]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ClaimInvalidError(f"named more than once: {', '.join(twice)}")
    if not ask.tenant or not ask.consumer:
        raise ClaimInvalidError("a claim needs a tenant and a consumer: say whose it is, and what it is for")
    if not names and not any(ask.amounts.values()):
        raise ClaimInvalidError("a claim of nothing: name devices or amounts")
    if not MIN_LEASE <= ask.lease_seconds <= MAX_LEASE:
        raise ClaimInvalidError(f"lease_seconds: {ask.lease_seconds} is not from {MIN_LEASE:g} to {MAX_LEASE:g}")
    for amounts in ask.amounts.values():
        for amount, number in amounts.items():
            if amount not in AMOUNTS or number <= 0:
                raise ClaimInvalidError(f"{amount}: {number}: amounts are {', '.join(AMOUNTS)}, whole and above 0")


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
    changed = [objection for held in found.devices if (objection := _changed(state, held)) is not None]
    if changed:
        devices = [state.devices[objection.device] for objection in changed]
        return invalidate(state, devices, "; ".join(objection.message for objection in changed)), changed
    return [Provisioned(claim)], []


def _changed(state: State, held: Held) -> Objection | None:
    device = state.devices[held.device]
    if part_key(device) != held.part:
        return Objection("device.replaced", f"{device.id} is not the part {held.part} any more", held.node, device.id)
    reach = state.reach(device)
    if reach is not Reach.LIVE:
        return Objection(f"reach.{reach.value}", f"{device.id} is {reach.value}", held.node, device.id)
    return None


def confirm(
    state: State, claim: str, epoch: Epoch, devices: Sequence[str], ids: dict[str, str] | None = None
) -> tuple[list[Entry], Claim]:
    """Take a node's word that devices are the claim's, under its epoch. Again: nothing new.

    Raises ClaimError for another epoch, and for a claim that is past confirming: its node undoes it.
    """
    found = find(state, claim)
    if found.epoch != epoch:
        raise ClaimError(f"claim {claim} has epoch {found.epoch}, not {epoch}")
    new = [name for name in devices if name not in found.confirmed]
    if not new:
        return [], found
    if found.state is not ClaimState.PROVISIONING:
        raise ClaimError(f"claim {claim} is {found.state.value}: it takes no confirmation")
    strange = set(new) - {held.device for held in found.devices}
    if strange:
        raise ClaimError(f"claim {claim} does not hold {', '.join(sorted(strange))}")
    return [Confirmed(claim, new, ids or {})], found


def renew(
    state: State, claim: str, lease_seconds: float | None = None, version: int | None = None
) -> tuple[list[Entry], Claim]:
    """Begin the lease anew; a suspect claim of which nothing was taken away is active again."""
    can = (ClaimState.RESERVED, ClaimState.PROVISIONING, ClaimState.ACTIVE, ClaimState.SUSPECT)
    found = find(state, claim, version=version, states=can)
    seconds = found.lease_seconds if lease_seconds is None else lease_seconds
    if not MIN_LEASE <= seconds <= MAX_LEASE:
        raise ClaimInvalidError(f"lease_seconds: {seconds} is not from {MIN_LEASE:g} to {MAX_LEASE:g}")
    if found.state is ClaimState.SUSPECT and not all(_still(state, found, held) for held in found.devices):
        raise ClaimError(f"claim {claim} was suspect, and part of it was taken back: release it")
    return [Renewed(claim, seconds)], found


def _still(state: State, claim: Claim, held: Held) -> bool:
    device = state.devices[held.device]
    return (
        device.lifecycle is Lifecycle.SUSPECT
        and device.hold is not None
        and device.hold.claim == claim.id
        and held.device in claim.confirmed
    )


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
    """Decide that a provision failed and its nodes undo it. Again: nothing new."""
    found = find(state, claim)
    if found.state not in LIVE_CLAIMS or found.state in (ClaimState.UNDOING, ClaimState.RELEASING):
        return [], found
    if found.state is ClaimState.RESERVED:
        return [Released(claim, why=why)], found
    return [UndoBegun(claim, why)], found


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
    """Tell whether a live claim holds a device, and its node has not confirmed that it does not use it."""
    claim = state.claims.get(device.hold.claim) if device.hold else None
    return claim is not None and claim.state in LIVE_CLAIMS and device.id not in claim.undone


def invalidate(state: State, devices: Iterable[Device], why: str) -> list[Entry]:
    """Give back the claims of devices that changed before any node was told of them; [] when there are none such."""
    changed: dict[str, list[str]] = {}
    for device in devices:
        claim = state.claims.get(device.hold.claim) if device.hold else None
        if claim is not None and claim.state is ClaimState.RESERVED:
            changed.setdefault(claim.id, []).append(device.id)
    return [Invalidated(claim, first, why, others) for claim, (first, *others) in changed.items()]

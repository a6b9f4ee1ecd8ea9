"""What can be asked of the ledger, and what objects to it: whether something may be given is one question.

`objections` is asked by a grant and by a dry run alike.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from aggregator.ledger import in_use
from aggregator.ledger.model import Device, Node, part_key
from aggregator.ledger.partitions import partitions, placements, slices
from aggregator.ledger.relations import blocked, blocked_by_group, excludes, shared_whole, together, unjoined
from aggregator.ledger.state import State
from aggregator.ledger.words import AMOUNTS, CONFLICT, MAX_AMOUNT, Effect, Lifecycle, Mode, Reach
from schemas.errors import MusterError, did_you_mean, near_ids
from schemas.mig import read_plan

MIN_LEASE: Final = 1.0
MAX_LEASE: Final = 366 * 86_400.0
"""Bounds of a lease, in seconds."""
_FEW: Final = 3
"""Who names no more devices than these is told what may have been meant by one that there is not."""


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
    """Of a GPU: the plan of the partition to be made on it (`schemas.mig.Plan`), which is given and not the GPU."""


class Ask(msgspec.Struct, frozen=True):
    """What a claim would hold."""

    tenant: str
    consumer: str
    devices: list[Pick] = []
    amounts: dict[str, dict[str, int]] = {}
    """By node."""
    lease_seconds: float = 3600.0
    tolerations: list[str] = []
    """Rules of taints that the caller puts up with; nobody does with a `CONFLICT`."""
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
    elif user := in_use.busy(state, device):
        reason, message = "device.in_use", f"{device.id} is {user}"
    elif unjoined(device):
        reason, message = f"reach.{Reach.UNVERIFIED.value}", apart(device)
    else:
        return _marked(device, tolerations) or node_closed(state, node, tolerations)
    return Objection(reason, message, device.node, device.id)


def apart(device: Device) -> str:
    """Say of a device that nothing is known of what it is a part of."""
    return f"{device.id} is a part of {unjoined(device)}, which nobody has described yet"


def _marked(device: Device, tolerations: Sequence[str]) -> Objection | None:
    for taint in device.taints.values():
        if taint.rule not in tolerations or taint.rule == CONFLICT:
            message = f"{device.id} is marked {taint.effect.value} by {taint.rule}: {taint.evidence}"
            return Objection(f"taint.{taint.rule}", message, device.node, device.id)
    return None


def node_closed(state: State, node: Node, tolerations: Sequence[str] = ()) -> Objection | None:
    """Say why nothing new may go to a node; None when it may."""
    for reason, why in (("cordoned", node.cordoned), ("draining", node.draining)):
        if why:
            return Objection(f"node.{reason}", f"node {state.called(node)} is {reason}: {why}", node.id)
    if node.retired:
        return Objection("node.retired", f"node {state.called(node)} is retired", node.id)
    if node.maintenance_until_ns is not None:
        return Objection("node.maintenance", f"node {state.called(node)} is in maintenance", node.id)
    if not node.live:
        return Objection("reach.stale", f"node {state.called(node)} is silent", node.id)
    if node.shown != state.generation:  # whoever was given something there by the ledger that was lost has it still
        return Objection("reach.unverified", unshown(state, node), node.id)
    if node.publisher in state.unread:
        return Objection("node.unread", behind(state, node), node.id)
    for taint in node.taints.values():
        if taint.rule not in tolerations and taint.effect in (Effect.NO_SCHEDULE, Effect.DRAIN):
            message = f"node {state.called(node)} is marked {taint.effect.value} by {taint.rule}: {taint.evidence}"
            return Objection(f"taint.{taint.rule}", message, node.id)
    return None


def unshown(state: State, node: Node) -> str:
    """Say of a node that nothing is known of what it gave, devices or amounts."""
    return f"node {state.called(node)} has not shown what it keeps since the ledger was lost or made anew"


def behind(state: State, node: Node) -> str:
    """Say how far we are behind what a node said."""
    seconds = state.unread.get(node.publisher, 0.0)
    return f"what node {state.called(node)} says is not read yet: the inventory is {seconds:.0f} s behind; try again"


def objections(state: State, ask: Ask) -> Iterator[Objection]:
    """Yield every reason why `ask` cannot be granted as it is; none when it can."""
    modes = {pick.device: pick.mode for pick in ask.devices if not pick.profile}
    driven = _driven(state, ask)
    divided: dict[str, int] = {}
    for pick in ask.devices:
        device = state.devices.get(pick.device)
        if device is None:
            near = did_you_mean(near_ids(pick.device, state.devices)) if len(ask.devices) <= _FEW else ""
            yield Objection("device.unknown", f"there is no device {pick.device[:80]}.{near}", device=pick.device)
        elif pick.profile:
            yield from _schedulable(state, ask, pick, device)
            yield from _dividing(state, ask, pick, device, modes)
            yield from _place(state, pick, device, divided)
        else:
            yield from _schedulable(state, ask, pick, device)
            yield from _whole(state, ask, pick, device, modes, driven)
    yield from _amounts(state, ask)
    yield from over_quota(state, ask)


def _schedulable(state: State, ask: Ask, pick: Pick, device: Device) -> Iterator[Objection]:
    objection = unschedulable(state, device, ask.tolerations)
    if objection is not None:
        yield objection
    if pick.part and pick.part != part_key(device):
        yield Objection("device.replaced", f"{device.id} is not the part {pick.part} any more", device.node, device.id)


def _driven(state: State, ask: Ask) -> set[str]:
    """Give what the host's driver has to keep for what is asked for, itself or a part of it."""
    found = set()
    for pick in ask.devices:
        if pick.mode is Mode.DRIVER or pick.profile:
            found.add(pick.device)
            found |= {whole.id for whole in shared_whole(state, state.devices.get(pick.device))}
    return found


def _whole(
    state: State, ask: Ask, pick: Pick, device: Device, modes: dict[str, Mode], driven: set[str]
) -> Iterator[Objection]:
    """Object to a device, as it is, being given."""
    if device.planned:
        message = f"{device.id} is made for one claim, and ends with it"
        yield Objection("device.planned", message, device.node, device.id)
    other = blocked(state, device, ask.tenant, pick.mode)
    if other is not None:
        yield Objection(f"relation.{other.relation}", f"{device.id}: {other.why}", device.node, other.device)
    for partner in excludes(state, device):
        if partner.id in modes:
            message = f"{device.id} and {partner.id} cannot be given both: one is a part of the other"
            yield Objection("relation.excludes", message, device.node, partner.id)
    for member in together(state, device) if pick.mode is Mode.PASSTHROUGH and driven else ():
        if member.id in driven:  # it would leave a host driver beside a tenant's device
            message = f"{device.id} and {member.id} are in one IOMMU group and cannot be given in two modes"
            yield Objection("relation.together", message, device.node, member.id)


def _dividing(state: State, ask: Ask, pick: Pick, gpu: Device, modes: dict[str, Mode]) -> Iterator[Objection]:
    """Object to a GPU being divided: while it or a neighbour is given to somebody whole."""
    if pick.mode is not Mode.DRIVER:
        message = f"{gpu.id}: a partition has no PCI function to pass through: ask for the mode driver"
        yield Objection("partition.mode", message, gpu.node, gpu.id)
    other = blocked_by_group(state, gpu, ask.tenant, Mode.DRIVER)
    if other is not None:
        yield Objection(f"relation.{other.relation}", f"{gpu.id}: {other.why}", gpu.node, other.device)
    if gpu.id in modes:
        message = f"{gpu.id} cannot be given whole and in parts"
        yield Objection("relation.excludes", message, gpu.node, gpu.id)


def _place(state: State, pick: Pick, gpu: Device, divided: dict[str, int]) -> Iterator[Objection]:
    """Object to the place of a partition: one that there is not, or that is taken, by the same request too."""
    plan = read_plan(pick.profile)
    possible = plan is not None and any(
        one.profile == plan.profile and plan.place in one.places for one in placements(gpu)
    )
    if plan is None or not possible:
        message = f"no partition {pick.profile} can be made on {gpu.id}: name it as 3g.40gb@4:4, one of its placements"
        yield Objection("partition.place", message, gpu.node, gpu.id)
        return
    for other in partitions(state, gpu.id):
        if slices(other) & plan.place.mask:
            message = f"{gpu.id}: in the place of {plan} is {other.id}, {other.lifecycle.value}"
            yield Objection("partition.taken", message, gpu.node, other.id)
    if divided.get(gpu.id, 0) & plan.place.mask:
        message = f"{gpu.id}: {plan} overlaps another partition that is asked for"
        yield Objection("partition.overlap", message, gpu.node, gpu.id)
    divided[gpu.id] = divided.get(gpu.id, 0) | plan.place.mask


def _amounts(state: State, ask: Ask) -> Iterator[Objection]:
    for name, amounts in ask.amounts.items():
        node = state.nodes.get(name)
        if node is None:
            yield Objection("node.unknown", f"there is no node {name}", name)
            continue
        closed = node_closed(state, node, ask.tolerations)
        if closed is not None:
            yield closed
        for amount, number in amounts.items():
            capacity = state.capacity(node, amount)
            free = None if capacity is None else capacity - node.used.get(amount, 0)
            if free is None or number > free:
                left = "how much there is of it is not known" if free is None else f"{max(0, free)} of {capacity} left"
                message = f"node {state.called(node)} cannot give {number} {amount}: {left}"
                yield Objection(f"amount.{amount}", message, name)


def over_quota(state: State, ask: Ask, unchosen: int = 0) -> Iterator[Objection]:
    """Yield the limits of its tenant that `ask` would break; `unchosen`: devices more, nobody yet knows which."""
    quota = state.quota(ask.tenant)
    if quota is None:
        return
    more = {"claims": 1, "devices": len(ask.devices) + unchosen}
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
            picked = [
                state.devices[pick.device]
                for pick in ask.devices
                if pick.device in state.devices and not pick.profile  # a partition is none of its GPU's variant
            ]
            wanted = sum(state.is_variant(device.profiles, variant) for device in picked)
        if wanted and held + wanted > limit:
            message = f"tenant {ask.tenant} would hold {held + wanted} of {name}, and its quota is {limit}"
            yield Objection(f"quota.{name}", message)


def check_ask(ask: Ask) -> None:
    """Raise ClaimInvalidError for what nobody can mean."""
    names = [f"{pick.device} {pick.profile}".rstrip() for pick in ask.devices]
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
            if amount not in AMOUNTS or not 0 < number <= MAX_AMOUNT:
                raise ClaimInvalidError(
                    f"{amount}: {number}: amounts are {', '.join(AMOUNTS)}, whole, above 0 and at most {MAX_AMOUNT}"
                )

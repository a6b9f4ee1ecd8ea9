"""Decisions about cleaning and about devices that nobody claims: what leads to `free`, and what leads away from it."""

from collections.abc import Sequence
from typing import Final

import msgspec

from aggregator.ledger import evidence as proof
from aggregator.ledger import in_use
from aggregator.ledger.asks import ClaimInvalidError, NotGrantedError, Objection
from aggregator.ledger.claims import ClaimError, claimed, may_be_in_use
from aggregator.ledger.entries import Entry, Fenced, Passed, Proved
from aggregator.ledger.evidence import EvidenceError
from aggregator.ledger.model import Claim, Device, Evidence, Node, part_key
from aggregator.ledger.relations import excludes
from aggregator.ledger.state import State
from aggregator.ledger.transitions import allowed, transition
from aggregator.ledger.words import ClaimState, Lifecycle, Reach
from schemas.errors import MusterError, did_you_mean, near_ids
from schemas.evidence import PowerReadback, Readback

POWER_SECONDS: Final = 300.0
"""A BMC's word that a machine is off proves nothing of later: whoever brings it has just asked."""


class DeviceUnknownError(MusterError):
    """There is no such device."""

    code = "device.unknown"
    status = 404


def find(state: State, device: str) -> Device:
    """Give a device. Raises DeviceUnknownError."""
    found = state.devices.get(device)
    if found is None:
        raise DeviceUnknownError(f"there is no device {device[:80]}.{did_you_mean(near_ids(device, state.devices))}")
    return found


def begin_clean(state: State, device: str, *, who: str = "", why: str = "") -> tuple[list[Entry], Device]:
    """Decide that a device is cleaned: its node will be told. Raises NotGrantedError while it may be in use."""
    found = find(state, device)
    transition(found.lifecycle, "clean")
    if found.hold is not None and may_be_in_use(state, found):
        message = f"{device} may be in use: its node has not confirmed the end of claim {found.hold.claim}"
        raise NotGrantedError([Objection("claim.live", message, found.node, device)])
    _check_use(found, in_use.recorded(state, found))
    for other in excludes(state, found):
        if claimed(state, other):
            message = f"{other.id}, which is a part of {device} or has it as one, may be in use for a claim"
            raise NotGrantedError([Objection("relation.excludes", message, found.node, other.id)])
    there = _there_of(state, found)
    reach = state.reach(there)
    if reach is not Reach.LIVE:
        raise NotGrantedError([Objection(f"reach.{reach.value}", f"{there.id} is {reach.value}", found.node, device)])
    return [Passed(device, "clean", who, why)], found


def end_clean(state: State, device: str, document: Readback, who: str) -> tuple[list[Entry], Device]:
    """Take the readback of a clean: the device is free by it, or quarantined with what is wrong with it.

    A document that belongs to another clean or device changes nothing: raises EvidenceError.
    """
    found = find(state, device)
    if document.device != device or document.clean != found.cleaning or not allowed(found.lifecycle, "cleaned"):
        proof.check(found, document)  # says what is wrong
        raise EvidenceError(f"{device} is {found.lifecycle.value}: no clean is under way")
    try:
        proof.check(found, document)
    except EvidenceError as error:
        return [Passed(device, "clean_failed", who, str(error))], found
    text = msgspec.json.encode(document).decode()
    return [Proved(device, "cleaned", Evidence(0, "evidence", who, part_key(found), text))], found


def fail_clean(state: State, device: str, clean: int, why: str, who: str = "") -> tuple[list[Entry], Device]:
    """Take a node's word that the clean begun at `clean` failed. Another clean's end changes nothing."""
    found = find(state, device)
    if found.cleaning != clean or not allowed(found.lifecycle, "clean_failed"):
        return [], found
    return [Passed(device, "clean_failed", who, why)], found


def doubt(device: Device, why: str) -> list[Entry]:
    """Give what follows when a device may be another part than it was: what was proved of that counts for nothing.

    What is free is dirty; of what is being cleaned the evidence would be of who knows which part, so that clean failed.
    What a claim has stays its, and is cleaned after it, whatever it is.
    """
    cause = {Lifecycle.FREE: "doubted", Lifecycle.CLEANING: "clean_failed"}.get(device.lifecycle)
    return [] if cause is None else [Passed(device.id, cause, "ledger", why)]


def abandon_clean(state: State, device: str, clean: int) -> tuple[list[Entry], Device]:
    """Record that a node never answered to the clean begun at `clean`."""
    found = find(state, device)
    if found.cleaning != clean or not allowed(found.lifecycle, "clean_abandoned"):
        return [], found
    return [Passed(device, "clean_abandoned", why="its node never answered")], found


def attest(state: State, device: str, who: str, statement: str, as_of: int | None = None) -> tuple[list[Entry], Device]:
    """Take an operator's word that a device is clean. Raises ClaimInvalidError.

    NotGrantedError is raised while it is held, while it is absent (nobody looked at it), and while its node is silent
    that was told of a claim on it: what that node keeps running is known once it speaks.
    `as_of` is the ledger's sequence when the operator looked: what was in use since, or is another part, or in another
    place, they did not speak of, and NotGrantedError is raised. None: whatever is there now is meant.
    """
    found = find(state, device)
    if not statement.strip():
        raise ClaimInvalidError("an attestation says what was done, and how it is known: --statement")
    if as_of is not None:
        _check_as_of(state, found, as_of)
    transition(found.lifecycle, "attested")
    if found.hold is not None and may_be_in_use(state, found):
        message = f"{device} may be in use for claim {found.hold.claim}: fence its node first"
        raise NotGrantedError([Objection("claim.live", message, found.node, device)])
    _check_seen(state, found)
    _check_use(found, in_use.outside(state, found))
    text = msgspec.json.encode({"statement": statement}).decode()
    return [Proved(device, "attested", Evidence(0, "attestation", who, part_key(found), text))], found


def _check_seen(state: State, device: Device) -> None:
    there = _there_of(state, device)
    if state.reach(there) is Reach.ABSENT:
        message = (
            f"{there.id} is absent: nobody can vouch for what is not there; attest it once its node sees it again, or"
            f" take it out for good: muster clean {there.id} --retire --why TEXT"
        )
        raise NotGrantedError([Objection("reach.absent", message, device.node, device.id)])
    node = state.nodes[device.node]
    if device.hold is not None and not node.live:
        message = (
            f"{device.id} was claim {device.hold.claim}'s, and node {state.called(node)} is silent: it may run that"
            " still, and shows what it keeps when it is back; attest the device then"
        )
        raise NotGrantedError([Objection("reach.stale", message, device.node, device.id)])


def _there_of(state: State, device: Device) -> Device:
    """Give what is there to look at: of a partition that was made for a claim, and may be destroyed, its GPU."""
    return state.devices.get(device.parent, device) if device.planned else device


def _check_as_of(state: State, device: Device, as_of: int) -> None:
    """Make sure that a device is what it was at a sequence of the ledger, and was in nobody's hands since."""
    if as_of > state.sequence:
        raise ClaimInvalidError(f"the ledger is at {state.sequence}, and has not come to {as_of}: look again")
    stays = state.sights.get(device.id, ())
    if device.released > as_of or device.first > as_of:
        why = "was in use since"
    elif stays and stays[-1].since > as_of:
        why = "is another part, or in another slot, than it was"
    else:
        return
    message = f"{device.id} {why}: the word was about what it was at {as_of}; look again"
    raise NotGrantedError([Objection("device.changed", message, device.node, device.id)])


def _check_use(device: Device, user: str) -> None:
    if user:
        message = f"{device.id} is in use by {user}"
        raise NotGrantedError([Objection("device.in_use", message, device.node, device.id)])


def fence(
    state: State, node: str, who: str, *, now_ns: int, power: PowerReadback | None = None, statement: str = ""
) -> tuple[list[Entry], list[Claim]]:
    """Take it as proved that nothing runs on a node: its BMC says that it is off, or an operator vouches for it.

    What claims hold there is dirty then, and they hold no amounts of it any more. `now_ns`: wall time.
    Raises ClaimInvalidError, ClaimError while the node speaks, or EvidenceError.
    """
    if node not in state.nodes:
        raise ClaimInvalidError(f"there is no node {node}")
    if power is None and not statement.strip():
        raise ClaimInvalidError("say how it is known that nothing runs on the node: --statement")
    if state.nodes[node].live:
        raise ClaimError(f"node {node} speaks: release its claims, or stop it first")
    if power is not None:
        _check_power(state.nodes[node], power, now_ns)
    ground = "attestation" if power is None else "evidence"
    text = msgspec.json.encode({"statement": statement} if power is None else power).decode()
    entries: list[Entry] = []
    claims: list[Claim] = []
    for claim in state.live_claims():
        devices = _there(claim, node)
        if (devices or node in claim.shares) and claim.state is not ClaimState.RESERVED:
            entries.append(Fenced(claim.id, devices, Evidence(0, ground, who, "", text), [node]))
            claims.append(claim)
    return entries, claims


def _check_power(node: Node, power: PowerReadback, now_ns: int) -> None:
    """Make sure that a BMC's word is about this node, and of now. Raises EvidenceError.

    A node is called silent some time after its last word: clocks that differ by less than that do no harm.
    """
    if power.node != node.id or power.power_state != "Off":
        raise EvidenceError(f"its BMC says {power.power_state!r} of node {power.node}: not that {node.id} is off")
    age = (now_ns - power.read_ns) / 1e9
    if not -POWER_SECONDS <= age <= POWER_SECONDS:
        raise EvidenceError(f"its BMC was read {age:.0f} s ago: read it again, at most {POWER_SECONDS:.0f} s before")
    if power.read_ns < node.silent_ns:
        raise EvidenceError(f"its BMC was read before node {node.id} fell silent: read it again")


def _there(claim: Claim, node: str) -> list[str]:
    return [held.device for held in claim.devices if held.node == node and held.device not in claim.undone]


def retire(state: State, devices: Sequence[str], who: str, why: str) -> tuple[list[Entry], None]:
    """Take devices out for good.

    Raises TransitionError for one that a claim holds, NotGrantedError for one whose node has not confirmed the end of
    its claim, ClaimError for one made for it.
    """
    for device in devices:
        found = find(state, device)
        if found.planned:
            raise ClaimError(f"{device} was made for a claim, and ends with its clean: retire its GPU")
        if found.hold is not None and claimed(state, found) and allowed(found.lifecycle, "retired"):
            message = f"{device} may be in use: its node has not confirmed the end of claim {found.hold.claim}"
            raise NotGrantedError([Objection("claim.live", message, found.node, device)])
    return [_pass(state, device, "retired", who, why) for device in devices], None


def reinstate(state: State, devices: Sequence[str], who: str, why: str) -> tuple[list[Entry], None]:
    """Put retired devices back, dirty."""
    return [_pass(state, device, "reinstated", who, why) for device in devices], None


def _pass(state: State, device: str, cause: str, who: str, why: str) -> Entry:
    transition(find(state, device).lifecycle, cause)
    return Passed(device, cause, who, why)

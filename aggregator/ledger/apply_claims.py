"""What decisions about claims do to the state."""

from collections.abc import Callable, Collection
from typing import Any, Final

from aggregator.ledger.entries import (
    ClaimRestored,
    Confirmed,
    Fenced,
    Forgotten,
    Granted,
    Invalidated,
    LeaseExpired,
    Provisioned,
    Released,
    Renewed,
    UndoBegun,
    Undone,
)
from aggregator.ledger.model import Claim, Device, Hold
from aggregator.ledger.partitions import make_planned, name_made
from aggregator.ledger.state import State
from aggregator.ledger.transitions import allowed
from aggregator.ledger.words import LIVE_CLAIMS, ClaimState, Epoch

_SECOND: Final = 1_000_000_000


def _granted(state: State, entry: Granted) -> None:
    claim = Claim(
        entry.claim,
        entry.tenant,
        entry.consumer,
        Epoch(state.generation, state.sequence),
        ClaimState.RESERVED,
        entry.devices,
        entry.amounts,
        entry.lease_seconds,
        created_ns=state.time_ns,
        until_ns=state.time_ns + int(entry.lease_seconds * _SECOND),
        who=entry.who,
        package=entry.package,
        request=entry.request,
        version=state.sequence,
    )
    state.claims[claim.id] = claim
    if entry.key:
        state.keys[f"{entry.tenant}\n{entry.key}"] = claim.id
    _take(state, claim, "granted")


def _take(state: State, claim: Claim, cause: str) -> None:
    make_planned(state, claim.devices)
    for held in claim.devices:
        device = state.devices[held.device]
        state.move(device, cause)
        device.hold = Hold(claim.id, claim.tenant, held.mode, claim.epoch, held.part, held.expected)
    state.hold(claim)


def _provisioned(state: State, entry: Provisioned) -> None:
    claim = state.claims[entry.claim]
    for held in claim.devices:
        state.move(state.devices[held.device], "provisioning")
    claim.began_ns = state.time_ns
    if entry.kept:
        there = {held.node for held in claim.devices}
        claim.unkept = dict.fromkeys(node for node in claim.amounts if node not in there)
    _now(state, claim, ClaimState.PROVISIONING if claim.devices or claim.unkept else ClaimState.ACTIVE)
    for node in claim.unkept:
        state.touch_node(node)


def _confirmed(state: State, entry: Confirmed) -> None:
    claim = state.claims[entry.claim]
    for name in entry.devices:
        state.move(state.devices[name], "confirmed")
        claim.confirmed[name] = None
        if name in entry.ids:
            name_made(state, state.devices[name], entry.ids[name])
    claim.unkept = {node: None for node in claim.unkept if node not in entry.nodes}
    whole = len(claim.confirmed) == len(claim.devices) and not claim.unkept
    _now(state, claim, ClaimState.ACTIVE if whole else claim.state)
    for node in entry.nodes:
        state.touch_node(node)


def _renewed(state: State, entry: Renewed) -> None:
    claim = state.claims[entry.claim]
    claim.lease_seconds = entry.lease_seconds
    claim.until_ns = state.time_ns + int(entry.lease_seconds * _SECOND)
    if claim.state is ClaimState.SUSPECT:
        _move(state, claim, "renewed")
        _now(state, claim, ClaimState.ACTIVE)
    else:
        _now(state, claim, claim.state)


def _lease_expired(state: State, entry: LeaseExpired) -> None:
    claim = state.claims[entry.claim]
    told = claim.state is not ClaimState.RESERVED
    _move(state, claim, "expired")
    if told:
        _now(state, claim, ClaimState.SUSPECT, "the lease ran out")
    else:
        _over(state, claim, ClaimState.EXPIRED, "the lease ran out before any node was told")


def _released(state: State, entry: Released) -> None:
    claim = state.claims[entry.claim]
    told = claim.state is not ClaimState.RESERVED
    _move(state, claim, "released")
    if told and any(held.device not in claim.undone for held in claim.devices):
        _now(state, claim, ClaimState.RELEASING, entry.why)
    else:
        _over(state, claim, ClaimState.RELEASED, entry.why)


def _undo_begun(state: State, entry: UndoBegun) -> None:
    _now(state, state.claims[entry.claim], ClaimState.UNDOING, entry.why)


def _undone(state: State, entry: Undone) -> None:
    claim = state.claims[entry.claim]
    _move(state, claim, "undone", entry.devices)
    claim.undone.update(dict.fromkeys(entry.devices))
    if all(held.device in claim.undone for held in claim.devices):
        failed = claim.state is ClaimState.UNDOING
        _over(state, claim, ClaimState.FAILED if failed else ClaimState.RELEASED, claim.reason)
    else:
        _now(state, claim, claim.state)


def _fenced(state: State, entry: Fenced) -> None:
    claim = state.claims[entry.claim]
    _move(state, claim, "fenced", entry.devices)
    claim.undone.update(dict.fromkeys(entry.devices))
    if entry.nodes:
        _take_shares(state, claim, entry.nodes)
    why = f"fenced: {entry.evidence.ground} by {entry.evidence.who}"
    beginning = claim.state is ClaimState.PROVISIONING  # without a part it can never be all that was asked for
    goes_on = claim.state in (ClaimState.ACTIVE, ClaimState.SUSPECT)
    if any(held.device not in claim.undone for held in claim.devices):
        _now(state, claim, ClaimState.UNDOING if beginning else claim.state, why if beginning else "")
    elif not entry.nodes or not claim.shares:
        _over(state, claim, ClaimState.RELEASED, why)
    elif goes_on:
        _now(state, claim, claim.state)
    else:  # of amounts there is nothing to undo
        _over(state, claim, ClaimState.FAILED if beginning else ClaimState.RELEASED, why)


def _take_shares(state: State, claim: Claim, nodes: list[str]) -> None:
    """Let a claim hold nothing of nodes beside devices."""
    state.hold(claim, -1)
    claim.fenced = {**claim.fenced, **{node: None for node in nodes if node in claim.amounts}}
    claim.unkept = {node: None for node in claim.unkept if node not in nodes}
    state.hold(claim)


def _invalidated(state: State, entry: Invalidated) -> None:
    claim = state.claims[entry.claim]
    changed = {entry.device, *entry.devices}
    for device in _devices(state, claim):
        # of a partition that was to be made nothing is there yet
        state.move(device, "invalidated" if device.id in changed and not device.planned else "released")
    _over(state, claim, ClaimState.INVALID, entry.why)


def _claim_restored(state: State, entry: ClaimRestored) -> None:
    """A claim on several nodes comes back with each node's checkpoint, piece by piece."""
    old = state.claims.get(entry.claim)
    live = old is not None and old.state in LIVE_CLAIMS
    if old is not None and live:
        state.hold(old, -1)
    back: dict[str, None] = dict.fromkeys(held.device for held in entry.devices)
    kept = [held for held in old.devices if held.device not in back] if old is not None and live else []
    claim = Claim(
        entry.claim,
        entry.tenant,
        entry.consumer,
        Epoch(entry.generation, entry.sequence),
        old.state if old is not None and live else ClaimState.ACTIVE,
        [*kept, *entry.devices],
        {**(old.amounts if old else {}), **entry.amounts},
        entry.lease_seconds,
        created_ns=old.created_ns if old else state.time_ns,
        until_ns=state.time_ns + int(entry.lease_seconds * _SECOND),
        confirmed={**(old.confirmed if old is not None and live else {}), **back},
        undone=old.undone if old is not None and live else {},
        began_ns=old.began_ns if old and old.began_ns is not None else state.time_ns,
        reason="restored from its node's checkpoint",
        version=state.sequence,
        unkept=old.unkept if old is not None and live else {},
        fenced={node: None for node in old.fenced if node not in entry.amounts} if old is not None and live else {},
    )
    state.claims[claim.id] = claim
    make_planned(state, entry.devices)
    for held in entry.devices:
        device = state.devices[held.device]
        if held.parent:
            device.planned = held.profile
        if allowed(device.lifecycle, "restored"):
            state.move(device, "restored")
        device.hold = Hold(claim.id, claim.tenant, held.mode, claim.epoch, held.part, held.expected)
    state.hold(claim)


def _forgotten(state: State, entry: Forgotten) -> None:
    gone = set(entry.claims)
    for name in gone:
        state.claims.pop(name, None)
    state.keys = {key: claim for key, claim in state.keys.items() if claim not in gone}


def _devices(state: State, claim: Claim) -> list[Device]:
    """Give a claim's devices. A partition that was made for it is none any more once it has been cleaned."""
    return [state.devices[held.device] for held in claim.devices if held.device in state.devices]


def _move(state: State, claim: Claim, cause: str, names: Collection[str] | None = None) -> None:
    """Take a claim's devices, or those of them that are named, along by a cause; those that cannot go stay.

    What was undone may be another claim's by now, and is not this one's to move.
    """
    for device in _devices(state, claim):
        mine = device.hold is not None and device.hold.claim == claim.id and device.id not in claim.undone
        if mine and (names is None or device.id in names) and allowed(device.lifecycle, cause):
            state.move(device, cause)


def _now(state: State, claim: Claim, what: ClaimState, why: str = "") -> None:
    """Go on; all of its nodes changed by that, for what is asked of them did."""
    claim.state, claim.version = what, state.sequence
    if why:
        claim.reason = why
    for held in claim.devices:
        state.touch_node(held.node)


def _over(state: State, claim: Claim, what: ClaimState, why: str) -> None:
    state.hold(claim, -1)
    _now(state, claim, what, why)
    claim.ended_ns = state.time_ns


CLAIMS: Final[dict[type[Any], Callable[[State, Any], None]]] = {
    Granted: _granted,
    Provisioned: _provisioned,
    Confirmed: _confirmed,
    Renewed: _renewed,
    LeaseExpired: _lease_expired,
    Released: _released,
    UndoBegun: _undo_begun,
    Undone: _undone,
    Fenced: _fenced,
    Invalidated: _invalidated,
    ClaimRestored: _claim_restored,
    Forgotten: _forgotten,
}
"""What each entry of these does."""

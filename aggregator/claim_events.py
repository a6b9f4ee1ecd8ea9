"""What happened to claims and devices that somebody should hear of, told as events from the ledger's entries."""

from collections.abc import Iterator, Sequence

import msgspec

from aggregator.ledger import shrunk
from aggregator.ledger.entries import (
    ClaimRestored,
    Fenced,
    GenerationBegun,
    LeaseExpired,
    Passed,
    Tainted,
    Undone,
    Untainted,
)
from aggregator.ledger.journal import Written
from aggregator.ledger.model import Claim
from aggregator.ledger.state import State
from aggregator.ledger.words import SHRUNK, ClaimState
from schemas.rows import Event, FieldValue, Severity


def events_of(state: State, written: Sequence[Written]) -> list[Event]:
    """Give the events of entries that are on disk, in their order. The state may be further than they are."""
    return [event for one in written for event in _events(state, one)]


def _events(state: State, written: Written) -> Iterator[Event]:
    match written.entry:
        case LeaseExpired() | Undone() | ClaimRestored() | Fenced() as entry:
            claim = state.claims.get(entry.claim)
            if claim is not None:
                yield from _of_claim(claim, entry, written.sequence)
        case Passed(device=name, cause="clean_failed", why=why):
            device = state.devices.get(name)
            if device is not None:
                told = f"{name} was not cleaned, and nobody gets it: {why}"
                reason = {"reason": why[:500]}
                yield Event("device.quarantined", told, Severity.ERROR, name, reason, subject=device.node)
        case Tainted(node=node, device="", taint=mark) if shrunk.is_own(mark):
            yield Event("node.overcommit_began", mark.evidence, Severity.WARNING, subject=node)
        case Untainted(node=node, device="", rule=rule, why=why) if (rule, why) == (SHRUNK, shrunk.FITS):
            yield Event("node.overcommit_ended", why, subject=node)
        case GenerationBegun(generation=generation, why=why):
            told = f"the ledger began generation {generation}: {why}"
            yield Event("ledger.generation", told, Severity.WARNING, detail={"generation": generation})


def _of_claim(claim: Claim, entry: LeaseExpired | Undone | ClaimRestored | Fenced, sequence: int) -> Iterator[Event]:
    match entry:
        case LeaseExpired() if claim.began_ns is not None:
            told = Event("claim.suspect", "its lease ran out, and it may be in use", Severity.WARNING)
            yield from _told(claim, told)
        case Undone() if claim.state is ClaimState.FAILED and claim.version == sequence:
            yield from _told(claim, Event("claim.failed", f"was undone: {claim.reason}", Severity.ERROR))
        case ClaimRestored():
            told = Event("claim.restored", "is known again from its node's checkpoint", Severity.WARNING)
            yield from _told(claim, told)
        case Fenced(evidence=evidence, nodes=nodes):
            why = f"its node is taken for dead: {evidence.ground} by {evidence.who}"
            yield from _told(claim, Event("claim.fenced", why, Severity.WARNING), nodes)


def _told(claim: Claim, event: Event, nodes: Sequence[str] = ()) -> Iterator[Event]:
    """Yield an event about a claim for each of its nodes, or of `nodes`; its message goes on from the claim's name."""
    detail: dict[str, FieldValue] = {"claim": claim.id, "tenant": claim.tenant, "consumer": claim.consumer}
    message = f"claim {claim.id} of {claim.tenant} {event.message}"
    for node in sorted(nodes or {*(held.node for held in claim.devices), *claim.amounts}) or [""]:
        yield msgspec.structs.replace(event, message=message, detail=detail, subject=node)

"""What happened to claims and devices that somebody should hear of, told as events from the ledger's entries."""

from collections.abc import Iterator, Sequence

import msgspec

from aggregator.ledger.entries import (
    ClaimRestored,
    Fenced,
    GenerationBegun,
    LeaseExpired,
    Passed,
    Undone,
)
from aggregator.ledger.journal import Written
from aggregator.ledger.model import Claim
from aggregator.ledger.state import State
from aggregator.ledger.words import ClaimState
from schemas.rows import Event, FieldValue, Severity


def events_of(state: State, written: Sequence[Written]) -> list[Event]:
    """Give the events of entries that are on disk, in their order. The state may be further than they are."""
    return [event for one in written for event in _events(state, one)]


def _events(state: State, written: Written) -> Iterator[Event]:
    match written.entry:
        case LeaseExpired(claim=name):
            claim = state.claims.get(name)
            if claim is not None and claim.began_ns is not None:
                yield from _told(
                    claim, Event("claim.suspect", "its lease ran out, and it may be in use", Severity.WARNING)
                )
        case Undone(claim=name):
            claim = state.claims.get(name)
            if claim is not None and claim.state is ClaimState.FAILED and claim.version == written.sequence:
                yield from _told(claim, Event("claim.failed", f"was undone: {claim.reason}", Severity.ERROR))
        case ClaimRestored(claim=name):
            claim = state.claims.get(name)
            if claim is not None:
                yield from _told(
                    claim, Event("claim.restored", "is known again from its node's checkpoint", Severity.WARNING)
                )
        case Fenced(claim=name, evidence=evidence, nodes=nodes):
            claim = state.claims.get(name)
            if claim is not None:
                why = f"its node is taken for dead: {evidence.ground} by {evidence.who}"
                yield from _told(claim, Event("claim.fenced", why, Severity.WARNING), nodes)
        case Passed(device=name, cause="clean_failed", why=why):
            device = state.devices.get(name)
            if device is not None:
                told = f"{name} was not cleaned, and nobody gets it: {why}"
                reason = {"reason": why[:500]}
                yield Event("device.quarantined", told, Severity.ERROR, name, reason, subject=device.node)
        case GenerationBegun(generation=generation, why=why):
            told = f"the ledger began generation {generation}: {why}"
            yield Event("ledger.generation", told, Severity.WARNING, detail={"generation": generation})


def _told(claim: Claim, event: Event, nodes: Sequence[str] = ()) -> Iterator[Event]:
    """Yield an event about a claim for each of its nodes, or of `nodes`; its message goes on from the claim's name."""
    detail: dict[str, FieldValue] = {"claim": claim.id, "tenant": claim.tenant, "consumer": claim.consumer}
    message = f"claim {claim.id} of {claim.tenant} {event.message}"
    for node in sorted(nodes or {*(held.node for held in claim.devices), *claim.amounts}) or [""]:
        yield msgspec.structs.replace(event, message=message, detail=detail, subject=node)

"""Placement: ask for devices by what they are, see why not, and what would change it.

Whoever may read sees everything that a refusal says. A tenant that may not learns of other tenants nothing but how many
devices each condition removed: no device, no node, no claim of theirs.
"""

from collections import Counter
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Response
from fastapi import Request as HttpRequest

from aggregator.access import Action, Caller, authorise, may
from aggregator.ledger.asks import Ask, NotGrantedError
from aggregator.ledger.state import State
from aggregator.placement.edits import AnyEdit
from aggregator.placement.explain import Blocker
from aggregator.placement.placing import NotPlacedError, Placement
from aggregator.placement.refusal import Refusal
from aggregator.placement.request import Request, decode
from aggregator.placement.whatif import Answer, Outcome, what_if, what_if_then
from aggregator.routes.claims import claim_view, refused, told_to
from aggregator.routes.common import CallerOf, ServiceOf, allow, answer, known, problem
from aggregator.routes.moments import ask

router = APIRouter(tags=["placement"])
Reader = Annotated[Caller, Depends(allow(Action.READ))]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]


class PlaceWanted(Request, frozen=True, forbid_unknown_fields=True):
    """A request, and what to do with it."""

    dry_run: bool = False
    explain: bool = False
    """When it is refused, say what would have to change."""


class WhatIfWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes, and a request."""

    request: Request
    edits: list[AnyEdit] = []
    as_of: str = ""
    """A ledger sequence, a time (2026-01-31T12:00Z), or how long ago (7d); "": now."""


def request_of(wanted: PlaceWanted) -> Request:
    """Give the request alone."""
    return Request(**{name: getattr(wanted, name) for name in Request.__struct_fields__})


@router.post("/v1/place", summary="Place a request", response_class=Response)
async def place(http: HttpRequest, service: ServiceOf, caller: CallerOf, key: Key = "") -> Response:
    """Choose devices and claim them, all or none, in one decision; with `dry_run` say what would be claimed.

    A refusal (409 `placement.refused`) says what each condition removed; with `explain` also what would have to change.
    """
    known(caller)
    wanted = decode(await http.body(), PlaceWanted)
    authorise(caller, Action.CLAIM, wanted.tenant)
    request, placer = request_of(wanted), service.book.placer
    reads = may(caller, Action.READ)
    try:
        if wanted.dry_run:
            placement = await service.ledger.read(lambda state: placer.dry_run(state, request))
            return answer({"placed": True, "instances": shown(placement)})
        claim = await service.claiming.give(
            lambda state, name: placer.grant(state, request, name, who=caller.name, key=key)
        )
    except NotPlacedError as error:
        refusal = error.refusal
        blockers = None
        if wanted.explain:
            blockers = await service.ledger.read(lambda state: placer.explain(state, request, refusal))
        more = refusal_view(refusal, reads=reads)
        if wanted.explain:
            more["blockers"] = blockers_view(blockers, reads=reads)
        if wanted.dry_run:
            return answer({"placed": False, **more})
        return problem(409, error.code, str(more.pop("message")), None, **more)
    except NotGrantedError as error:  # the ledger's own look comes last: of what was chosen a tenant knows nothing
        return refused(NotGrantedError(told_to(caller, error.objections, Ask(wanted.tenant, wanted.consumer))))
    view = claim_view(service.ledger.peek(), claim, service.claiming.leases.left(claim.id))
    response = answer(view, 201)
    response.headers["ETag"] = f'"{claim.version}"'
    return response


def shown(placement: Placement) -> list[dict[str, object]]:
    """Show where instances would go."""
    return [
        {
            "node": instance.node,
            "node_name": instance.node_name,
            "devices": [
                {"device": pick.device, "mode": pick.mode.value, **({"profile": pick.profile} if pick.profile else {})}
                for pick in instance.devices
            ],
            "rank": str(instance.rank),
        }
        for instance in placement.instances
    ]


def refusal_view(refusal: Refusal, *, reads: bool) -> dict[str, object]:
    """Show a refusal to who may read, or to a tenant."""
    near = {"node": refusal.nearest, "node_name": refusal.nearest_name, "missing": refusal.missing}
    view: dict[str, object] = {
        "message": refusal.message,
        "conditions": refusal.conditions,
        "nearest": near if refusal.nearest else None,
    }
    if not reads:
        own = "; ".join(objection.message for objection in refusal.quota)
        view["message"] = own or "there is no place for this now: see how much each condition removed"
        if not refusal.nearest and not own:
            view["message"] = refusal.message  # that nothing would help says nothing of anybody
        view["nearest"] = {"missing": refusal.missing} if refusal.nearest else None
    return view


def blockers_view(blockers: list[Blocker] | None, *, reads: bool) -> object:
    """Show what would have to change: to a tenant only of what kind, and how much of it. None: nothing would help."""
    if blockers is None or reads:
        return blockers
    counted = Counter(blocker.reason for blocker in blockers)
    return [{"reason": reason, "count": number} for reason, number in sorted(counted.items())]


@router.post("/v1/whatif", summary="Ask what if", response_class=Response)
async def ask_what_if(http: HttpRequest, service: ServiceOf, _: Reader) -> Response:
    """Compare what becomes of a request as things are (or were) and once some changes are made. Nothing is changed."""
    wanted = decode(await http.body(), WhatIfWanted)
    placer = service.book.placer
    if not wanted.as_of:
        told = await service.ledger.read(lambda state: what_if(placer, state, wanted.edits, wanted.request))
        return answer(_answer(told))

    def then(state: State) -> Answer:
        return what_if_then(state, wanted.edits, wanted.request)

    return answer(_answer(await ask(service, wanted.as_of, then, whole=True)))


def _outcome(outcome: Outcome) -> dict[str, object]:
    view: dict[str, object] = {"placed": outcome.refusal is None, "fits": outcome.fits}
    if outcome.placement is not None:
        view["instances"] = shown(outcome.placement)
    if outcome.refusal is not None:
        view |= refusal_view(outcome.refusal, reads=True)
    return view


def _answer(told: Answer) -> dict[str, object]:
    return {
        "sequence": told.sequence,
        "before": _outcome(told.before),
        "after": _outcome(told.after),
        "displaced": told.displaced,
    }

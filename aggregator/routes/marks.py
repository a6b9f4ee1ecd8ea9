"""Taints: marks on devices and nodes that keep new claims away, or ask those that are there to leave."""

from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from aggregator.access import Action, Caller
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.ledger.marks import device_target, node_target
from aggregator.ledger.words import Effect
from aggregator.marking import Find
from aggregator.routes.common import ServiceOf, allow, answer
from aggregator.views import TaintView

router = APIRouter(tags=["inventory"])
Marker = Annotated[Caller, Depends(allow(Action.MARK))]
T = TypeVar("T")


class TaintWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A mark."""

    rule: str
    """Its name; another mark of this name on the same thing is replaced."""
    effect: Effect = Effect.NO_SCHEDULE
    evidence: str = ""
    """For people: what was seen."""
    seconds: float | None = None
    """How long it lasts; None: until it is taken off."""


@router.post("/v1/devices/{device}/taints", summary="Taint a device", response_class=Response)
async def taint_device(request: Request, service: ServiceOf, caller: Marker, device: str) -> Response:
    """Mark a device: `NoSchedule` keeps new claims away, `Drain` also asks its holder to leave."""
    return await _taint(request, service, caller, lambda state: device_target(state, device))


@router.delete("/v1/devices/{device}/taints/{rule}", summary="Untaint a device", response_class=Response)
async def untaint_device(service: ServiceOf, caller: Marker, device: str, rule: str, why: str = "") -> Response:
    """Take a mark off a device."""
    return await _untaint(service, caller, lambda state: device_target(state, device), rule, why)


@router.post("/v1/nodes/{node}/taints", summary="Taint a node", response_class=Response)
async def taint_node(request: Request, service: ServiceOf, caller: Marker, node: str) -> Response:
    """Mark a node, by id or name, and so everything on it."""
    return await _taint(request, service, caller, lambda state: node_target(state, node))


@router.delete("/v1/nodes/{node}/taints/{rule}", summary="Untaint a node", response_class=Response)
async def untaint_node(service: ServiceOf, caller: Marker, node: str, rule: str, why: str = "") -> Response:
    """Take a mark off a node."""
    return await _untaint(service, caller, lambda state: node_target(state, node), rule, why)


async def _taint(request: Request, service: ServiceOf, caller: Caller, find: Find) -> Response:
    try:
        wanted = msgspec.json.decode(await request.body(), type=TaintWanted)
    except msgspec.MsgspecError as error:
        raise ClaimInvalidError(f"not a taint: {error}") from None
    if wanted.seconds is not None and wanted.seconds <= 0:
        raise ClaimInvalidError("seconds: more than 0, or left out for a taint that lasts until it is taken off")
    mark = await service.book.marking.taint(
        find, wanted.rule, wanted.effect, wanted.evidence, caller.name, wanted.seconds
    )
    return answer(TaintView.of(mark), 201)


async def _untaint(service: ServiceOf, caller: Caller, find: Find, rule: str, why: str) -> Response:
    await service.book.marking.untaint(find, rule, f"by {caller.name}: {why}" if why else f"by {caller.name}")
    return Response(status_code=204)

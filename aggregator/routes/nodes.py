"""Nodes, and how their collectors fare."""

import time
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from aggregator.access import Action, Caller, check_subject
from aggregator.ledger import nodes
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.routes.common import ServiceOf, allow, answer
from schemas.errors import misfit

router = APIRouter(tags=["nodes"])
Reader = Annotated[Caller, Depends(allow(Action.READ))]
Writer = Annotated[Caller, Depends(allow(Action.NODES_WRITE))]
T = TypeVar("T")


class Why(msgspec.Struct, forbid_unknown_fields=True):
    """The reason, which those concerned are told."""

    why: str = ""


class MaintenanceWanted(msgspec.Struct, forbid_unknown_fields=True):
    """How long, and why."""

    seconds: float
    why: str = ""


class NameWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What a node is to be called."""

    name: str


@router.get("/v1/nodes", summary="List nodes", response_class=Response)
async def list_nodes(service: ServiceOf, _: Reader) -> Response:
    """List every node with its state (live, silent, expected, decommissioned or replaced), and what was ordered."""
    return answer(await service.life.views())


@router.get("/v1/refusals", summary="Who was refused lately", response_class=Response)
async def refusals(service: ServiceOf, _: Reader) -> Response:
    """List who was refused within the last hour when it handed in rows, enrolled or asked for news, and why."""
    return answer(service.fleet.refusals.lately())


@router.get("/v1/collectors", summary="How collectors fare", response_class=Response)
async def collectors(service: ServiceOf, _: Reader, node: str = "") -> Response:
    """List the collectors of every node (or one) with state, last error and next try, as the agents last reported."""
    return answer(
        [
            {"node": one.node, "reported_seconds": one.reported_seconds, **msgspec.structs.asdict(one.collector)}
            for one in service.fleet.collectors(node)
        ]
    )


@router.get("/v1/orphans", summary="Claims without a node", response_class=Response)
async def orphans(service: ServiceOf, _: Reader) -> Response:
    """List the claims on nodes that are decommissioned or silent: nobody there can confirm their end."""
    return answer(await service.ledger.read(lambda state: list(nodes.orphans(state))))


@router.get("/v1/nodes/{node}/claims", summary="Claims on a node", response_class=Response)
async def claims(service: ServiceOf, _: Reader, node: str) -> Response:
    """Give the claims that hold something of a node, and its orders: what a drain waits for."""
    return answer(await service.life.claims(node))


@router.post("/v1/nodes/{node}/cordon", summary="Let nothing new go to a node", response_class=Response)
async def cordon(request: Request, service: ServiceOf, caller: Writer, node: str) -> Response:
    """Let nothing new go to a node; what is there stays."""
    wanted = await _body(request, Why)
    return answer(await service.life.cordon(node, wanted.why or "by an operator", caller.name))


@router.post("/v1/nodes/{node}/uncordon", summary="Let things go to a node again", response_class=Response)
async def uncordon(service: ServiceOf, caller: Writer, node: str) -> Response:
    """End a cordon, and a drain."""
    return answer(await service.life.cordon(node, "", caller.name))


@router.post("/v1/nodes/{node}/drain", summary="Drain a node", response_class=Response)
async def drain(request: Request, service: ServiceOf, caller: Writer, node: str) -> Response:
    """Say that what is on a node should leave. Consumers are told by event; nothing is taken from them."""
    wanted = await _body(request, Why)
    return answer(await service.life.drain(node, wanted.why or "by an operator", caller.name))


@router.post("/v1/nodes/{node}/maintenance", summary="Maintenance of a node", response_class=Response)
async def maintenance(request: Request, service: ServiceOf, caller: Writer, node: str) -> Response:
    """Put a node into maintenance for so many seconds, 0 to end it: nothing new goes there, nobody is woken for it."""
    wanted = await _body(request, MaintenanceWanted)
    if not 0 <= wanted.seconds <= nodes.MAX_MAINTENANCE_NS / 1e9:
        raise ClaimInvalidError("seconds: from 0 to a year")
    until_ns = time.time_ns() + int(wanted.seconds * 1e9) if wanted.seconds else 0
    return answer(await service.life.maintain(node, until_ns, wanted.why, caller.name))


@router.post("/v1/nodes/{node}/rename", summary="Name a node", response_class=Response)
async def rename(request: Request, service: ServiceOf, caller: Writer, node: str) -> Response:
    """Call a node by an operator's name, which goes before what it calls itself; "" ends that."""
    wanted = await _body(request, NameWanted)
    return answer(await service.life.rename(node, check_subject(wanted.name) if wanted.name else "", caller.name))


@router.post("/v1/nodes/{node}/decommission", summary="Let a node go", response_class=Response)
async def decommission(service: ServiceOf, caller: Writer, node: str) -> Response:
    """Say that a node will not come back: its tokens end, what was stranded is lost; its claims stay, as orphans."""
    return answer(await service.life.decommission(node, caller.name))


@router.post("/v1/nodes/{node}/reinstate", summary="Let a node speak again", response_class=Response)
async def reinstate(service: ServiceOf, caller: Writer, node: str) -> Response:
    """Undo a decommissioning or replacement. Devices and claims that went to a successor stay there."""
    return answer(await service.life.reinstate(node, caller.name))


@router.post("/v1/nodes/{node}/replace/{successor}", summary="Follow a board swap", response_class=Response)
async def replace(service: ServiceOf, caller: Writer, node: str, successor: str) -> Response:
    """Say that `successor` is the machine that was `node`: its devices and claims go there."""
    return answer(await service.life.replace(node, successor, caller.name))


async def _body(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise ClaimInvalidError(misfit(error)) from None

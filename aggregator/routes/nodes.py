"""Nodes, and how their collectors fare."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response

from aggregator.access import Action, Caller
from aggregator.routes.common import ServiceOf, allow, answer

router = APIRouter(tags=["nodes"])
Reader = Annotated[Caller, Depends(allow(Action.READ))]
Writer = Annotated[Caller, Depends(allow(Action.NODES_WRITE))]


@router.get("/v1/nodes", summary="List nodes", response_class=Response)
async def list_nodes(service: ServiceOf, _: Reader) -> Response:
    """List every node with its state: live, silent, expected, decommissioned or replaced."""
    return answer(await service.fleet.nodes.views())


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


@router.post("/v1/nodes/{node}/decommission", summary="Let a node go", response_class=Response)
async def decommission(service: ServiceOf, _: Writer, node: str) -> Response:
    """Say that a node will not come back: its tokens end, and what was stranded at it is written off as lost."""
    return answer(await service.fleet.nodes.decommission(node))


@router.post("/v1/nodes/{node}/reinstate", summary="Let a node speak again", response_class=Response)
async def reinstate(service: ServiceOf, _: Writer, node: str) -> Response:
    """Undo a decommissioning or replacement."""
    return answer(await service.fleet.nodes.reinstate(node))


@router.post("/v1/nodes/{node}/replace/{successor}", summary="Follow a board swap", response_class=Response)
async def replace(service: ServiceOf, _: Writer, node: str, successor: str) -> Response:
    """Say that `successor` is the machine that was `node`."""
    return answer(await service.fleet.nodes.replace(node, successor))

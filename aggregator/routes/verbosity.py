"""Verbosity grants, and the control channel that brings them to the nodes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from aggregator.access import Action, Caller, authorise
from aggregator.grants import GrantView
from aggregator.routes.common import CallerOf, ServiceOf, allow, answer, known
from aggregator.routes.publish import read_body
from aggregator.routes.words import gives, worded
from schemas.control import CONTENT_TYPE, MAX_CONTROL_BYTES, decode_request, encode_answer
from schemas.errors import QueryError
from schemas.verbosity import class_of, level_of

router = APIRouter()
_BODY = {
    "requestBody": {"required": True, "content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


class GrantRequest(BaseModel):
    """A grant to set."""

    model_config = ConfigDict(extra="forbid")
    nodes: str = Field(max_length=255, description="A node's id, its host name, or a pattern with * and ?.")
    level: str = Field(description="standard, detailed or debug.")
    seconds: float = Field(gt=0, description="How long it lasts.")
    collector: str = Field("", max_length=255, description="Only this collector; all when left out.")
    row_class: str = Field("", description="Only this class; all when left out.")
    reason: str = Field("", max_length=1000, description="Why, for those who read the list.")


@router.post("/v1/control", openapi_extra=_BODY, tags=["publishers"], summary="Wait for what there is to be told",
             response_class=Response)  # fmt: skip
async def control(request: Request, service: ServiceOf, caller: CallerOf) -> Response:
    """Take a msgpack `ControlRequest`; answer with a `ControlAnswer` when there is news, or in the end."""
    known(caller)
    asked = decode_request(await read_body(request, MAX_CONTROL_BYTES))
    authorise(caller, Action.CONTROL, asked.publisher)
    return Response(encode_answer(await service.fleet.poll(asked)), media_type=CONTENT_TYPE)


@router.get("/v1/verbosity", tags=["verbosity"], summary="List grants", response_class=Response,
            openapi_extra=gives(list[GrantView]))  # fmt: skip
async def list_grants(service: ServiceOf, _: Annotated[Caller, Depends(allow(Action.VERBOSITY_READ))]) -> Response:
    """List the live grants: who set them, for whom, until when, and which nodes act on them."""
    return answer(worded(service.fleet.grants.views()))


@router.post("/v1/verbosity", tags=["verbosity"], summary="Raise the verbosity for a while", response_class=Response)
async def set_grant(
    service: ServiceOf, caller: Annotated[Caller, Depends(allow(Action.VERBOSITY_WRITE))], asked: GrantRequest
) -> Response:
    """Set a grant; nodes that are connected act on it within a second. It ends by itself."""
    try:
        level = level_of(asked.level)
        row_class = class_of(asked.row_class) if asked.row_class else None
    except ValueError as error:
        raise QueryError(str(error)) from None
    nodes = await service.fleet.node_named(asked.nodes)
    grant = await service.fleet.grants.set(
        nodes, level, asked.seconds, caller, collector=asked.collector, row_class=row_class, reason=asked.reason
    )
    return answer(worded(grant), 201)


@router.delete("/v1/verbosity", tags=["verbosity"], summary="Clear every grant", response_class=Response)
async def clear_grants(service: ServiceOf, _: Annotated[Caller, Depends(allow(Action.VERBOSITY_WRITE))]) -> Response:
    """End every grant before its time."""
    return answer({"cleared": await service.fleet.grants.clear()})


@router.delete("/v1/verbosity/{grant}", tags=["verbosity"], summary="Clear a grant", response_class=Response)
async def clear_grant(
    service: ServiceOf, _: Annotated[Caller, Depends(allow(Action.VERBOSITY_WRITE))], grant: str
) -> Response:
    """End one grant before its time."""
    return answer({"cleared": await service.fleet.grants.clear([grant])})

"""Tokens: who may do what over the network."""

import time
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from aggregator.access import Action, Caller
from aggregator.routes.common import ServiceOf, allow, answer
from collectors.authority import with_pin

router = APIRouter(tags=["tokens"])
Reader = Annotated[Caller, Depends(allow(Action.TOKENS_READ))]
Writer = Annotated[Caller, Depends(allow(Action.TOKENS_WRITE))]
MAX_LIFE: Final = 100 * 366 * 86400
"""Seconds: a hundred years."""
Grace = Annotated[float, Query(ge=0, le=366 * 86400, description="How long the old one stays good.")]


class TokenRequest(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=255, description="What it is for.")
    scopes: list[str] = Field(min_length=1, description="`ingest:SUBJECT`, `read`, `claims:TENANT`, `admin`.")
    expires_seconds: float | None = Field(
        None, gt=0, le=MAX_LIFE, description="How long it lives; for ever when left out."
    )


class EnrolmentRequest(BaseModel):
    """An enrolment token to make."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field("", max_length=255, description="What it is for.")
    subjects: list[str] = Field(["*"], min_length=1, description="Names or patterns of nodes that it may enrol.")
    uses: int = Field(1, ge=1, le=100_000, description="How many nodes it may enrol.")
    expires_seconds: float = Field(3600.0, gt=0, le=MAX_LIFE, description="How long it lives.")


@router.get("/v1/tokens", summary="List tokens", response_class=Response)
async def list_tokens(service: ServiceOf, _: Reader, dead: bool = False) -> Response:
    """List access tokens, never their secrets; with `dead` those that ended as well."""
    return answer(await service.tokens.access_tokens(dead=dead))


@router.post("/v1/tokens", summary="Make a token", response_class=Response)
async def make_token(service: ServiceOf, caller: Writer, asked: TokenRequest) -> Response:
    """Make an access token. The answer is the only time that anybody sees its secret."""
    expires = None if asked.expires_seconds is None else time.time_ns() + int(asked.expires_seconds * 1e9)
    issued = await service.tokens.issue(asked.name, asked.scopes, caller, expires_ns=expires)
    return answer({"token": issued.token, "secret": issued.secret.reveal()}, 201)


@router.post("/v1/tokens/{token}/rotate", summary="Replace a token", response_class=Response)
async def rotate_token(service: ServiceOf, caller: Writer, token: str, grace_seconds: Grace = 86400.0) -> Response:
    """Make the successor of a token; the old one stays good for `grace_seconds`.

    A node's own is handed to the node over its control channel: `handed` tells whether the node is connected.
    """
    issued = await service.tokens.rotate(token, caller, grace_s=grace_seconds)
    node, secret = issued.token.node, issued.secret.reveal()
    handed = node is not None and service.fleet.hub.rotate_token(node, secret, grace_seconds)
    return answer({"token": issued.token, "secret": secret, "handed": handed}, 201)


@router.delete("/v1/tokens/{token}", summary="End a token", response_class=Response)
async def revoke_token(service: ServiceOf, _: Writer, token: str) -> Response:
    """End a token at once, and those that it was rotated from and into."""
    return answer({"revoked": await service.tokens.revoke(token)})


@router.get("/v1/enrolments", summary="List enrolment tokens", response_class=Response)
async def list_enrolments(service: ServiceOf, _: Reader) -> Response:
    """List enrolment tokens, never their secrets."""
    return answer(await service.tokens.enrolments())


@router.post("/v1/enrolments", summary="Make an enrolment token", response_class=Response)
async def make_enrolment(service: ServiceOf, caller: Writer, asked: EnrolmentRequest) -> Response:
    """Make an enrolment token. The answer is the only time that anybody sees its secret.

    The secret ends in the SHA-256 of the authority by which nodes know this aggregator, when it has one.
    """
    issued = await service.tokens.issue_enrolment(
        asked.name, asked.subjects, caller, uses=asked.uses, life_s=asked.expires_seconds
    )
    pin = "" if service.authority is None else service.authority.pin
    secret = with_pin(issued.secret.reveal(), pin)
    return answer({"enrolment": issued.enrolment, "secret": secret, "authority_sha256": pin or None}, 201)


@router.delete("/v1/enrolments/{enrolment}", summary="End an enrolment token", response_class=Response)
async def revoke_enrolment(service: ServiceOf, _: Writer, enrolment: str) -> Response:
    """End an enrolment token; the nodes that it enrolled keep theirs."""
    await service.tokens.revoke_enrolment(enrolment)
    return answer({"revoked": [enrolment]})

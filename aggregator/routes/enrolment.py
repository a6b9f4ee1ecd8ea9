"""Where a new node trades its enrolment token for a token of its own."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from aggregator.routes.common import NotFoundError, ServiceOf, answer, shown
from collectors.authority import AUTHORITY_PATH, split_pin
from schemas.errors import MusterError

router = APIRouter(tags=["publishers"])


class EnrolRequest(BaseModel):
    """An enrolment."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=200, description="The enrolment token (`mse_...`), with its fingerprint or without.")
    node: str = Field(max_length=255, description="The node's id.")
    nonce: str = Field(min_length=16, max_length=64, description="Random; the same when the request is repeated.")


@router.get(AUTHORITY_PATH, summary="Whom nodes pin", response_class=Response)
async def authority(service: ServiceOf) -> Response:
    """Give the certificates of the authority that vouches for this aggregator, as PEM. Anybody may see them.

    A new node believes them by the fingerprint in its enrolment token; one that has pinned an authority asks over a
    connection that it vouches for, and so learns of the next one.
    """
    if service.authority is None:
        raise NotFoundError("this aggregator has no authority to pin: set aggregator.tls_authority")
    return Response(service.authority.bundle, media_type="application/x-pem-file")


@router.post("/v1/enrol", summary="Trade an enrolment token for the node's own", response_class=Response)
async def enrol(service: ServiceOf, asked: EnrolRequest) -> Response:
    """Give the node's token. The answer is the only time that anybody sees it."""
    try:
        issued = await service.tokens.enrol(split_pin(asked.token)[0], asked.node, asked.nonce.encode())
    except MusterError as error:
        await service.fleet.refused(shown(asked.token), error)
        raise
    service.fleet.succession.welcome(asked.node)
    return answer({"token": issued.secret.reveal(), "id": issued.token.id, "scopes": issued.token.scopes})

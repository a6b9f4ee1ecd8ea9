"""Where a new node trades its enrolment token for a token of its own."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from aggregator.routes.common import ServiceOf, answer

router = APIRouter(tags=["publishers"])


class EnrolRequest(BaseModel):
    """An enrolment."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=200, description="The enrolment token (`mse_...`).")
    node: str = Field(max_length=255, description="The node's id.")
    nonce: str = Field(min_length=16, max_length=64, description="Random; the same when the request is repeated.")


@router.post("/v1/enrol", summary="Trade an enrolment token for the node's own", response_class=Response)
async def enrol(service: ServiceOf, asked: EnrolRequest) -> Response:
    """Give the node's token. The answer is the only time that anybody sees it."""
    issued = await service.tokens.enrol(asked.token, asked.node, asked.nonce.encode())
    service.fleet.succession.welcome(asked.node)
    return answer({"token": issued.secret.reveal(), "id": issued.token.id, "scopes": issued.token.scopes})

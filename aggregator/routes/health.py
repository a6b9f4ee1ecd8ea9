"""Whether the process lives and is ready, and Muster's own metrics."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from aggregator.access import Action, Caller, authorise
from aggregator.metrics import CONTENT_TYPE, render
from aggregator.routes.common import ServiceOf, allow, answer, caller_of, problem

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process lives", response_class=Response)
@router.get("/health", include_in_schema=False)
async def healthz() -> Response:
    """Answer 200 as long as the process can answer at all."""
    return answer({"status": "ok"})


@router.get("/readyz", summary="Whether it takes rows and answers queries", response_class=Response)
async def readyz(service: ServiceOf) -> Response:
    """Answer 200 when the log takes rows and the store follows it, else 503 with what stands in the way."""
    if service.log.last_failure:
        return problem(503, "service.not_ready", f"the log takes nothing: {service.log.last_failure}", 1.0)
    if service.ready:
        return answer({"status": "ready"})
    reason = service.consumer.status.last_error or "starting"
    return problem(503, "service.not_ready", f"the store: {reason}; rows are taken and wait in the log", 1.0)


@router.get("/metrics", summary="Muster's own metrics", response_class=Response)
async def metrics(request: Request, service: ServiceOf) -> Response:
    """Give the metrics as Prometheus text. On a listener that only this machine can reach, no token is needed."""
    if service.config.aggregator.beyond_loopback:
        authorise(await caller_of(request), Action.METRICS)
    return Response(await render(service), media_type=CONTENT_TYPE)


@router.get("/v1/status", summary="How the aggregator fares", response_class=Response)
async def status(service: ServiceOf, _: Annotated[Caller, Depends(allow(Action.READ))]) -> Response:
    """Give the state of ingest, log and store."""
    return answer(service.status())

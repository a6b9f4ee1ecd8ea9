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


@router.get("/readyz", summary="Whether it takes rows, answers queries and gives devices", response_class=Response)
async def readyz(service: ServiceOf) -> Response:
    """Answer 200 when log, store, ledger and inventory are ready, else 503; `not_ready` says which is not, and why."""
    missing = service.not_ready()
    if not missing:
        return answer({"status": "ready"})
    detail = "; ".join(f"the {part}: {why}" for part, why in missing.items())
    return problem(503, "service.not_ready", detail, 1.0, not_ready=missing)


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

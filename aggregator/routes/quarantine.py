"""Batches that could never be taken: kept aside, to be looked at."""

from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from aggregator import quarantine
from aggregator.access import Action, Caller
from aggregator.routes.common import ServiceOf, allow, answer

router = APIRouter(tags=["quarantine"])
Reader = Annotated[Caller, Depends(allow(Action.QUARANTINE_READ))]


@router.get("/v1/quarantine", summary="List quarantined batches", response_class=Response)
async def list_entries(
    service: ServiceOf,
    _: Reader,
    publisher: str | None = None,
    stage: str | None = None,
    before: int | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List them, newest first, without their bytes; `before` asks for the page after the entry of that id."""
    question = partial(quarantine.list_entries, publisher=publisher, stage=stage, before=before, limit=limit)
    return answer(await service.control.read(question))


@router.get("/v1/quarantine/{entry}", summary="Look into one", response_class=Response)
async def show(service: ServiceOf, _: Reader, entry: int) -> Response:
    """Give one with what is kept of its bytes, base64."""
    found = await service.control.read(partial(quarantine.show, id=entry))
    return answer(msgspec.to_builtins(found))


@router.delete("/v1/quarantine/{entry}", summary="Forget one", response_class=Response)
async def remove(
    service: ServiceOf, _: Annotated[Caller, Depends(allow(Action.QUARANTINE_WRITE))], entry: int
) -> Response:
    """Forget an entry and its bytes; its rows stay counted as quarantined."""
    await service.control.write(partial(quarantine.remove, id=entry))
    return answer({"removed": [entry]})

"""Batches that could never be taken: kept aside, to be looked at."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from aggregator import quarantine
from aggregator.access import Action, Caller
from aggregator.quarantine import Entry
from aggregator.routes.common import ServiceOf, allow, answer
from aggregator.routes.words import ClassWord, LevelWord, gives, worded
from schemas.verbosity import class_of, level_of

router = APIRouter(tags=["quarantine"])
Reader = Annotated[Caller, Depends(allow(Action.QUARANTINE_READ))]


@router.get("/v1/quarantine", summary="List quarantined batches", response_class=Response,
            openapi_extra=gives(list[Entry]))  # fmt: skip
async def list_entries(
    service: ServiceOf,
    _: Reader,
    publisher: str | None = None,
    stage: str | None = None,
    row_class: Annotated[ClassWord | None, Query(alias="class")] = None,
    level: LevelWord | None = None,
    before: int | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List them, newest first, without their bytes; `before` asks for the page after the entry of that id."""
    question = partial(
        quarantine.list_entries,
        publisher=publisher,
        stage=stage,
        row_class=None if row_class is None else class_of(row_class),
        level=None if level is None else level_of(level),
        before=before,
        limit=limit,
    )
    return answer(worded(await service.control.read(question)))


@router.get("/v1/quarantine/{entry}", summary="Look into one", response_class=Response, openapi_extra=gives(Entry))
async def show(service: ServiceOf, _: Reader, entry: int) -> Response:
    """Give one with what is kept of its bytes, base64."""
    found = await service.control.read(partial(quarantine.show, id=entry))
    return answer(worded(found))


@router.delete("/v1/quarantine/{entry}", summary="Forget one", response_class=Response)
async def remove(
    service: ServiceOf, _: Annotated[Caller, Depends(allow(Action.QUARANTINE_WRITE))], entry: int
) -> Response:
    """Forget an entry and its bytes; its rows stay counted as quarantined."""
    await service.control.write(partial(quarantine.remove, id=entry))
    return answer({"removed": [entry]})

"""Where people and programs ask: queries, what there is to ask for, and what passes now."""

import time
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from aggregator.access import Action, Caller, ScopeError, check_pattern
from aggregator.live import LiveFilter, rows_of
from aggregator.query import MeasurementInfo
from aggregator.query_text import QueryParameters
from aggregator.routes.common import ServiceOf, allow, answer
from aggregator.routes.words import ClassWord, LevelWord, gives, worded
from schemas.errors import QueryError
from schemas.verbosity import Level, class_of, level_of

router = APIRouter(tags=["queries"])
Reader = Annotated[Caller, Depends(allow(Action.QUERY))]
Watching = Annotated[Caller, Depends(allow(Action.WATCH))]


@router.get("/v1/query", summary="Ask for telemetry, logs or events", response_class=Response)
async def query(service: ServiceOf, _: Reader, asked: Annotated[QueryParameters, Query()]) -> Response:
    """Answer one query by columns: `columns` says what each holds, `data` has their values."""
    result = await service.query(asked.query(time.time_ns()))
    return Response(result.json(), media_type="application/json")


@router.get("/v1/measurements", summary="What there is to ask for", response_class=Response,
            openapi_extra=gives(list[MeasurementInfo]))  # fmt: skip
async def measurements(
    service: ServiceOf,
    _: Reader,
    measurement: str = "",
    row_class: Annotated[ClassWord | None, Query(alias="class")] = None,
    level: LevelWord | None = None,
) -> Response:
    """List measurements with fields, units, levels, meanings and how many series and rows there are.

    With `class` only measurements of that class, with `level` only fields that are sent at that level (and those whose
    level is not known).
    """
    found = await service.describe(measurement)
    chosen = [one for one in found if row_class in (None, one.row_class.word)]
    if level is not None:
        chosen = [_up_to(one, level_of(level)) for one in chosen]
    return answer(worded(chosen))


def _up_to(one: MeasurementInfo, level: Level) -> MeasurementInfo:
    fields = [field for field in one.fields if field.level is None or field.level <= level]
    return msgspec.structs.replace(one, fields=fields)


@router.get("/v1/tap", summary="Rows as they pass", response_class=Response)
async def tap(
    service: ServiceOf,
    _: Watching,
    node: str = "*",
    measurement: str = "*",
    level: LevelWord = "debug",
    classes: Annotated[list[ClassWord] | None, Query(alias="class")] = None,
) -> Response:
    """Stream rows as they pass, one JSON object a line. The nodes concerned flush within a second meanwhile."""
    try:
        chosen = frozenset(map(class_of, classes)) if classes else LiveFilter().classes
        wanted = LiveFilter(check_pattern(node), check_pattern(measurement), level_of(level), chosen)
    except ScopeError as error:
        raise QueryError(str(error)) from None

    async def lines() -> AsyncIterator[bytes]:
        with service.live.watch(wanted) as watcher:
            async for seen in watcher.blocks():
                yield b"".join(msgspec.json.encode(row) + b"\n" for row in rows_of(seen))

    return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


@router.get("/v1/balance", summary="Where every row is", response_class=Response)
async def balance(
    service: ServiceOf,
    _: Annotated[Caller, Depends(allow(Action.BALANCE))],
    publisher: str = "",
    consumer: str = "",
) -> Response:
    """Give the balance: for every publisher, class, level and consumer, where each numbered row is."""
    return answer((await service.balance()).of(publisher, consumer))

"""Where publishers hand in rows."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from aggregator.routes.common import CallerOf, ServiceOf, known
from schemas.errors import TooLargeError
from schemas.publish import CONTENT_TYPE

router = APIRouter(tags=["publishers"])
_BODY = {
    "requestBody": {"required": True, "content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post("/v1/publish", openapi_extra=_BODY, summary="Hand in batches", response_class=Response)
async def publish(request: Request, service: ServiceOf, caller: CallerOf) -> Response:
    """Take a msgpack `PublishRequest`; answer with a `PublishAnswer`: one result a batch, in order."""
    known(caller)
    with service.ingest.reading() as take:
        data = await read_body(request, service.config.aggregator.max_request_bytes, take)
    return Response(await service.ingest.publish(data, caller), media_type=CONTENT_TYPE)


def _counts_nothing(_size: int) -> None:
    pass


async def read_body(request: Request, limit: int, take: Callable[[int], None] = _counts_nothing) -> bytes:
    """Read a body of at most `limit` bytes; a longer one is refused before it is read. Raises TooLargeError.

    `take` is called with the size of each part, and may raise to have no more of it.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limit:
        raise TooLargeError(f"a request of {stated} bytes exceeds {limit}; send fewer batches")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLargeError(f"a request of more than {limit} bytes; send fewer batches")
        take(len(part))
        parts.append(part)
    return b"".join(parts)

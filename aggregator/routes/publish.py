"""Where publishers hand in rows."""

from fastapi import APIRouter, Request, Response

from aggregator.routes.common import CallerOf, ServiceOf
from schemas.errors import TooLargeError
from schemas.publish import CONTENT_TYPE

router = APIRouter(tags=["publishers"])
_BODY = {
    "requestBody": {"required": True, "content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post("/v1/publish", openapi_extra=_BODY, summary="Hand in batches", response_class=Response)
async def publish(request: Request, service: ServiceOf, caller: CallerOf) -> Response:
    """Take a msgpack `PublishRequest`; answer with a `PublishAnswer`: one result a batch, in order."""
    data = await read_body(request, service.config.aggregator.max_request_bytes)
    return Response(await service.ingest.publish(data, caller), media_type=CONTENT_TYPE)


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` bytes; a longer one is refused before it is read. Raises TooLargeError."""
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limit:
        raise TooLargeError(f"a request of {stated} bytes exceeds {limit}; send fewer batches")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLargeError(f"a request of more than {limit} bytes; send fewer batches")
        parts.append(part)
    return b"".join(parts)

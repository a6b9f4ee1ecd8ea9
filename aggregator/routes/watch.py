"""The inventory as a stream: list, then watch from the answer's place."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import StreamingResponse

from aggregator.access import Action, Caller
from aggregator.ledger import cleaning
from aggregator.ledger.state import State
from aggregator.ledger_watch import WatchFilter
from aggregator.routes.common import ServiceOf, allow
from aggregator.routes.devices import named_nodes

router = APIRouter(tags=["inventory"])
Watching = Annotated[Caller, Depends(allow(Action.WATCH))]
LastEvent = Annotated[str, Header(alias="Last-Event-ID")]


@router.get("/v1/watch", summary="Changes of the inventory as they happen", response_class=Response)
async def watch(
    service: ServiceOf, _: Watching, after: str = "", node: str = "", device: str = "", last: LastEvent = ""
) -> StreamingResponse:
    """Stream every change after a place as server-sent events; without one, from now on.

    `after` is `sequence`, or `generation.sequence`, of a list's answer; a reader that comes back sends the id of its
    last event as `Last-Event-ID`. 410 `ledger.gone`, or the event `gone`: list again. `data` holds the entry and, in
    `views`, the devices that it is about as they are now. Who begins now, at no place, is refused what is not known.
    """
    if not (last or after):
        await service.ledger.read(lambda state: _check(state, node, device))
    mark = await service.book.watching.begin(last or after)
    events = service.book.watching.events(mark, WatchFilter(node, device))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _check(state: State, node: str, device: str) -> None:
    """Raise NodeUnknownError or DeviceUnknownError, with near names: nothing ever happens to what there is not."""
    if device:
        cleaning.find(state, device)
    if node:
        named_nodes(state, node)

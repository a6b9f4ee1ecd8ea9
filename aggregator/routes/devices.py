"""Devices: what there is, whose it is, and where it has been."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from aggregator.access import Action, Caller
from aggregator.ledger import cleaning
from aggregator.ledger.model import Device, Node
from aggregator.ledger.nodes import NodeUnknownError
from aggregator.ledger.shown import entry_view
from aggregator.ledger.state import State
from aggregator.placement.catalog import known_variant
from aggregator.routes.common import ServiceOf, allow, answer
from aggregator.routes.filters import Where, filter_of
from aggregator.routes.moments import AsOf, ask
from aggregator.routes.words import gives
from aggregator.views import DeviceHistory, DeviceView, device_history, device_view
from schemas.device import Value
from schemas.errors import near_names

if TYPE_CHECKING:
    from aggregator.service import Service

router = APIRouter(tags=["inventory"])
Reader = Annotated[Caller, Depends(allow(Action.READ))]
Words = Annotated[list[str], Query()]


class DeviceList(msgspec.Struct, frozen=True):
    """A page of devices."""

    sequence: int
    """The ledger's, as of the answer."""
    generation: int
    time_ns: int
    """Of that sequence."""
    devices: list[DeviceView]
    next: str
    """What to give as `after` for the next page; "" when this is the last."""
    untold: int = 0
    """Devices of this page's stretch of which `where` could not be told: they do not say what it asks about."""


class ViewOf(msgspec.Struct, frozen=True):
    """What one collector says of a device."""

    publisher: str
    collector: str
    document: str
    """The collector's own name for the device."""
    own: dict[str, Value]


class DeviceShown(msgspec.Struct, frozen=True):
    """One device, and where it has been."""

    sequence: int
    generation: int
    time_ns: int
    device: DeviceView
    history: DeviceHistory
    views: list[ViewOf]
    times_ns: dict[str, int] = {}
    """When its stays began and ended, by ledger sequence."""


@router.get("/v1/devices", summary="List devices", response_class=Response, openapi_extra=gives(DeviceList))
async def list_devices(
    service: ServiceOf,
    _: Reader,
    node: str = "",
    kind: Words = [],  # noqa: B006 - FastAPI copies it
    lifecycle: Words = [],  # noqa: B006
    variant: str = "",
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    as_of: AsOf = "",
    where: Where = "",
) -> Response:
    """List devices in the order of first sight, `limit` of them after the device `after`; `next` goes on from there.

    `sequence` and `generation` are the ledger's, as of the answer: watch from there. With `as_of` the answer is what
    was so at that ledger sequence or time.
    """
    fits = filter_of(where)

    def question(state: State) -> DeviceList:
        found: list[DeviceView] = []
        more, untold = "", 0
        known_variant(state, variant)
        for device in _after(state, after, node):
            view = device_view(state, device)
            if (kind and view.kind not in kind) or (lifecycle and view.lifecycle not in lifecycle):
                continue
            if variant and view.variant != variant:
                continue
            outcome = fits(state, device)
            untold += outcome is None
            if not outcome:
                continue
            if len(found) == limit:
                more = found[-1].id
                break
            found.append(view)
        return DeviceList(state.sequence, state.generation, state.time_ns, found, more, untold)

    return answer(await ask(service, as_of, question, whole=False))


def _after(state: State, after: str, node: str) -> Iterator[Device]:
    if after:
        cleaning.find(state, after)
    chosen = [device for one in named_nodes(state, node) for device in one.devices] if node else None
    passed = not after
    for device in state.devices if chosen is None else chosen:
        if passed:
            yield state.devices[device]
        passed = passed or device == after


def named_nodes(state: State, name: str) -> list[Node]:
    """Give the nodes that an id or a host name means; several machines may have one host name.

    Raises NodeUnknownError with near names.
    """
    found = [node for node in state.nodes.values() if name in (node.id, node.name, node.host_name)]
    if not found:
        known = {word for node in state.nodes.values() for word in (node.id, node.name) if word}
        raise NodeUnknownError(f"there is no node {name[:80]!r} in the inventory.{near_names(name, known)}")
    return found


@router.get("/v1/devices/{device}", summary="Show a device", response_class=Response, openapi_extra=gives(DeviceShown))
async def show_device(service: ServiceOf, _: Reader, device: str, as_of: AsOf = "") -> Response:
    """Show a device with its stays: where the part has been, what was in its slot; `times_ns` by ledger sequence.

    `ETag` is the sequence of its last change: an operator's word about it quotes that.
    """

    def question(state: State) -> DeviceShown:
        found = cleaning.find(state, device)
        views = [ViewOf(view.publisher, view.collector, view.document, view.own) for view in found.views.values()]
        shown, history = device_view(state, found), device_history(state, found)
        return DeviceShown(state.sequence, state.generation, state.time_ns, shown, history, views)

    shown = await ask(service, as_of, question, whole=False)
    response = answer(msgspec.structs.replace(shown, times_ns=await _times(service, shown.history)))
    response.headers["ETag"] = f'"{shown.device.changed}"'
    return response


async def _times(service: "Service", history: DeviceHistory) -> dict[str, int]:
    """Give when the stays of a history began and ended, nanoseconds since 1970 by ledger sequence."""
    stays = [*history.sights, *history.slot]
    wanted = {sequence for stay in stays for sequence in (stay.since, stay.until)}
    times: dict[str, int] = {}
    for name in {stay.device for stay in stays}:
        told = await service.book.past.history(name)
        times |= {str(written.sequence): written.time_ns for written in told if written.sequence in wanted}
    return times


@router.get("/v1/devices/{device}/history", summary="Everything that happened to a device", response_class=Response)
async def device_entries(
    service: ServiceOf,
    _: Reader,
    device: str,
    before: Annotated[int | None, Query(ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """List every entry of the ledger about a device and the claims that held it, the last `limit` before `before`.

    Oldest first; `next` is what to give as `before` to go further back, null when there is no more.
    """
    await service.ledger.read(lambda state: cleaning.find(state, device))
    found = await service.book.past.history(device, before=before)
    last = found[-limit:]
    shown = await service.ledger.read(lambda state: [entry_view(state, written) for written in last])
    return answer({"entries": shown, "next": last[0].sequence if len(last) < len(found) else None})

"""Devices: what there is, whose it is, and where it has been."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from aggregator.access import Action, Caller
from aggregator.ledger import cleaning
from aggregator.ledger.model import Device
from aggregator.ledger.state import State
from aggregator.routes.common import ServiceOf, allow, answer
from aggregator.views import DeviceView, device_history, device_view

router = APIRouter(tags=["inventory"])
Reader = Annotated[Caller, Depends(allow(Action.READ))]
Words = Annotated[list[str], Query()]


@router.get("/v1/devices", summary="List devices", response_class=Response)
async def list_devices(
    service: ServiceOf,
    _: Reader,
    node: str = "",
    kind: Words = [],  # noqa: B006 - FastAPI copies it
    lifecycle: Words = [],  # noqa: B006
    variant: str = "",
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """List devices in the order of first sight, `limit` of them after the device `after`; `next` goes on from there.

    `sequence` is the ledger's, as of the answer: watch from there.
    """

    def question(state: State) -> dict[str, object]:
        found: list[DeviceView] = []
        more = ""
        for device in _after(state, after, node):
            view = device_view(state, device)
            if (kind and view.kind not in kind) or (lifecycle and view.lifecycle not in lifecycle):
                continue
            if variant and view.variant != variant:
                continue
            if len(found) == limit:
                more = found[-1].id
                break
            found.append(view)
        return {"sequence": state.sequence, "devices": found, "next": more}

    return answer(await service.ledger.read(question))


def _after(state: State, after: str, node: str) -> Iterator[Device]:
    if after:
        cleaning.find(state, after)
    chosen = state.devices.values() if not node else _of_node(state, node)
    passed = not after
    for device in chosen:
        if passed:
            yield device
        passed = passed or device.id == after


def _of_node(state: State, name: str) -> Iterator[Device]:
    for node in state.nodes.values():
        if name in (node.id, node.name):
            yield from state.devices_of(node.id)


@router.get("/v1/devices/{device}", summary="Show a device", response_class=Response)
async def show_device(service: ServiceOf, _: Reader, device: str) -> Response:
    """Show a device with its history: where the part has been, and what was in its slot."""

    def question(state: State) -> dict[str, object]:
        found = cleaning.find(state, device)
        return {
            "sequence": state.sequence,
            "device": device_view(state, found),
            "history": device_history(state, found),
            "views": [
                {"publisher": view.publisher, "collector": view.collector, "document": view.document, "own": view.own}
                for view in found.views.values()
            ],
        }

    return answer(await service.ledger.read(question))

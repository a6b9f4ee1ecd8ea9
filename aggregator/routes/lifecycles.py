"""What operators decide about devices and dead nodes: clean, vouch, retire, fence."""

from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Header, Request, Response

from aggregator.access import Action, Caller
from aggregator.ledger import nodes
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.ledger.model import Device
from aggregator.routes.claims import claim_view, version_of
from aggregator.routes.common import ServiceOf, allow, answer
from aggregator.views import device_view
from schemas.errors import misfit
from schemas.evidence import PowerReadback

router = APIRouter(tags=["inventory"])
Writer = Annotated[Caller, Depends(allow(Action.NODES_WRITE))]
Seen = Annotated[str, Header(alias="If-Match")]
T = TypeVar("T")


class Statement(msgspec.Struct, forbid_unknown_fields=True):
    """An operator's word."""

    statement: str = ""
    """What was done, and how it is known."""


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    """Why."""

    why: str = ""


class FenceWanted(msgspec.Struct, forbid_unknown_fields=True):
    """How it is known that nothing runs on a node: one of the two."""

    statement: str = ""
    power: PowerReadback | None = None
    """What its BMC says."""


@router.post("/v1/devices/{device}/clean", summary="Clean a device", response_class=Response)
async def clean(service: ServiceOf, caller: Writer, device: str) -> Response:
    """Have its node clean a device that is dirty or quarantined. It is free once its evidence holds."""
    return _shown(service, await service.claiming.clean(device, caller.name), 202)


@router.post("/v1/devices/{device}/attest", summary="Vouch that a device is clean", response_class=Response)
async def attest(request: Request, service: ServiceOf, caller: Writer, device: str, seen: Seen = "") -> Response:
    """Take an operator's word that a device is clean: it is recorded with who gave it, and the device is free.

    `If-Match` is the `ETag` of the device as it was when they looked, or any `sequence` of the ledger from then: what
    was in use since, or is another part, is refused with 409.
    """
    wanted = await _body(request, Statement)
    return _shown(service, await service.claiming.attest(device, caller.name, wanted.statement, version_of(seen)))


@router.post("/v1/devices/{device}/retire", summary="Take a device out for good", response_class=Response)
async def retire(request: Request, service: ServiceOf, caller: Writer, device: str) -> Response:
    """Take a device out that no claim holds."""
    wanted = await _body(request, Reason)
    return _shown(service, await service.claiming.retire(device, caller.name, wanted.why))


@router.post("/v1/devices/{device}/reinstate", summary="Put a retired device back", response_class=Response)
async def reinstate(request: Request, service: ServiceOf, caller: Writer, device: str) -> Response:
    """Put a retired device back; it is dirty then."""
    wanted = await _body(request, Reason)
    return _shown(service, await service.claiming.reinstate(device, caller.name, wanted.why))


@router.post("/v1/nodes/{node}/fence", summary="Take a node for dead", response_class=Response)
async def fence(request: Request, service: ServiceOf, caller: Writer, node: str) -> Response:
    """Take it as proved that nothing runs on a silent node: what claims had there is dirty, and the claims are over."""
    wanted = await _body(request, FenceWanted)
    found = await service.claiming.fence(
        await service.ledger.read(lambda state: nodes.named(state, node).id),
        caller.name,
        power=wanted.power,
        statement=wanted.statement,
    )
    state = service.ledger.peek()
    return answer([claim_view(state, claim, service.claiming.leases.left(claim.id)) for claim in found])


def _shown(service: ServiceOf, device: Device, status: int = 200) -> Response:
    response = answer(device_view(service.ledger.peek(), device), status)
    response.headers["ETag"] = f'"{device.changed}"'
    return response


async def _body(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise ClaimInvalidError(misfit(error)) from None

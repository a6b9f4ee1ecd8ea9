"""Claims: ask for devices and amounts, let them be provisioned, keep them, give them back.

A tenant sees its own claims and nothing of others': for anybody else's there is no such claim.
"""

from collections.abc import Sequence
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response

from aggregator.access import Action, Caller, authorise, may
from aggregator.caretaker import leave
from aggregator.ledger import asks, nodes
from aggregator.ledger.asks import Ask, ClaimInvalidError, NotGrantedError, Objection, Pick
from aggregator.ledger.claims import ClaimUnknownError, grant
from aggregator.ledger.model import Claim, Held
from aggregator.ledger.state import State
from aggregator.ledger.words import LIVE_CLAIMS, Mode
from aggregator.routes.common import CallerOf, ServiceOf, answer, header, informed, known, problem
from schemas.errors import did_you_mean, misfit, near_ids

if TYPE_CHECKING:
    from aggregator.service import Service

router = APIRouter(tags=["claims"])
T = TypeVar("T")
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
Version = Annotated[str, Header(alias="If-Match")]


MAX_TEXT: Final = 255
"""Characters of a name."""
MAX_DEVICES: Final = 1024
"""Devices, or nodes, of one claim."""
Name = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class DeviceWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A device, by name."""

    device: str
    mode: Mode = Mode.PASSTHROUGH
    part: str = ""
    """Refuse when another part is there by now."""


class ClaimWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What a claim should hold."""

    tenant: Name
    consumer: Name
    devices: Annotated[list[DeviceWanted], msgspec.Meta(max_length=MAX_DEVICES)] = []
    amounts: Annotated[dict[str, dict[str, int]], msgspec.Meta(max_length=MAX_DEVICES)] = {}
    """By node id: `vcpus`, `memory_bytes`, `disk_bytes`."""
    lease_seconds: float = 3600.0
    tolerations: Annotated[list[Name], msgspec.Meta(max_length=64)] = []
    dry_run: bool = False


class LeaseWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A new term; without one as long as the last."""

    lease_seconds: float | None = None


class ClaimView(msgspec.Struct, frozen=True):
    """A claim, as answers show it."""

    id: str
    tenant: str
    consumer: str
    state: str
    epoch: str
    version: int
    devices: list[dict[str, object]]
    amounts: dict[str, dict[str, int]]
    lease_seconds: float
    left_seconds: float | None
    """Of the lease, by the leader's clock; None when it has none any more."""
    created_ns: int
    until_ns: int
    began_ns: int | None
    ended_ns: int | None
    package: str
    reason: str
    who: str
    leave: str
    """Why its consumer should leave: a drain, or a mark that says so; "" when it need not."""
    fenced: list[str]
    """Nodes that were fenced: of their amounts it holds none any more."""


def claim_view(state: State, claim: Claim, left: float | None) -> ClaimView:
    """Show a claim."""
    return ClaimView(
        claim.id,
        claim.tenant,
        claim.consumer,
        claim.state.value,
        str(claim.epoch),
        claim.version,
        [
            {
                "device": held.device,
                "node": held.node,
                "node_name": state.nodes[held.node].name if held.node in state.nodes else "",
                "mode": held.mode.value,
                "part": held.part,
                **_now(state, held),
                "confirmed": held.device in claim.confirmed,
            }
            for held in claim.devices
        ],
        claim.amounts,
        claim.lease_seconds,
        left,
        claim.created_ns,
        claim.until_ns,
        claim.began_ns,
        claim.ended_ns,
        claim.package,
        claim.reason,
        claim.who,
        leave(state, claim),
        list(claim.fenced),
    )


def _now(state: State, held: Held) -> dict[str, str]:
    """Show how a device is now. A partition that was made for a claim is none any more once it has been cleaned."""
    device = state.devices.get(held.device)
    found = {"lifecycle": "gone" if device is None else device.lifecycle.value}
    if held.parent:
        gpu = state.devices.get(held.parent)
        made = (
            {} if device is None or not device.part.uuid else {"uuid": device.part.uuid, "serial": device.part.serial}
        )
        return {
            **found,
            "address": gpu.slot.address if gpu else "",
            "parent": held.parent,
            "profile": held.profile,
            **made,
        }
    return {**found, "address": "" if device is None else device.slot.address}


@router.post("/v1/claims", summary="Claim devices", response_class=Response)
async def claim_devices(request: Request, service: ServiceOf, caller: CallerOf, _: Key = "") -> Response:
    """Claim devices and amounts, all or none. With an `Idempotency-Key` a repetition gives the claim of the first."""
    return await claim(request, service, caller)


async def claim(request: Request, service: "Service", caller: Caller) -> Response:
    """Take a request for a claim, of whoever is asking."""
    known(caller)
    key = header(request.scope, b"idempotency-key")
    if len(key) > MAX_TEXT:
        raise ClaimInvalidError(f"Idempotency-Key: at most {MAX_TEXT} characters")
    wanted = await _body(request, ClaimWanted)
    authorise(caller, Action.CLAIM, wanted.tenant)
    ask = Ask(
        wanted.tenant,
        wanted.consumer,
        [Pick(one.device, one.mode, one.part) for one in wanted.devices],
        wanted.amounts,
        wanted.lease_seconds,
        wanted.tolerations,
        caller.name,
        request=msgspec.json.encode(msgspec.structs.replace(wanted, dry_run=False), order="sorted").decode(),
        key=key,
    )
    if wanted.dry_run:
        against = await service.ledger.read(lambda state: list(_dry(state, ask)))
        return answer({"granted": not against, "objections": told_to(caller, against, ask)})
    try:
        granted = await service.claiming.give(lambda state, name: grant(state, _by_id(state, ask), name))
    except NotGrantedError as error:
        return refused(NotGrantedError(told_to(caller, error.objections, ask)))
    return _shown(service, granted, 201)


def _by_id(state: State, ask: Ask) -> Ask:
    """Give what is asked for with amounts by the id of their node, which may be named instead.

    What names none stays as it is. Raises ClaimInvalidError for a node that is named by both.
    """
    if all(name in state.nodes for name in ask.amounts):
        return ask
    found: dict[str, dict[str, int]] = {}
    called = nodes.called(state)
    for name, mine in ask.amounts.items():
        node = None if name in state.nodes else called.get(name)
        id_ = name if node is None else node.id
        if id_ in found:
            raise ClaimInvalidError(f"node {name!r} is named twice, by its id and by its name")
        found[id_] = mine
    return msgspec.structs.replace(ask, amounts=found)


def _dry(state: State, ask: Ask) -> list[Objection]:
    named = _by_id(state, ask)
    asks.check_ask(named)
    return list(asks.objections(state, named))


def told_to(caller: Caller, objections: Sequence[Objection], ask: Ask) -> list[Objection]:
    """Give the reasons that a caller may know: who may not read learns nothing of what belongs to others.

    What its own quota says stays; of a device that it named itself it learns how it is, and no more (invariant 15).
    """
    if may(caller, Action.READ):
        return list(objections)
    named = {pick.device for pick in ask.devices}
    told = []
    for one in objections:
        if one.reason.startswith("quota."):
            told.append(one)
            continue
        device = one.device if one.device in named else ""
        told.append(Objection(one.reason, f"{device or 'what is asked for'}: {one.reason}", device=device))
    return told


def refused(error: NotGrantedError) -> Response:
    """Answer a refusal with its reasons."""
    return problem(409, error.code, str(error), objections=error.objections)


@router.get("/v1/claims", summary="List claims", response_class=Response)
async def list_claims(
    service: ServiceOf,
    caller: CallerOf,
    tenant: str = "",
    ended: bool = False,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """List the claims that the caller may see, `ended` ones too when asked: the oldest first.

    It gives `limit` of them after the claim `after`; fewer, when there are no more.
    """
    informed(caller)

    def question(state: State) -> list[ClaimView]:
        if after:
            _theirs(state, caller, after)
        every = iter(state.claims.values())
        left = islice(dropwhile(lambda claim: claim.id != after, every), 1, None) if after else every
        fit = (
            claim
            for claim in left
            if (ended or claim.state in LIVE_CLAIMS) and tenant in ("", claim.tenant) and _visible(caller, claim)
        )
        return [claim_view(state, one, service.claiming.leases.left(one.id)) for one in islice(fit, limit)]

    return answer(await service.ledger.read(question))


@router.get("/v1/claims/{claim}", summary="Show a claim", response_class=Response)
async def show_claim(service: ServiceOf, caller: CallerOf, claim: str) -> Response:
    """Show a claim; `ETag` is its version."""
    return _shown(service, await service.ledger.read(lambda state: _theirs(state, caller, claim)))


@router.post("/v1/claims/{claim}/provision", summary="Provision a claim", response_class=Response)
async def provision(service: ServiceOf, caller: CallerOf, claim: str, version: Version = "") -> Response:
    """Let the nodes be told: from here on the devices may be in use. It is `active` once all nodes confirmed."""
    await service.ledger.read(lambda state: _mine(state, caller, claim))
    try:
        return _shown(service, await service.claiming.provision(claim, version_of(version)), 202)
    except NotGrantedError as error:
        return refused(error)


@router.post("/v1/claims/{claim}/renew", summary="Renew a lease", response_class=Response)
async def renew(request: Request, service: ServiceOf, caller: CallerOf, claim: str, version: Version = "") -> Response:
    """Begin the lease anew."""
    await service.ledger.read(lambda state: _mine(state, caller, claim))
    wanted = await _body(request, LeaseWanted) if await request.body() else LeaseWanted()
    return _shown(service, await service.claiming.renew(claim, wanted.lease_seconds, version_of(version)))


@router.delete("/v1/claims/{claim}", summary="Release a claim", response_class=Response)
async def release(service: ServiceOf, caller: CallerOf, claim: str, version: Version = "", why: str = "") -> Response:
    """Give a claim back. What a node was told of is cleaned first, and free after that."""
    await service.ledger.read(lambda state: _mine(state, caller, claim))
    return _shown(service, await service.claiming.release(claim, caller.name, why, version_of(version)))


def _visible(caller: Caller, claim: Claim) -> bool:
    return may(caller, Action.CLAIM, claim.tenant) or may(caller, Action.READ)


def _theirs(state: State, caller: Caller, claim: str) -> Claim:
    known(caller)
    found = state.claims.get(claim)
    if found is None or not _visible(caller, found):
        near = [one for one in near_ids(claim, state.claims) if _visible(caller, state.claims[one])]
        raise ClaimUnknownError(f"there is no claim {claim[:80]}.{did_you_mean(near)}")
    return found


def _mine(state: State, caller: Caller, claim: str) -> Claim:
    found = _theirs(state, caller, claim)
    authorise(caller, Action.CLAIM, found.tenant)
    return found


def _shown(service: ServiceOf, claim: Claim, status: int = 200) -> Response:
    view = claim_view(service.ledger.peek(), claim, service.claiming.leases.left(claim.id))
    return answer(view, status, {"ETag": f'"{claim.version}"'})


def version_of(header: str) -> int | None:
    """Give the ledger sequence in an `If-Match`; None for none, or any. Raises ClaimInvalidError."""
    text = header.strip().removeprefix("W/").strip('"')
    if not text or text == "*":
        return None
    if not text.isdigit():
        raise ClaimInvalidError(f"If-Match: {header!r} is no ETag of ours")
    return int(text)


async def _body(request: Request, kind: type[T]) -> T:
    data = await request.body()
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise ClaimInvalidError(misfit(error)) from None

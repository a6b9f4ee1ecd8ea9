"""Adoption of what is in use already, records of other schedulers, and where two views do not agree."""

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from aggregator.access import Action, Caller
from aggregator.ledger import adoption, cleaning, nodes, uses
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.ledger.entries import Entry
from aggregator.ledger.model import Device
from aggregator.ledger.outside import Use, UseRecord
from aggregator.ledger.state import State
from aggregator.ledger.uses import RecordInvalidError
from aggregator.routes.common import ServiceOf, allow, answer
from aggregator.routes.filters import Fits, Where, filter_of
from schemas.device import pci_address
from schemas.errors import misfit, near_names

router = APIRouter(tags=["inventory"])
Reader = Annotated[Caller, Depends(allow(Action.READ))]
Adopter = Annotated[Caller, Depends(allow(Action.ADOPT))]
Words = Annotated[list[str], Query()]
T = TypeVar("T")
_AHEAD_NS = 300 * 10**9
"""How far a record's time may be ahead of our clock."""


class AttestWanted(msgspec.Struct, forbid_unknown_fields=True):
    """An operator's word about devices."""

    statement: str
    """What was done, and how it is known that they are clean."""
    devices: list[str] = []
    """These by id, whatever made them dirty; without any, all that wait and that the rest fits."""
    node: str = ""
    kinds: list[str] = []
    where: str = ""
    """An expression over `device` and `node`."""
    as_of: int | None = None
    """The ledger's `sequence` when they were looked at: with one that was in use since, or is another part, none is
    attested (409). None: as they are now."""
    dry_run: bool = False


class UseWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A device that somebody has."""

    node: str
    """Id or host name."""
    address: str
    user: str


class RecordWanted(msgspec.Struct, forbid_unknown_fields=True):
    """All that another scheduler says to be in use."""

    kind: str
    uses: list[UseWanted]
    as_of_ns: int | None = None
    """When the record was made; without it, now."""
    node: str = ""
    """The only node that it is about, whether it names anything there or not."""
    known_only: bool = False
    """Refuse it when it names a node that is not known: else what is first seen there is meant."""
    dry_run: bool = False


class UseView(msgspec.Struct, frozen=True):
    """A device that a record says to be in use."""

    node: str
    node_name: str
    address: str
    user: str
    device: str | None
    """None: nothing is known at that place."""


class RecordView(msgspec.Struct, frozen=True):
    """A record, as answers show it."""

    source: str
    kind: str
    as_of_ns: int
    taken_ns: int
    who: str
    uses: int
    unknown: int
    """Uses of places where no device is known."""
    unknown_uses: list[UseView] = []
    """Those: what is first seen there is meant, and until then they protect nothing."""


class Taken(RecordView, frozen=True):
    """What a record would be, when it is handed in."""

    named: list[UseView] = []
    """Everything that it names."""


@router.get("/v1/adoption", summary="What waits to be adopted", response_class=Response)
async def waiting(
    service: ServiceOf,
    _: Reader,
    node: str = "",
    kind: Words = [],  # noqa: B006
    where: Where = "",
) -> Response:
    """List the devices that were dirty or in use before Muster, each with the reason, by node."""
    fits = filter_of(where)

    def question(state: State) -> dict[str, object]:
        chosen = (
            device
            for device in _devices(state, node)
            if (not kind or device.kind.value in kind) and fits(state, device)
        )
        return {"sequence": state.sequence, "devices": adoption.waiting(state, chosen)}

    return answer(await service.ledger.read(question))


@router.post("/v1/adoption/attest", summary="Vouch for devices", response_class=Response)
async def attest(request: Request, service: ServiceOf, caller: Adopter) -> Response:
    """Take an operator's word that devices are clean: one decision, an entry for each device, all or none.

    `sequence` is the ledger's, as of the answer: what a dry run shows is attested as of that.
    """
    wanted = await _body(request, AttestWanted)
    fits = filter_of(wanted.where)

    def decision(state: State) -> tuple[list[Entry], tuple[int, list[str]]]:
        chosen = _chosen(state, wanted, fits)
        entries, names = adoption.attest(state, chosen, caller.name, wanted.statement, wanted.as_of)
        return ([] if wanted.dry_run else entries), (state.sequence, names)

    sequence, names = await service.ledger.decide(decision)
    given = {"attested": [] if wanted.dry_run else names, "would": names if wanted.dry_run else []}
    return answer({"sequence": sequence, **given})


def _chosen(state: State, wanted: AttestWanted, fits: Fits) -> list[Device]:
    if wanted.devices:
        return [cleaning.find(state, name) for name in dict.fromkeys(wanted.devices)]
    return [
        device
        for device in _devices(state, wanted.node)
        if adoption.is_attestable(state, device)
        and (not wanted.kinds or device.kind.value in wanted.kinds)
        and fits(state, device)
    ]


def _devices(state: State, name: str) -> Iterator[Device]:
    if not name:
        yield from state.devices.values()
        return
    node = nodes.named(state, name)
    yield from state.devices_of(node.id)


# --- records ----------------------------------------------------------------------------------------------------------


@router.get("/v1/records", summary="List records of other schedulers", response_class=Response)
async def records(service: ServiceOf, _: Reader) -> Response:
    """List what was handed in, with its source and time."""
    return answer(
        await service.ledger.read(
            lambda state: [_view(state, state.records[source]) for source in sorted(state.records)]
        )
    )


@router.put("/v1/records/{source}", summary="Hand in a record", response_class=Response)
async def hand_in(request: Request, service: ServiceOf, caller: Adopter, source: str) -> Response:
    """Take all that a source says to be in use: what it names is foreign, what it names no more is let go."""
    wanted = await _body(request, RecordWanted)
    now_ns = time.time_ns()
    as_of_ns = now_ns if wanted.as_of_ns is None else wanted.as_of_ns
    if not 0 < as_of_ns <= now_ns + _AHEAD_NS:
        raise RecordInvalidError("as_of_ns is nanoseconds since 1970, and not in the future")
    found = [_use(use) for use in wanted.uses]

    def decision(state: State) -> tuple[list[Entry], Taken]:
        if wanted.known_only:
            _check_nodes(state, dict.fromkeys(one for one in (wanted.node, *(use.node for use in found)) if one))
        entries, record = uses.take(state, source, wanted.kind, found, as_of_ns, caller.name)
        view = msgspec.structs.asdict(_view(state, record))
        named = [_use_view(state, use) for use in record.uses.values()]
        return ([] if wanted.dry_run else entries), Taken(**view, named=named)

    taken = await service.ledger.decide(decision)
    if wanted.dry_run:
        return answer(taken)
    return answer(await service.ledger.read(lambda state: _view(state, uses.find(state, source))))


@router.delete("/v1/records/{source}", summary="Drop a record", response_class=Response)
async def drop(service: ServiceOf, caller: Adopter, source: str) -> Response:
    """Let a record hold no more: what nobody else says to be in use is let go, and dirty."""

    def decision(state: State) -> tuple[list[Entry], int]:
        entries, record = uses.drop(state, source, caller.name)
        return entries, len(record.uses)  # counted before it is gone

    named = await service.ledger.decide(decision)
    return answer({"source": source, "uses": named})


def _check_nodes(state: State, names: Iterable[str]) -> None:
    """Raise RecordInvalidError, with near names, when nodes are not known."""
    wrong = [name for name in names if nodes.node_of(state, name) is None]
    if not wrong:
        return
    known = nodes.names(state)
    told = [f"{name!r}{near_names(name, known) or '.'}" for name in wrong[:8]]
    more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    raise RecordInvalidError(
        f"the ledger knows no node, or more than one, of the name {' '.join(told)}{more}"
        " 'muster adopt --ahead' hands in what is yet to come"
    )


def _use(wanted: UseWanted) -> Use:
    try:
        return Use(wanted.node, pci_address(wanted.address), wanted.user)
    except ValueError as error:
        raise RecordInvalidError(str(error)) from None


def _view(state: State, record: UseRecord) -> RecordView:
    unknown = [_use_view(state, use) for use in record.uses.values() if not use.device]
    return RecordView(
        record.source,
        record.kind,
        record.as_of_ns,
        record.taken_ns,
        record.who,
        len(record.uses),
        len(unknown),
        unknown,
    )


def _use_view(state: State, use: Use) -> UseView:
    return UseView(use.node, _name(state, use.node), use.address, use.user, use.device or None)


@router.get("/v1/divergences", summary="Where two views do not agree", response_class=Response)
async def divergences(service: ServiceOf, _: Reader, node: str = "", kind: Words = []) -> Response:  # noqa: B006
    """List where the ledger and a node, a record or a checkpoint do not agree, each with both views, oldest first."""

    def question(state: State) -> dict[str, object]:
        known = nodes.node_of(state, node) if node else None
        found = [
            {**msgspec.structs.asdict(one), "id": one.id, "node_name": _name(state, one.node)}
            for one in sorted(state.divergences.values(), key=lambda one: one.since_ns)
            if (not node or (known is not None and one.node == known.id)) and (not kind or one.kind in kind)
        ]
        return {"sequence": state.sequence, "divergences": found}

    return answer(await service.ledger.read(question))


def _name(state: State, node: str) -> str:
    return state.nodes[node].name if node in state.nodes else ""


async def _body(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise ClaimInvalidError(misfit(error)) from None

"""Usage: what each tenant had, from when until when, and the energy that its GPUs took."""

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response

from aggregator import usage
from aggregator.access import Action, may
from aggregator.query import Aggregate, Asked, Role
from aggregator.query import Query as StoreQuery
from aggregator.query_text import parse_time
from aggregator.routes.common import CallerOf, ServiceOf, answer, informed
from aggregator.selector import Term, Value
from aggregator.usage import Usage
from schemas.errors import QueryError

if TYPE_CHECKING:
    from aggregator.service import Service

router = APIRouter(tags=["claims"])
MOST_WITH_ENERGY: Final = 200
_ENERGY: Final = "energy_joules_total"
_SECOND: Final = 1_000_000_000


class UsageView(msgspec.Struct, frozen=True):
    """What one claim had."""

    claim: str
    tenant: str
    consumer: str
    from_ns: int
    until_ns: int | None
    """None: it goes on."""
    seconds: float
    """Within the time that was asked for."""
    devices: list[usage.UsedDevice]
    amounts: dict[str, dict[str, int]]
    reason: str
    energy_joules: float | None = None
    """Of its GPUs within that time, by their own counters; None when it was not asked for, or none counts it."""
    amounts_until_ns: dict[str, int] = {}
    """When the amounts of a node were taken away, before the claim ended."""


@router.get("/v1/usage", summary="What tenants had", response_class=Response)
async def list_usage(
    service: ServiceOf,
    caller: CallerOf,
    tenant: str = "",
    claim: str = "",
    since: str = "",
    until: str = "",
    energy: bool = False,
    limit: Annotated[int, Query(ge=1, le=usage.MAX_ROWS)] = 1000,
) -> Response:
    """List what claims had in a time, in the order in which they began. A tenant sees its own."""
    informed(caller)
    now = time.time_ns()
    begin = parse_time(since, now) if since else 0
    end = parse_time(until, now) if until else now
    read = service.ledger.database.read
    tenants = [tenant] if tenant else None
    if not may(caller, Action.READ):
        all_of_them = [tenant] if tenant else await read(usage.tenants_of)
        tenants = [name for name in all_of_them if may(caller, Action.CLAIM, name)]
    if energy:
        limit = min(limit, MOST_WITH_ENERGY)
    found = await read(partial(usage.read, tenants=tenants, since_ns=begin, until_ns=end, claim=claim, limit=limit))
    views = [_view(one, begin, end) for one in found]
    if energy:
        views = [await _with_energy(service, view, begin, end) for view in views]
    return answer(views)


def _view(one: Usage, begin: int, end: int) -> UsageView:
    first, last = max(one.from_ns, begin), min(one.until_ns or end, end)
    return UsageView(
        one.claim,
        one.tenant,
        one.consumer,
        one.from_ns,
        one.until_ns,
        max(0, last - first) / _SECOND,
        one.use.devices,
        one.use.amounts,
        one.reason,
        amounts_until_ns=one.use.amounts_until_ns,
    )


async def _with_energy(service: "Service", view: UsageView, begin: int, end: int) -> UsageView:
    """Add the mean power of its GPUs, times how long it had each."""
    ends: dict[int, list[usage.UsedDevice]] = {}
    for one in view.devices:
        if one.kind in ("gpu", "gpu-partition"):
            ends.setdefault(min(one.until_ns or end, view.until_ns or end, end), []).append(one)
    first = max(view.from_ns, begin)
    found = [await _energy(service, gpus, first, last) for last, gpus in ends.items() if last > first]
    counted = [joules for joules in found if joules is not None]
    return msgspec.structs.replace(view, energy_joules=sum(counted)) if counted else view


async def _energy(service: "Service", gpus: list[usage.UsedDevice], first: int, last: int) -> float | None:
    """Give what GPUs took in a time, in joules; None where none of them counts it."""
    where = (
        Term("node", tuple(Value(name, glob=False) for name in sorted({one.node for one in gpus}))),
        Term("device", tuple(Value(name, glob=False) for one in gpus for name in one.documents)),
    )
    asked = (Asked(_ENERGY, Aggregate.RATE),)
    question = StoreQuery(measurement="gpu", since=first, until=last, asked=asked, where=where, group=())
    try:
        result = await service.query(question)
    except QueryError:  # nobody has told of a GPU yet
        return None
    columns = zip(result.columns, result.data, strict=True)
    watts = [value for column, values in columns if column.role is Role.VALUE for value in values if value is not None]
    return sum(watts) * (last - first) / _SECOND if watts else None

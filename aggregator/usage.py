"""Usage: what each claim had, from when until when. Written in the transaction of the entries that begin and end it.

A claim is in use from the moment when its nodes were told until each has confirmed that nothing of it is used any more.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, or_, select, update

from aggregator.ledger.entries import ClaimRestored, Fenced, Provisioned, Released, Undone
from aggregator.ledger.journal import Written
from aggregator.ledger.ledger import Beside
from aggregator.ledger.model import Claim, Device, Held
from aggregator.ledger.state import State
from aggregator.ledger.tables import LEDGER_USAGE
from aggregator.ledger.words import LIVE_CLAIMS

MAX_ROWS: Final = 10_000
_ENDS: Final = (Undone, Fenced, Released)


class UsedDevice(msgspec.Struct, frozen=True):
    """A device that a claim had."""

    device: str
    node: str
    kind: str
    part: str
    mode: str
    variant: str
    documents: list[str] = []
    """What collectors call it: by that its telemetry is found."""


class Use(msgspec.Struct, frozen=True):
    """What a claim had."""

    devices: list[UsedDevice]
    amounts: dict[str, dict[str, int]]


class Usage(msgspec.Struct, frozen=True):
    """One claim's use."""

    claim: str
    tenant: str
    consumer: str
    from_ns: int
    until_ns: int | None
    """None: it goes on."""
    reason: str
    """Why it ended."""
    use: Use


_decoder: Final = msgspec.json.Decoder(Use)


def note(state: State, written: Written) -> Beside | None:
    """Give what an entry that was just applied does to the records; None when nothing."""
    entry = written.entry
    if isinstance(entry, Provisioned | ClaimRestored):
        return _begun(state, state.claims[entry.claim])
    if isinstance(entry, _ENDS):
        claim = state.claims[entry.claim]
        if claim.state not in LIVE_CLAIMS and claim.began_ns is not None:
            return _ended(claim.id, written.time_ns, claim.reason)
    return None


def _begun(state: State, claim: Claim) -> Beside:
    devices = [_used(state, held, state.devices[held.device]) for held in claim.devices]
    values = {
        "claim": claim.id,
        "tenant": claim.tenant,
        "consumer": claim.consumer,
        "from_ns": claim.began_ns,
        "until_ns": None,
        "reason": "",
        "use": msgspec.json.encode(Use(devices, claim.amounts)),
    }

    def write(connection: Connection) -> None:
        connection.execute(delete(LEDGER_USAGE).where(LEDGER_USAGE.c.claim == values["claim"]))
        connection.execute(insert(LEDGER_USAGE).values(**values))

    return write


def _used(state: State, held: Held, device: Device) -> UsedDevice:
    documents = sorted({view.document for view in device.views.values()})
    return UsedDevice(
        device.id, held.node, device.kind.value, held.part, held.mode.value, state.variant_of(device), documents
    )


def _ended(claim: str, time_ns: int, reason: str) -> Beside:
    def write(connection: Connection) -> None:
        changed = update(LEDGER_USAGE).where(LEDGER_USAGE.c.claim == claim)
        connection.execute(changed.values(until_ns=time_ns, reason=reason[:255]))

    return write


def read(
    connection: Connection,
    *,
    tenants: Sequence[str] | None = None,
    since_ns: int = 0,
    until_ns: int | None = None,
    claim: str = "",
    limit: int = 1000,
) -> list[Usage]:
    """Give the uses that overlap a time, in the order in which they began; `tenants` None: everybody's."""
    table = LEDGER_USAGE.c
    question = select(LEDGER_USAGE).where(or_(table.until_ns.is_(None), table.until_ns > since_ns))
    if until_ns is not None:
        question = question.where(table.from_ns < until_ns)
    if tenants is not None:
        question = question.where(table.tenant.in_(tenants))
    if claim:
        question = question.where(table.claim == claim)
    rows = connection.execute(question.order_by(table.from_ns, table.claim).limit(min(limit, MAX_ROWS)))
    return [
        Usage(row.claim, row.tenant, row.consumer, row.from_ns, row.until_ns, row.reason, _decoder.decode(row.use))
        for row in rows
    ]


def tenants_of(connection: Connection) -> list[str]:
    """Give everybody of whom there are records."""
    return list(connection.execute(select(LEDGER_USAGE.c.tenant).distinct()).scalars())


def forget(connection: Connection, before_ns: int) -> int:
    """Delete the records of claims that ended before a time; give how many."""
    old = delete(LEDGER_USAGE).where(LEDGER_USAGE.c.until_ns < before_ns)
    return int(connection.execute(old).rowcount)

"""Usage: what each claim had, from when until when. Written in the transaction of the entries that begin and end it.

A claim is in use from the moment when its nodes were told until each has confirmed that nothing of it is used any more;
a device of it until then as well, or until it was taken away before: its node undid it, or was fenced.
"""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, or_, select, update

from aggregator.ledger.entries import ClaimRestored, Fenced, Provisioned, Released, Undone
from aggregator.ledger.journal import Written
from aggregator.ledger.ledger import Beside
from aggregator.ledger.model import Claim, Held
from aggregator.ledger.state import State
from aggregator.ledger.tables import LEDGER_USAGE
from aggregator.ledger.words import LIVE_CLAIMS
from schemas.device import DeviceKind

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
    until_ns: int | None = None
    """When it was taken away, before the claim ended; None: the claim has it until its own end."""


class Use(msgspec.Struct, frozen=True):
    """What a claim had."""

    devices: list[UsedDevice]
    amounts: dict[str, dict[str, int]]
    amounts_until_ns: dict[str, int] = {}
    """When those of a node were taken away, before the claim ended."""


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
        if claim.began_ns is None:
            return None
        if claim.state not in LIVE_CLAIMS:
            return _ended(claim.id, written.time_ns, claim.reason)
        if isinstance(entry, Undone | Fenced):
            nodes = [node for node in entry.nodes if node in claim.fenced] if isinstance(entry, Fenced) else []
            return _taken(claim.id, entry.devices, nodes, written.time_ns)
    return None


def _begun(state: State, claim: Claim) -> Beside:
    """Write a claim's record, or write it anew: what was taken away from it before stays so."""
    devices = [_used(state, held) for held in claim.devices]
    values = {
        "claim": claim.id,
        "tenant": claim.tenant,
        "consumer": claim.consumer,
        "from_ns": claim.began_ns,
        "until_ns": None,
        "reason": "",
    }
    amounts, fenced = dict(claim.amounts), dict(claim.fenced)

    def write(connection: Connection) -> None:
        before = _use(connection, claim.id) or Use([], {})
        known = {one.device: one for one in before.devices}
        ends = {node: until for node, until in before.amounts_until_ns.items() if node in fenced}
        now = [msgspec.structs.replace(one, until_ns=known[one.device].until_ns) if one.device in known else one
               for one in devices]  # fmt: skip
        connection.execute(delete(LEDGER_USAGE).where(LEDGER_USAGE.c.claim == values["claim"]))
        connection.execute(insert(LEDGER_USAGE).values(**values, use=msgspec.json.encode(Use(now, amounts, ends))))

    return write


def _used(state: State, held: Held) -> UsedDevice:
    device = state.devices.get(held.device)
    if device is None:  # a partition that was made for the claim, and was cleaned before the claim's other nodes ended
        return UsedDevice(held.device, held.node, DeviceKind.GPU_PARTITION.value, held.part, held.mode.value, "")
    documents = sorted({view.document for view in device.views.values()})
    return UsedDevice(
        device.id, held.node, device.kind.value, held.part, held.mode.value, state.variant_of(device), documents
    )


def _use(connection: Connection, claim: str) -> Use | None:
    """Give what the record of a claim says that it had; None without one."""
    text = connection.execute(select(LEDGER_USAGE.c.use).where(LEDGER_USAGE.c.claim == claim)).scalar()
    return None if text is None else _decoder.decode(text)


def _taken(claim: str, devices: Collection[str], nodes: Collection[str], time_ns: int) -> Beside:
    """Write when devices, and amounts of nodes, were taken from a claim that goes on; what was before, was so then."""

    def write(connection: Connection) -> None:
        use = _use(connection, claim)
        if use is None:
            return
        now = [
            msgspec.structs.replace(one, until_ns=time_ns) if one.device in devices and one.until_ns is None else one
            for one in use.devices
        ]
        ends = {**dict.fromkeys(nodes, time_ns), **use.amounts_until_ns}
        changed = update(LEDGER_USAGE).where(LEDGER_USAGE.c.claim == claim)
        connection.execute(changed.values(use=msgspec.json.encode(Use(now, use.amounts, ends))))

    return write


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

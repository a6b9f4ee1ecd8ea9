"""The ledger on disk: entries in order, appended by whoever leads, and by nobody else.

Every append is an update of the head that names the writer's epoch and the sequence that it goes on from. When no row
changes, another took the lead, however long this one was paused: it must stop. Each function runs inside a transaction
of `aggregator.control.Control`, on SQLite and on PostgreSQL alike.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, or_, select, update

from aggregator.control import ControlError
from aggregator.ledger.entries import Entry
from aggregator.ledger.tables import LEDGER_ENTRIES, LEDGER_HEAD, LEDGER_POSITION, database_seconds
from schemas.errors import MusterError

LEASE_SECONDS: Final = 10.0
"""How long a leader that says nothing keeps the lead; it renews three times in that."""
CLOSED: Final = ""
"""Who holds the lease of a ledger that nobody leads."""


class LeadLostError(MusterError):
    """Another instance leads the ledger now; what was to be written was not."""

    code = "ledger.lead_lost"
    status = 503
    retry_after = 1.0


class LedgerGoneError(MusterError):
    """The entries asked for are no longer kept, or do not exist yet: list again, and watch from there."""

    code = "ledger.gone"
    status = 410


class Lead(msgspec.Struct, frozen=True):
    """The right to append."""

    ledger: str
    """Id of the ledger."""
    writer: int
    """Quoted with every append."""
    sequence: int
    """Of the last entry, as of taking the lead."""


class Written(msgspec.Struct, frozen=True, array_like=True):
    """An entry as it stands in the ledger."""

    sequence: int
    time_ns: int
    entry: Entry


class _Row(msgspec.Struct, array_like=True, frozen=True):
    """An entry in a row of the table: its sequence follows from its place."""

    after_ns: int
    """Since the row's time."""
    entry: Entry


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[_Row])


def take_lead(connection: Connection, holder: str, *, force: bool = False) -> Lead | None:
    """Take the lead when it is free, ours, or `force`d (embedded: the folder's lock says that we are alone); else None.

    A new ledger is made when there is none.
    """
    if connection.execute(select(LEDGER_HEAD.c.id)).first() is None:
        new = {"id": 1, "ledger": secrets.token_hex(8), "sequence": 0, "writer": 0, "holder": CLOSED, "expires_s": 0.0}
        connection.execute(insert(LEDGER_HEAD).values(**new))
    head = LEDGER_HEAD.c
    free = or_(head.holder.in_((CLOSED, holder)), head.expires_s < database_seconds())
    taken = update(LEDGER_HEAD) if force else update(LEDGER_HEAD).where(free)
    changes = {"writer": head.writer + 1, "holder": holder, "expires_s": database_seconds() + LEASE_SECONDS}
    if not connection.execute(taken.values(**changes)).rowcount:
        return None
    row = connection.execute(select(head.ledger, head.writer, head.sequence)).one()
    return Lead(row.ledger, row.writer, row.sequence)


def renew_lead(connection: Connection, lead: Lead) -> None:
    """Keep the lead for another while. Raises LeadLostError."""
    mine = update(LEDGER_HEAD).where(LEDGER_HEAD.c.writer == lead.writer)
    if not connection.execute(mine.values(expires_s=database_seconds() + LEASE_SECONDS)).rowcount:
        raise LeadLostError("another instance leads the ledger now")


def give_up_lead(connection: Connection, lead: Lead) -> None:
    """Let the next one lead at once."""
    connection.execute(update(LEDGER_HEAD).where(LEDGER_HEAD.c.writer == lead.writer).values(holder=CLOSED))


def append(connection: Connection, lead: Lead, written: Sequence[Written]) -> None:
    """Write entries that follow one another and the head. Raises LeadLostError; then nothing was written."""
    first, last = written[0], written[-1]
    mine = (LEDGER_HEAD.c.writer == lead.writer) & (LEDGER_HEAD.c.sequence == first.sequence - 1)
    if not connection.execute(update(LEDGER_HEAD).where(mine).values(sequence=last.sequence)).rowcount:
        raise LeadLostError("another instance leads the ledger now")
    body = _encoder.encode([_Row(one.time_ns - first.time_ns, one.entry) for one in written])
    row = {"first": first.sequence, "last": last.sequence, "time_ns": first.time_ns, "body": body}
    connection.execute(insert(LEDGER_ENTRIES).values(**row))


def read(connection: Connection, after: int, most: int = 1 << 62) -> Iterator[Written]:
    """Yield the entries after a sequence, in order, `most` of them or a few more. Raises LedgerDamagedError."""
    table = LEDGER_ENTRIES.c
    question = select(table.first, table.time_ns, table.body).where(table.last > after).order_by(table.first)
    for row in connection.execute(question.execution_options(yield_per=256)):
        for place, one in enumerate(_decode(row.first, row.body)):
            sequence = row.first + place
            if sequence > after:
                yield Written(sequence, row.time_ns + one.after_ns, one.entry)
                most -= 1
        if most <= 0:
            return


class LedgerDamagedError(ControlError):
    """The ledger on disk is not what was written; restore a backup."""

    code = "ledger.damaged"


def _decode(first: int, body: bytes) -> list[_Row]:
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise LedgerDamagedError(
            f"the ledger's entries from {first} on cannot be read: {error}; restore a backup, or start a newer version"
        ) from error


def end(connection: Connection) -> int:
    """Give the sequence of the last entry; 0 for an empty or new ledger."""
    return int(connection.execute(select(func.max(LEDGER_ENTRIES.c.last))).scalar() or 0)


def positions(connection: Connection, log_id: str) -> dict[tuple[str, int], int]:
    """Give the next offset by (topic, partition) of which facts were taken from a log; {} for one never read."""
    table = LEDGER_POSITION.c
    question = select(table.topic, table.partition, table.offset).where(table.log_id == log_id)
    return {(row.topic, row.partition): row.offset for row in connection.execute(question)}


def move(connection: Connection, log_id: str, offsets: dict[tuple[str, int], int]) -> None:
    """Keep how far facts were taken from a log; in the transaction of those facts."""
    table = LEDGER_POSITION.c
    for (topic, partition), offset in offsets.items():
        key = {"log_id": log_id, "topic": topic, "partition": partition}
        this = (table.log_id == log_id) & (table.topic == topic) & (table.partition == partition)
        if not connection.execute(update(LEDGER_POSITION).where(this).values(offset=offset)).rowcount:
            connection.execute(insert(LEDGER_POSITION).values(**key, offset=offset))


def forget_positions(connection: Connection) -> None:
    """Let every log be read from its beginning again."""
    connection.execute(delete(LEDGER_POSITION))

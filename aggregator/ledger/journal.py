"""The ledger on disk: entries in order, appended by whoever leads, and by nobody else.

Every append is an update of the head that names the writer's epoch and the sequence that it goes on from. When no row
changes, another took the lead, however long this one was paused: it must stop. Each function runs inside a transaction
of `aggregator.control.Control`, on SQLite and on PostgreSQL alike.

A row holds what was committed together. Old rows are joined into large compressed ones (`join`, `replace`): a year of a
fleet is a few hundred rows, each with the sorted hashes of what its entries are about, so that one device's history
does not open them all.
"""

import secrets
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import zstandard
from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from aggregator.control import ControlOpenError
from aggregator.ledger.entries import Entry
from aggregator.ledger.subjects import subjects
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


class Written(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry as it stands in the ledger."""

    sequence: int
    time_ns: int
    entry: Entry


class _Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """An entry in a row of the table: its sequence follows from its place."""

    after_ns: int
    """Since the row's time."""
    entry: Entry


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[_Row])
_pieces: Final = msgspec.msgpack.Decoder(list[bytes])
_JOINED: Final = zstandard.FRAME_HEADER  # no msgpack array begins like that
_LEVEL: Final = 9
_PIECE: Final = 1024
"""Entries that are decoded in one go: a thread keeps the interpreter meanwhile. Part of the form on disk."""
_MAX_JOINED_BYTES: Final = 1 << 30
_ADVANCE: Final = (  # built once: what every commit does takes longer to build than to do
    update(LEDGER_HEAD)
    .where(LEDGER_HEAD.c.writer == bindparam("mine"), LEDGER_HEAD.c.sequence == bindparam("before"))
    .values(sequence=bindparam("sequence"))
)
_ADD: Final = insert(LEDGER_ENTRIES)


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
    place = {"mine": lead.writer, "before": first.sequence - 1, "sequence": last.sequence}
    if not connection.execute(_ADVANCE, place).rowcount:
        raise LeadLostError("another instance leads the ledger now")
    body = _encoder.encode([_Row(one.time_ns - first.time_ns, one.entry) for one in written])
    row = {"first": first.sequence, "last": last.sequence, "time_ns": first.time_ns, "body": body}
    connection.execute(_ADD, row)


def read(connection: Connection, after: int, most: int = 1 << 62, *, until: int | None = None) -> Iterator[Written]:
    """Yield the entries after a sequence, in order: up to `until`, and `most` of them or a few more.

    Raises LedgerDamagedError.
    """
    table = LEDGER_ENTRIES.c
    question = select(table.first, table.time_ns, table.body).where(table.last > after).order_by(table.first)
    if until is not None:
        question = question.where(table.first <= until)
    for row in connection.execute(question.execution_options(yield_per=256)):
        for first, piece in _cut(row.first, row.body, after):
            for sequence, one in enumerate(_rows(first, piece), first):
                if until is not None and sequence > until:
                    return
                if sequence > after:
                    yield Written(sequence, row.time_ns + one.after_ns, one.entry)
                    most -= 1
            if most <= 0:
                return


class LedgerDamagedError(ControlOpenError):
    """The ledger on disk is not what was written; restore a backup."""

    code = "ledger.damaged"


def _decode(first: int, body: bytes) -> Iterator[_Row]:
    for _, piece in _cut(first, body):
        yield from _rows(first, piece)


def _cut(first: int, body: bytes, after: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give the pieces of a row that hold entries after a sequence, each with the sequence of its first entry.

    Raises LedgerDamagedError.
    """
    if not body.startswith(_JOINED):
        yield first, body
        return
    try:
        joined = zstandard.ZstdDecompressor(max_window_size=_MAX_JOINED_BYTES).decompress(body)
        pieces = _pieces.decode(joined)
    except (msgspec.DecodeError, zstandard.ZstdError) as error:
        raise _damaged(first, error) from error
    for piece in pieces:
        if first + _PIECE > after + 1:
            yield first, piece
        first += _PIECE  # all but the last have so many


def _rows(first: int, piece: bytes) -> list[_Row]:
    try:
        return _decoder.decode(piece)
    except msgspec.DecodeError as error:
        raise _damaged(first, error) from error


def _damaged(first: int, error: Exception) -> LedgerDamagedError:
    return LedgerDamagedError(
        f"the ledger's entries from {first} on cannot be read: {error}; restore a backup, or start a newer version"
    )


def sequence_at(connection: Connection, time_ns: int) -> int:
    """Give the sequence of the last entry that was decided at or before a time; 0 when there is none."""
    table = LEDGER_ENTRIES.c
    question = select(table.first, table.time_ns, table.body).where(table.time_ns <= time_ns)
    # rows of one time are in order of their sequence as well
    row = connection.execute(question.order_by(table.time_ns.desc(), table.first.desc()).limit(1)).first()
    if row is None:
        return 0
    before = sum(1 for one in _decode(row.first, row.body) if row.time_ns + one.after_ns <= time_ns)
    return int(row.first) + before - 1


# --- joining ----------------------------------------------------------------------------------------------------------


class Joined(msgspec.Struct, frozen=True):
    """Rows in one."""

    first: int
    last: int
    rows: int
    """How many it stands for."""
    time_ns: int
    subjects: bytes
    body: bytes


def join(connection: Connection, entries: int) -> Joined | None:
    """Join the oldest rows that are not joined yet, so many entries in all; None while there are fewer."""
    table = LEDGER_ENTRIES.c
    oldest = select(table.first).where(table.subjects.is_(None)).order_by(table.first).limit(1)
    begin = connection.execute(oldest).scalar()
    if begin is None or head(connection) - begin + 1 < entries:
        return None  # asked all the time: nothing is read in vain
    question = select(table.first, table.last, table.time_ns, table.body).where(table.subjects.is_(None))
    rows: list[_Row] = []
    about: set[str] = set()
    first = last = time_ns = count = 0
    for row in connection.execute(question.order_by(table.first).execution_options(yield_per=256)):
        if not count:
            first, time_ns = row.first, row.time_ns
        count, last = count + 1, row.last
        for one in _decode(row.first, row.body):
            rows.append(_Row(row.time_ns - time_ns + one.after_ns, one.entry))
            about |= subjects(one.entry)
        if len(rows) >= entries:
            pieces = [_encoder.encode(rows[begin : begin + _PIECE]) for begin in range(0, len(rows), _PIECE)]
            compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
            return Joined(first, last, count, time_ns, _hashes(about), compressor.compress(_encoder.encode(pieces)))
    return None


def replace(connection: Connection, lead: Lead, joined: Joined) -> bool:
    """Put a joined row in the place of those that it stands for; False when they are others by now, and are kept.

    Raises LeadLostError.
    """
    renew_lead(connection, lead)
    table = LEDGER_ENTRIES.c
    these = (table.first >= joined.first) & (table.last <= joined.last) & table.subjects.is_(None)
    count = connection.execute(select(func.count()).select_from(LEDGER_ENTRIES).where(these)).scalar()
    if count != joined.rows:
        return False
    connection.execute(delete(LEDGER_ENTRIES).where(these))
    row = {"first": joined.first, "last": joined.last, "time_ns": joined.time_ns}
    connection.execute(insert(LEDGER_ENTRIES).values(**row, subjects=joined.subjects, body=joined.body))
    return True


def about(connection: Connection, names: Iterable[str], *, before: int | None = None) -> Iterator[Written]:
    """Yield, in order, the entries that name one of `names`; only rows that may hold one are opened."""
    wanted = set(names)
    hashes = [_hash(name) for name in wanted]
    table = LEDGER_ENTRIES.c
    question = select(table.first, table.subjects).order_by(table.first)
    if before is not None:
        question = question.where(table.first < before)
    rows = [row.first for row in connection.execute(question) if row.subjects is None or _holds(row.subjects, hashes)]
    needles = [name.encode() for name in wanted]
    done = 0
    for first in rows:
        # rows may have been joined meanwhile, where a transaction does not see one moment only
        holding = select(table.first, table.last, table.time_ns, table.body).where(table.first <= first)
        row = connection.execute(holding.where(table.last >= first)).one()
        for begin, piece in _cut(row.first, row.body):
            if not any(needle in piece for needle in needles):  # most are not decoded at all
                continue
            for sequence, one in enumerate(_rows(begin, piece), begin):
                if before is not None and sequence >= before:
                    return
                if sequence > done and not wanted.isdisjoint(subjects(one.entry)):
                    yield Written(sequence, row.time_ns + one.after_ns, one.entry)
        done = row.last


def _hash(name: str) -> int:
    return zlib.crc32(name.encode())


def _hashes(names: Iterable[str]) -> bytes:
    found = array("I", sorted({_hash(name) for name in names}))
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


def _holds(hashes: bytes, wanted: Iterable[int]) -> bool:
    """Tell whether a row may be about one of `wanted`; wrong once in some hundred thousand rows, and then only slow."""
    known: Sequence[int] = memoryview(hashes).cast("I") if sys.byteorder == "little" else _swapped(hashes)
    for one in wanted:
        place = bisect_left(known, one)
        if place < len(known) and known[place] == one:
            return True
    return False


def _swapped(hashes: bytes) -> "array[int]":
    found = array("I", hashes)
    found.byteswap()
    return found


def head(connection: Connection) -> int:
    """Give the sequence of the last entry; 0 for an empty ledger, or none."""
    return int(connection.execute(select(LEDGER_HEAD.c.sequence)).scalar() or 0)


def positions(connection: Connection) -> dict[str, dict[tuple[str, int], int]]:
    """Give, by log that facts were taken from, the next offset by (topic, partition)."""
    found: dict[str, dict[tuple[str, int], int]] = {}
    for row in connection.execute(select(LEDGER_POSITION)):
        found.setdefault(row.log_id, {})[row.topic, row.partition] = row.offset
    return found


def move(connection: Connection, log_id: str, offsets: dict[tuple[str, int], int]) -> None:
    """Keep how far facts were taken from a log; in the transaction of those facts."""
    table = LEDGER_POSITION.c
    for (topic, partition), offset in offsets.items():
        key = {"log_id": log_id, "topic": topic, "partition": partition}
        this = (table.log_id == log_id) & (table.topic == topic) & (table.partition == partition)
        if not connection.execute(update(LEDGER_POSITION).where(this).values(offset=offset)).rowcount:
            connection.execute(insert(LEDGER_POSITION).values(**key, offset=offset))

"""Quarantine: batches that can never be taken, kept aside with the reason, to be looked at and counted.

Two tables, because two things are wanted of them. What somebody wants to see, the bytes and the reason, is bounded: the
oldest bytes go first, then the oldest entries. What the balance needs, which row numbers were set aside, is exact and
stays: as intervals, so that a batch that comes back counts once.
"""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from aggregator.control import Control
from aggregator.store import Stream
from aggregator.tables import QUARANTINE, QUARANTINED_ROWS, advance, counted
from collectors.failpoint import failpoint
from schemas.batch import Envelope
from schemas.errors import MusterError
from schemas.intervals import Interval
from schemas.verbosity import Level, RowClass

INGEST: Final = "ingest"
"""The stage of batches that never reached the log; every consumer counts them. Any other stage is a consumer's name."""
_BYTES: Final = "quarantine_bytes"
_UNKNOWN: Final = -1  # class and level of a batch whose envelope could not be read


class QuarantineError(MusterError):
    """There is no such entry."""

    code = "quarantine.unknown"


class Limits(msgspec.Struct, frozen=True):
    """How much is kept to be looked at."""

    entry_bytes: int = 1 << 20
    """Of one batch; the rest is cut off."""
    total_bytes: int = 64 << 20
    """Of all batches."""
    entries: int = 10_000


class Entry(msgspec.Struct, frozen=True):
    """One batch that was set aside."""

    id: int
    publisher: str
    """Who sent it, as authenticated: the envelope's own word may be wrong."""
    stream: Stream | None
    """None when not even the envelope could be read; then the rows are not known either."""
    first: int | None
    """The number of its first row; None with `stream`."""
    rows: int | None
    """How many rows its envelope says; None with `stream`."""
    stage: str
    code: str
    """The stable part of the reason, before the colon."""
    reason: str
    size: int
    """Bytes as it came."""
    kept: int
    """Bytes of it that are still here; fewer than `size` when it was cut or gave way."""
    times: int
    """How often it came."""
    first_ns: int
    last_ns: int
    body: bytes | None = None
    """What is kept of it, for `show` only; None in lists, and when it gave way."""


_LIMITS: Final = Limits()
_LISTED: Final = [column for column in QUARANTINE.c if column.name != "body"]


def put(
    connection: Connection,
    *,
    publisher: str,
    envelope: Envelope | None,
    data: bytes,
    stage: str,
    reason: str,
    now_ns: int,
    limits: Limits = _LIMITS,
) -> bool:
    """Set a batch aside; False when it was here before, and only its count grew.

    `reason` is a stable code, a colon and a sentence. `envelope` is None when it could not be read, or is not to be
    believed: then the bytes tell one batch from another, and no rows are counted.
    """
    key = _key(publisher, envelope, data, stage)
    same = [QUARANTINE.c[name] == value for name, value in key.items()]
    again = update(QUARANTINE).where(*same).values(times=QUARANTINE.c.times + 1, last_ns=now_ns)
    if connection.execute(again).rowcount:
        return False
    kept = data[: limits.entry_bytes]
    code = reason.partition(":")[0][:64]
    facts = {"code": code, "reason": reason[:2000], "size": len(data), "kept": len(kept), "body": kept, "times": 1}
    connection.execute(insert(QUARANTINE).values(**key, **facts, first_ns=now_ns, last_ns=now_ns))
    if envelope is not None and envelope.rows:
        stream = Stream(publisher, envelope.epoch, envelope.row_class, envelope.level)
        _count_rows(connection, stream, stage, envelope.first, envelope.end)
    _make_room(connection, advance(connection, _BYTES, len(kept)), limits)
    return True


def list_entries(
    connection: Connection,
    *,
    publisher: str | None = None,
    stage: str | None = None,
    row_class: RowClass | None = None,
    level: Level | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Give entries, newest first, without their bytes; `before` is the last id of the page before this one."""
    question = select(*_LISTED).order_by(QUARANTINE.c.id.desc()).limit(limit)
    asked = {"publisher": publisher, "stage": stage, "row_class": row_class, "level": level}
    for name, value in asked.items():
        if value is not None:
            question = question.where(QUARANTINE.c[name] == value)
    if before is not None:
        question = question.where(QUARANTINE.c.id < before)
    return [_entry(row) for row in connection.execute(question)]


def show(connection: Connection, id: int) -> Entry:  # noqa: A002  # the word that users see
    """Give one entry with what is kept of its bytes. Raises QuarantineError."""
    row = connection.execute(select(QUARANTINE).where(QUARANTINE.c.id == id)).first()
    if row is None:
        raise QuarantineError(f"there is no quarantined batch {id}; `muster quarantine list` shows them")
    return _entry(row, None if row.body is None else bytes(row.body))


def remove(connection: Connection, id: int) -> None:  # noqa: A002
    """Forget an entry and its bytes; its rows stay counted as quarantined. Raises QuarantineError."""
    entry = show(connection, id)
    connection.execute(delete(QUARANTINE).where(QUARANTINE.c.id == id))
    advance(connection, _BYTES, -entry.kept)


def counts(connection: Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """Give (batches that are still listed, times that they came) by (stage, code)."""
    columns = (QUARANTINE.c.stage, QUARANTINE.c.code, func.count(), func.sum(QUARANTINE.c.times))
    rows = connection.execute(select(*columns).group_by(QUARANTINE.c.stage, QUARANTINE.c.code))
    return {(stage, code): (int(entries), int(times)) for stage, code, entries, times in rows}


def intervals(connection: Connection, stage: str, publisher: str | None = None) -> list[tuple[Stream, Interval]]:
    """Give every row that a stage set aside, for the balance: disjoint intervals by stream, in order."""
    columns = QUARANTINED_ROWS.c
    question = select(QUARANTINED_ROWS).where(columns.stage == stage)
    if publisher is not None:
        question = question.where(columns.publisher == publisher)
    question = question.order_by(columns.publisher, columns.epoch, columns.row_class, columns.level, columns.first_row)
    return [
        (Stream(row.publisher, row.epoch, RowClass(row.row_class), Level(row.level)), (row.first_row, row.end_row))
        for row in connection.execute(question)
    ]


def kept_bytes(connection: Connection) -> int:
    """Give how many bytes of batches are kept."""
    return counted(connection, _BYTES)


def _key(publisher: str, envelope: Envelope | None, data: bytes, stage: str) -> dict[str, Any]:
    stream: dict[str, Any]
    if envelope is None:
        digest = hashlib.sha256(data).hexdigest()
        stream = {"epoch": "", "row_class": _UNKNOWN, "level": _UNKNOWN, "first_row": 0, "row_count": 0}
    else:
        digest = "" if envelope.rows else hashlib.sha256(data).hexdigest()  # heartbeats have no rows to tell them apart
        stream = {"epoch": envelope.epoch, "row_class": int(envelope.row_class), "level": int(envelope.level)}
        stream |= {"first_row": envelope.first, "row_count": envelope.rows}
    return {"publisher": publisher, **stream, "stage": stage, "digest": digest}


def _count_rows(connection: Connection, stream: Stream, stage: str, first: int, end: int) -> None:
    """Put `[first, end)` into the stage's set, merged with what it touches."""
    columns = QUARANTINED_ROWS.c
    key: dict[str, Any] = {"publisher": stream.publisher, "epoch": stream.epoch, "stage": stage}
    key |= {"row_class": int(stream.row_class), "level": int(stream.level)}
    mine = [columns[name] == value for name, value in key.items()]
    touching = [*mine, columns.first_row <= end, columns.end_row >= first]
    for row in connection.execute(select(columns.first_row, columns.end_row).where(*touching)).all():
        first, end = min(first, row.first_row), max(end, row.end_row)
    connection.execute(delete(QUARANTINED_ROWS).where(*touching))
    connection.execute(insert(QUARANTINED_ROWS).values(**key, first_row=first, end_row=end))


def _make_room(connection: Connection, total: int, limits: Limits) -> None:
    """Let the oldest bytes go until the rest fits, then the oldest entries."""
    holding = select(QUARANTINE.c.id, QUARANTINE.c.kept).where(QUARANTINE.c.kept > 0).order_by(QUARANTINE.c.id)
    while total > limits.total_bytes:
        oldest = connection.execute(holding.limit(1)).first()
        if oldest is None:
            return
        connection.execute(update(QUARANTINE).where(QUARANTINE.c.id == oldest.id).values(body=None, kept=0))
        total = advance(connection, _BYTES, -oldest.kept)
    newest, oldest_id = connection.execute(select(func.max(QUARANTINE.c.id), func.min(QUARANTINE.c.id))).one()
    if newest is not None and newest - oldest_id >= limits.entries:
        old = QUARANTINE.c.id <= newest - limits.entries
        freed = connection.execute(select(func.coalesce(func.sum(QUARANTINE.c.kept), 0)).where(old)).scalar_one()
        connection.execute(delete(QUARANTINE).where(old))
        advance(connection, _BYTES, -int(freed))


def _entry(row: Row[Any], body: bytes | None = None) -> Entry:
    known = row.row_class != _UNKNOWN
    return Entry(
        id=row.id,
        publisher=row.publisher,
        stream=Stream(row.publisher, row.epoch, RowClass(row.row_class), Level(row.level)) if known else None,
        first=row.first_row if known else None,
        rows=row.row_count if known else None,
        stage=row.stage,
        code=row.code,
        reason=row.reason,
        size=row.size,
        kept=row.kept,
        times=row.times,
        first_ns=row.first_ns,
        last_ns=row.last_ns,
        body=body,
    )


class Quarantine:
    """Sets batches aside for ingest and for consumers. What it returns from is on disk."""

    def __init__(
        self, control: Control, limits: Limits = _LIMITS, *, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._control = control
        self._limits = limits
        self._wall_ns = wall_ns

    async def at_ingest(self, envelope: Envelope | None, publisher: str, data: bytes, reason: str) -> None:
        """Set aside what ingest cannot take; see `put`."""
        await self._put(publisher, envelope, data, INGEST, reason)

    async def at_consumer(self, envelope: Envelope, data: bytes, stage: str, reason: str) -> None:
        """Set aside what the consumer named `stage` can never use; see `put`."""
        await self._put(envelope.publisher, envelope, data, stage, reason)

    async def _put(self, publisher: str, envelope: Envelope | None, data: bytes, stage: str, reason: str) -> None:
        aside = partial(put, publisher=publisher, envelope=envelope, data=data, stage=stage, reason=reason)
        failpoint("quarantine.put.begun")
        await self._control.write(partial(aside, now_ns=self._wall_ns(), limits=self._limits))
        failpoint("quarantine.put.kept")

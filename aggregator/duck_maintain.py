# ruff: noqa: S608  # names of tables and columns have passed schemas.metrics.NAME, and are quoted
"""The embedded store's upkeep: retention by age and by disk budget, and the checkpoint.

What retention deletes is counted by measurement: it is what the operator asked for, not loss. Space comes back when
whole row groups are gone, at a checkpoint; the file then stays as large as it was and is filled again from within, so
budgets count used blocks, not the file.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import msgspec
from duckdb import DuckDBPyConnection

from aggregator.duck_connection import quoted
from aggregator.duck_schema import Table
from schemas.verbosity import RowClass

DAY_NS: Final = 86_400_000_000_000
SLACK: Final = 0.05
"""How far under a budget one goes, so as not to delete a little every minute."""
KEEP_NS: Final = 60_000_000_000
"""No budget deletes what is younger than this."""
_CHECKPOINT_TRIES: Final = 5
_MINUTE: Final = 60_000_000_000


class ClassLimit(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one class is kept. None: no limit."""

    days: float | None = None
    """Age by the row's own time."""
    bytes: int | None = None
    """Used space on disk, estimated from the blocks that the tables' columns lie in."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept. Of capability documents the newest of each device stays, however old."""

    telemetry: ClassLimit = ClassLimit(days=14)
    log: ClassLimit = ClassLimit(days=14)
    event: ClassLimit = ClassLimit(days=90)
    capability: ClassLimit = ClassLimit(days=365)
    bytes: int | None = None
    """Used space of everything together; beyond it the oldest telemetry and logs go first, then events."""

    def of(self, row_class: RowClass) -> ClassLimit:
        """Give the limit of one class."""
        limits = (self.telemetry, self.log, self.event, self.capability)
        return limits[row_class]


_FIRST_TO_GO: Final = ((RowClass.TELEMETRY, RowClass.LOG), (RowClass.EVENT,))


def delete_expired(
    writer: DuckDBPyConnection, tables: Sequence[Table], retention: Retention, now_ns: int
) -> dict[str, int]:
    """Delete what is too old, inside the open transaction; give the rows deleted by measurement."""
    deleted = {}
    for table in tables:
        days = retention.of(table.row_class).days
        if days is not None:
            deleted[table.measurement] = _delete_before(writer, table, now_ns - int(days * DAY_NS))
    return {name: count for name, count in deleted.items() if count}


def delete_over_budget(
    writer: DuckDBPyConnection, tables: Sequence[Table], retention: Retention, now_ns: int
) -> dict[str, int]:
    """Delete the oldest rows of what is over its budget, inside the open transaction; give the rows by measurement."""
    deleted: dict[str, int] = {}
    sizes = _table_bytes(writer, tables, retention)
    for row_class in RowClass:
        budget = retention.of(row_class).bytes
        own = [table for table in tables if table.row_class is row_class]
        used = sum(sizes.get(table.measurement, 0) for table in own)
        if budget is not None and used > budget:
            _add(deleted, _delete_oldest(writer, own, sizes, used - int(budget * (1 - SLACK)), now_ns))
    used = used_bytes(writer)
    if retention.bytes is not None and used > retention.bytes:
        excess = used - int(retention.bytes * (1 - SLACK))
        for classes in _FIRST_TO_GO:
            own = [table for table in tables if table.row_class in classes]
            _add(deleted, _delete_oldest(writer, own, sizes, excess, now_ns))
            excess -= sum(sizes.get(table.measurement, 0) for table in own)
            if excess <= 0:
                break
    return deleted


def used_bytes(connection: DuckDBPyConnection) -> int:
    """Give the bytes of the file's blocks that hold something, as of the last checkpoint."""
    row = connection.execute(
        "SELECT block_size * used_blocks FROM pragma_database_size() WHERE database_name = 'store'"
    ).fetchone()
    return int(row[0]) if row else 0


def forget_series(writer: DuckDBPyConnection, tables: Sequence[Table]) -> list[int]:
    """Delete the series that have no row left, inside the open transaction; give their numbers."""
    gone: list[int] = []
    for table in tables:
        rows = writer.execute(
            "SELECT id FROM _series WHERE measurement = ?"
            f" AND id NOT IN (SELECT _series FROM {quoted(table.measurement)})",
            [table.measurement],
        ).fetchall()
        gone.extend(row[0] for row in rows)
    if gone:
        writer.execute("DELETE FROM _series WHERE id IN (SELECT unnest(?::INTEGER[]))", [gone])
    return gone


def checkpoint(writer: DuckDBPyConnection) -> bool:
    """Move the write-ahead log into the file. False: another transaction stood in the way; try at the next upkeep."""
    for attempt in range(_CHECKPOINT_TRIES):
        try:
            writer.execute("CHECKPOINT store")
        except duckdb.TransactionException:
            time.sleep(0.02 * 2**attempt)
        else:
            return True
    return False


def _delete_before(writer: DuckDBPyConnection, table: Table, moment: int) -> int:
    name = quoted(table.measurement)
    newest = ""
    if table.row_class is RowClass.CAPABILITY:
        newest = f" AND (_series, _time) NOT IN (SELECT (_series, max(_time)) FROM {name} GROUP BY _series)"
    row = writer.execute(f"DELETE FROM {name} WHERE _time < ?{newest}", [moment]).fetchone()
    return int(row[0]) if row else 0


def _table_bytes(writer: DuckDBPyConnection, tables: Sequence[Table], retention: Retention) -> dict[str, int]:
    """Estimate the bytes of each table, when some budget asks for it: 256 KiB blocks, small segments sharing one."""
    budgets = [retention.bytes, *(retention.of(row_class).bytes for row_class in RowClass)]
    if all(budget is None for budget in budgets):
        return {}
    sizes = {}
    for table in tables:
        row = writer.execute(
            "SELECT count(DISTINCT block_id) FROM pragma_storage_info(?) WHERE block_id >= 0", [table.measurement]
        ).fetchone()
        sizes[table.measurement] = (int(row[0]) if row else 0) << 18
    return sizes


def _delete_oldest(
    writer: DuckDBPyConnection, tables: Sequence[Table], sizes: Mapping[str, int], excess: int, now_ns: int
) -> dict[str, int]:
    """Delete the oldest minutes of these tables together until about `excess` bytes are free."""
    minutes: dict[int, float] = {}
    for table in tables:
        counts = writer.execute(
            f"SELECT _time // {_MINUTE}, count(*) FROM {quoted(table.measurement)} GROUP BY 1"
        ).fetchall()
        rows = sum(count for _, count in counts)
        for minute, count in counts:
            share = sizes.get(table.measurement, 0) * count / rows
            minutes[minute] = minutes.get(minute, 0.0) + share
    freed = 0.0
    cutoff = 0
    for minute in sorted(minutes):
        if freed >= excess or (minute + 1) * _MINUTE > now_ns - KEEP_NS:
            break
        freed += minutes[minute]
        cutoff = (minute + 1) * _MINUTE
    if not cutoff:
        return {}
    deleted = {table.measurement: _delete_before(writer, table, cutoff) for table in tables}
    return {name: count for name, count in deleted.items() if count}


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count

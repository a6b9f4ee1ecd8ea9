"""What is done with a damaged spool file: it is set aside, and what can still be read of it goes on in a new one."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from collectors.spool_file import TABLES, SpoolFile
from schemas.intervals import Intervals

_log = logging.getLogger("muster.spool")


def salvage(path: Path, open_fresh: Callable[[], SpoolFile], error: Exception) -> SpoolFile:
    """Set a damaged file aside and carry over every row that SQLite can still read."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    _log.error("spool_damaged file=%s set_aside=%s error=%s", path, aside, error)
    fresh = open_fresh()
    kept = {table: _carry_over(aside, fresh, table) for table in TABLES}
    _mark_missing(fresh)
    _log.warning("spool_salvaged file=%s kept=%s", path, kept)
    return fresh


def _carry_over(aside: Path, fresh: SpoolFile, table: str) -> int:
    """Copy a table row by row from both ends, so that one bad page costs only what lies on it."""
    count = 0
    for direction in ("ASC", "DESC"):
        old = sqlite3.connect(f"file:{aside}?mode=rw", uri=True)
        try:
            keys = {"batch": "id"}.get(table, "publisher")
            select = f"SELECT * FROM {table} ORDER BY {keys} {direction}"  # noqa: S608  # our own names
            rows: Iterable[tuple[Any, ...]] = old.execute(select)
            for row in rows:
                with fresh.db:
                    marks = ", ".join("?" * len(row))
                    insert = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"  # noqa: S608  # our own names
                    count += fresh.db.execute(insert, row).rowcount
        except sqlite3.DatabaseError:
            continue  # the bad page; what lies behind it comes from the other end
        else:
            break
        finally:
            old.close()
    return count


def _mark_missing(fresh: SpoolFile) -> None:
    """Tell rows that were numbered and are neither here nor known to have gone.

    Which of them had been acknowledged, nobody knows any more; the aggregator does: what it has counts as done first.
    """
    db = fresh.db
    with db:
        for batch in db.execute("SELECT DISTINCT publisher, epoch, class, level FROM batch").fetchall():
            db.execute("INSERT OR IGNORE INTO epoch VALUES (?, ?, '', 0, 0)", batch[:2])
            db.execute("INSERT OR IGNORE INTO stream VALUES (?, ?, ?, ?, 0, 0, 0)", batch)
        for publisher, epoch, row_class, level, numbered in db.execute(
            "SELECT publisher, epoch, class, level, numbered FROM stream"
        ).fetchall():
            where = (publisher, epoch, row_class, level)
            held = Intervals(
                (first, first + rows)
                for first, rows in db.execute(
                    "SELECT first, rows FROM batch WHERE publisher = ? AND epoch = ? AND class = ? AND level = ?", where
                )
            )
            total = max(numbered, held.end)
            db.execute(
                "UPDATE stream SET numbered = ? WHERE publisher = ? AND epoch = ? AND class = ? AND level = ?",
                (total, *where),
            )
            db.executemany(
                "INSERT OR REPLACE INTO dropped VALUES (?, ?, ?, ?, 'corrupt', ?, ?)",
                [(*where, first, end) for first, end in held.missing(0, total)],
            )

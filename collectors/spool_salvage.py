"""What is done with a damaged spool file: it is set aside, and what can still be read of it goes on in a new one.

A crash at any moment costs nothing: what is saved grows in `<spool>.salvaging`, which is begun anew after a crash,
and becomes `<spool>.salvaged` when it is complete and on disk. After that only names change, and `finish` can be
repeated.
"""

import contextlib
import logging
import sqlite3
from pathlib import Path

from collectors._durable import flush
from collectors.spool_pages import Pages, Row
from collectors.spool_schema import SALVAGED, SOUND, make
from schemas.codec import decode_body
from schemas.errors import WireError
from schemas.intervals import Intervals

_log = logging.getLogger("muster.spool")
_ROWS = 6
"""Where a batch's row says how many rows the batch has."""


def salvage(path: Path, error: Exception) -> None:
    """Replace a damaged file by one with every sound row that is still found. Raises OSError and sqlite3.Error."""
    _log.error("spool_damaged file=%s error=%s", path, error)
    building = path.with_name(path.name + ".salvaging")
    building.unlink(missing_ok=True)  # a crash was faster
    db = sqlite3.connect(building, isolation_level="IMMEDIATE")
    try:
        db.execute("PRAGMA journal_mode = OFF")  # half of it is worth nothing: no way back is needed
        db.execute("PRAGMA synchronous = OFF")
        make(db)
        with db, Pages(path) as pages:
            kept = {table: _carry_over(pages, db, table) for table in SOUND}
            _mark_missing(db)
    except BaseException:
        db.close()
        building.unlink(missing_ok=True)
        raise
    db.close()
    flush(building)
    building.rename(path.with_name(path.name + SALVAGED))
    flush(path.parent)
    finish(path)
    _log.warning("spool_salvaged file=%s kept=%s", path, kept)


def finish(path: Path) -> None:
    """Set the damaged file aside and put what was saved in its place. Raises OSError; can be repeated."""
    saved = path.with_name(path.name + SALVAGED)
    aside = path.with_name(f"{path.name}.damaged-{saved.stat().st_mtime_ns}")
    for suffix in ("-wal", "-shm", ""):  # a write-ahead log that stayed would be read into the new file
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    flush(path.parent)
    saved.rename(path)
    flush(path.parent)
    _log.warning("spool_set_aside file=%s", aside)


def _carry_over(pages: Pages, new: sqlite3.Connection, table: str) -> int:
    """Copy the rows of a table that are sound; tell how many."""
    columns = len(new.execute(f"PRAGMA table_info({table})").fetchall())
    # every spool is made by the same statements, so its tables have their roots where those of the new one have them
    (root,) = new.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    batches = table == "batch"
    rows = pages.rows(root, has_row_ids=batches)
    found = (row for row in rows if len(row) == columns and (not batches or _whole(row)))
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608  # our own names
    new.executemany(insert, found)
    new.execute(f"DELETE FROM {table} WHERE NOT ({SOUND[table]})")  # noqa: S608  # likewise
    (count,) = new.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # likewise
    return int(count)


def _whole(row: Row) -> bool:
    """Tell whether a batch's body is what was put in: a page of zeros, or of an older body, shows in its checksum."""
    body, rows = row[-1], row[_ROWS]
    if not isinstance(body, bytes):
        return False
    try:
        return rows == sum(len(block.rows) for block in decode_body(body))
    except WireError:
        return False


def _mark_missing(db: sqlite3.Connection) -> None:
    """Tell rows that were numbered and are neither here nor known to have gone.

    A run and a stream exist as far as anything that is left speaks of them. Which of the rows had been acknowledged,
    nobody knows any more; the aggregator does: what it has counts as done first.
    """
    db.execute(
        "INSERT OR IGNORE INTO epoch SELECT DISTINCT publisher, epoch, '', 0, 0 FROM"
        " (SELECT publisher, epoch FROM batch UNION SELECT publisher, epoch FROM stream"
        " UNION SELECT publisher, epoch FROM dropped)"
    )
    db.execute(
        "INSERT OR IGNORE INTO stream SELECT publisher, epoch, class, level, 0, 0, 0 FROM"
        " (SELECT publisher, epoch, class, level FROM batch UNION SELECT publisher, epoch, class, level FROM dropped)"
    )
    places: dict[tuple[object, ...], Intervals] = {}
    for table, end in (("batch", "first + rows"), ("dropped", "end")):
        select = f"SELECT publisher, epoch, class, level, first, {end} FROM {table}"  # noqa: S608  # our own names
        for *stream, first, last in db.execute(select):
            places.setdefault(tuple(stream), Intervals()).add(first, last)
    streams = db.execute("SELECT publisher, epoch, class, level, numbered FROM stream").fetchall()
    for *stream, numbered in streams:
        known = places.get(tuple(stream), Intervals())
        total = max(numbered, known.end)
        db.execute(
            "UPDATE stream SET numbered = ? WHERE publisher = ? AND epoch = ? AND class = ? AND level = ?",
            (total, *stream),
        )
        db.executemany(
            "INSERT OR IGNORE INTO dropped VALUES (?, ?, ?, ?, 'corrupt', ?, ?)",
            [(*stream, first, end) for first, end in known.missing(0, total)],
        )

"""What is done with a damaged spool file: it is set aside, and what can still be read of it goes on in a new one.

A crash at any moment costs nothing: what is saved grows in `<spool>.salvaging`, which is begun anew after a crash,
and becomes `<spool>.salvaged` when it is complete and on disk. After that only names change, and `finish` can be
repeated.
"""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path

from collectors.spool_schema import SALVAGED, SOUND, make
from schemas.intervals import Intervals

_log = logging.getLogger("muster.spool")


def salvage(path: Path, error: Exception) -> None:
    """Replace a damaged file by one with every row that SQLite can still read. Raises OSError and sqlite3.Error."""
    _log.error("spool_damaged file=%s error=%s", path, error)
    building = path.with_name(path.name + ".salvaging")
    building.unlink(missing_ok=True)  # a crash was faster
    db = sqlite3.connect(building, isolation_level="IMMEDIATE")
    try:
        db.execute("PRAGMA journal_mode = OFF")  # half of it is worth nothing: no way back is needed
        db.execute("PRAGMA synchronous = OFF")
        make(db)
        with db:
            kept = {table: _carry_over(path, db, table) for table in SOUND}
            _mark_missing(db)
    except BaseException:
        db.close()
        building.unlink(missing_ok=True)
        raise
    db.close()
    _flush(building)
    building.rename(path.with_name(path.name + SALVAGED))
    _flush(path.parent)
    finish(path)
    _log.warning("spool_salvaged file=%s kept=%s", path, kept)


def finish(path: Path) -> None:
    """Set the damaged file aside and put what was saved in its place. Raises OSError; can be repeated."""
    saved = path.with_name(path.name + SALVAGED)
    aside = path.with_name(f"{path.name}.damaged-{saved.stat().st_mtime_ns}")
    for suffix in ("-wal", "-shm", ""):  # a write-ahead log that stayed would be read into the new file
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    _flush(path.parent)
    saved.rename(path)
    _flush(path.parent)
    _log.warning("spool_set_aside file=%s", aside)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _carry_over(damaged: Path, new: sqlite3.Connection, table: str) -> int:
    """Copy a table from both ends, so that one bad page costs only what lies on it and what SQLite reads with it."""
    count = 0
    for direction in ("ASC", "DESC"):
        old = sqlite3.connect(f"file:{damaged}?mode=rw", uri=True)
        try:
            key = {"batch": "id"}.get(table, "publisher")
            select = f"SELECT * FROM {table} WHERE {SOUND[table]} ORDER BY {key} {direction}"  # noqa: S608  # our own names
            rows = old.execute(select)
        except sqlite3.DatabaseError:
            old.close()
            continue
        try:
            copied, whole = _copy(rows, new, table)
        finally:
            old.close()
        count += copied
        if whole:
            break  # else what lies behind the bad page comes from the other end
    return count


def _copy(rows: sqlite3.Cursor, new: sqlite3.Connection, table: str) -> tuple[int, bool]:
    """Copy rows until the end or the first that cannot be read; tell how many, and whether it was the end."""
    count = 0
    while True:
        try:
            row = rows.fetchone()
        except sqlite3.DatabaseError:
            return count, False
        if row is None:
            return count, True
        marks = ", ".join("?" * len(row))
        insert = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"  # noqa: S608  # our own names
        count += new.execute(insert, row).rowcount


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

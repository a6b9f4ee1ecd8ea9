"""What a spool file looks like: its tables, what a sound row of each is, and how it is opened."""

import sqlite3
from enum import IntEnum
from pathlib import Path
from typing import Final

from schemas.errors import SpoolError
from schemas.verbosity import Level, RowClass

VERSION: Final = 1
APPLICATION_ID: Final = 0x4D535052
"""Marks the file as a Muster spool ("MSPR")."""

SCHEMA: Final = """
CREATE TABLE epoch (
    publisher TEXT NOT NULL, epoch TEXT NOT NULL, boot TEXT NOT NULL, next_order INTEGER NOT NULL,
    begun INTEGER NOT NULL, PRIMARY KEY (publisher, epoch)) WITHOUT ROWID;
CREATE TABLE stream (
    publisher TEXT NOT NULL, epoch TEXT NOT NULL, class INTEGER NOT NULL, level INTEGER NOT NULL,
    filtered INTEGER NOT NULL, folded INTEGER NOT NULL, numbered INTEGER NOT NULL,
    PRIMARY KEY (publisher, epoch, class, level)) WITHOUT ROWID;
CREATE TABLE batch (
    id INTEGER PRIMARY KEY, publisher TEXT NOT NULL, epoch TEXT NOT NULL, class INTEGER NOT NULL,
    level INTEGER NOT NULL, first INTEGER NOT NULL, rows INTEGER NOT NULL, ord INTEGER NOT NULL, size INTEGER NOT NULL,
    grant_id TEXT NOT NULL,
    document TEXT NOT NULL, boottime INTEGER NOT NULL, wall INTEGER NOT NULL, boot TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE dropped (
    publisher TEXT NOT NULL, epoch TEXT NOT NULL, class INTEGER NOT NULL, level INTEGER NOT NULL, reason TEXT NOT NULL,
    first INTEGER NOT NULL, end INTEGER NOT NULL,
    PRIMARY KEY (publisher, epoch, class, level, reason, first)) WITHOUT ROWID;
CREATE TABLE position (
    publisher TEXT NOT NULL, collector TEXT NOT NULL, source TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (publisher, collector, source)) WITHOUT ROWID;
"""
SALVAGED: Final = ".salvaged"
"""Beside a spool: what was saved of it, complete, and not yet in its place."""
_MOST: Final = 1 << 62
"""No row has a larger number (`schemas.codec.MAX_NUMBER`)."""


def _texts(*columns: str) -> str:
    return " AND ".join(f"typeof({column}) = 'text'" for column in columns)


def _numbers(*columns: str) -> str:
    return " AND ".join(f"typeof({column}) = 'integer' AND {column} BETWEEN 0 AND {_MOST}" for column in columns)


def _among(column: str, words: type[IntEnum]) -> str:
    return f"{column} IN ({', '.join(str(int(word)) for word in words)})"


_STREAM: Final = f"{_among('class', RowClass)} AND {_among('level', Level)}"
SOUND: Final = {
    "epoch": f"{_texts('publisher', 'epoch', 'boot')} AND {_numbers('next_order', 'begun')}",
    "stream": f"{_texts('publisher', 'epoch')} AND {_STREAM} AND {_numbers('filtered', 'folded', 'numbered')}",
    "batch": (
        f"{_texts('publisher', 'epoch', 'grant_id', 'document', 'boot')} AND {_STREAM}"
        f" AND {_numbers('id', 'first', 'rows', 'ord', 'boottime', 'wall')}"
        " AND typeof(body) = 'blob' AND size = length(body)"
    ),
    "dropped": f"{_texts('publisher', 'epoch', 'reason')} AND {_STREAM} AND {_numbers('first', 'end')}",
    "position": _texts("publisher", "collector", "source", "value"),
}
"""By table: what is true of every row that was written here. Damage need not break SQLite's own structure."""


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open or make the file and look through it. Raises sqlite3.DatabaseError (SQLITE_CORRUPT where it is damaged).

    Raises SpoolError when it is of a newer version or not a spool.
    """
    # isolation_level None would need BEGINs by hand; IMMEDIATE makes `with connection` one write transaction
    db = sqlite3.connect(path, isolation_level="IMMEDIATE", check_same_thread=False, timeout=5.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA cache_size = -512")
        db.execute("PRAGMA journal_size_limit = 4194304")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        if version == 0 and application == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            make(db)
        elif application != APPLICATION_ID:
            raise SpoolError(f"{path} is not a Muster spool; name another file or move it away")
        elif version > VERSION:
            raise SpoolError(f"{path} was written by a newer Muster (spool version {version}); upgrade this one")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        unsound = next((table for table, sound in SOUND.items() if _any(db, table, sound)), None)
        if verdict != "ok" or unsound:
            damage = sqlite3.DatabaseError(verdict if verdict != "ok" else f"nonsense in the table {unsound}")
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
    except BaseException:
        db.close()
        raise
    return db


def make(db: sqlite3.Connection) -> None:
    """Make the tables in an empty file."""
    db.executescript(
        f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


def _any(db: sqlite3.Connection, table: str, sound: str) -> bool:
    unsound = f"SELECT 1 FROM {table} WHERE NOT ({sound}) LIMIT 1"  # noqa: S608  # our own names
    return db.execute(unsound).fetchone() is not None

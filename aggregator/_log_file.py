"""The file of the embedded log: how it is laid out, opened, locked and checked.

Records are clustered by one whole number that holds topic, partition and offset, so that reading a partition is a walk
along one B-tree, appending touches its right edge, and no second index is needed. What must survive a partition that
was trimmed to nothing (where the next offset is) lies in a table of its own.

Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html
"""

import copy
import fcntl
import os
import secrets
import sqlite3
from pathlib import Path
from typing import Final, Self

import msgspec

from aggregator.log import TOPICS, LogOpenError

SCHEMA_VERSION: Final = 1
"""What this program writes; a file with a larger one is refused."""
MAX_PARTITIONS: Final = 1 << 10
PAGE_BYTES: Final = 4096

_APPLICATION_ID: Final = 0x4D534C47  # "MSLG"
_OFFSET_BITS: Final = 48
_OFFSET_MASK: Final = (1 << _OFFSET_BITS) - 1
_MAX_TOPICS: Final = 1 << 5  # 5 + 10 + 48 bits: a positive 64-bit number
_SYNCHRONOUS: Final = ("OFF", "NORMAL", "FULL", "EXTRA")

_SCHEMA: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT",
    "CREATE TABLE topic (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
    """CREATE TABLE mark (slot INTEGER PRIMARY KEY, first INTEGER NOT NULL, next INTEGER NOT NULL,
       bytes INTEGER NOT NULL, appended_ns INTEGER NOT NULL) STRICT""",
    "CREATE TABLE record (key INTEGER PRIMARY KEY, appended_ns INTEGER NOT NULL, value BLOB NOT NULL) STRICT",
    f"PRAGMA application_id={_APPLICATION_ID}",
    f"PRAGMA user_version={SCHEMA_VERSION}",
)


class Mark(msgspec.Struct):
    """How one partition of one topic stands."""

    begin: int = 0
    end: int = 0
    bytes: int = 0
    """Of the values still here."""
    appended_ns: int = 0
    """When its newest record was taken, also after that was trimmed; 0 if there never was one."""

    def copy(self) -> Self:
        """Give one that changes on its own."""
        return copy.copy(self)


def slot_of(topic_number: int, partition: int) -> int:
    """Give the number of one partition of one topic within the file."""
    return topic_number * MAX_PARTITIONS + partition


def key_of(slot: int, offset: int) -> int:
    """Give the record's primary key: keys of one slot are adjacent and in the order of their offsets."""
    return slot << _OFFSET_BITS | offset


def offset_of(key: int) -> int:
    """Give the offset that a key holds."""
    return key & _OFFSET_MASK


class LogFile:
    """The open and locked file, with the one connection that writes. Made in one thread, then used by another."""

    def __init__(self, path: Path, *, partitions: int, synchronous: str) -> None:
        """Open `path`, or make it with `partitions` partitions a topic. Raises LogOpenError."""
        if synchronous not in _SYNCHRONOUS:
            raise ValueError(f"synchronous is one of {', '.join(_SYNCHRONOUS)}, not {synchronous!r}")
        if not 1 <= partitions <= MAX_PARTITIONS:
            raise ValueError(f"a log has 1 to {MAX_PARTITIONS} partitions, not {partitions}")
        self.path = path
        self._lock = _lock(path)
        try:
            self.connection = _connect(path, synchronous)
            try:
                self._read_head(partitions)
            except BaseException:
                self.connection.close()
                raise
        except sqlite3.Error as error:
            os.close(self._lock)
            raise LogOpenError(f"{path} cannot be opened as a log: {error}; {_REMEDY}") from None
        except BaseException:
            os.close(self._lock)
            raise

    def _read_head(self, partitions: int) -> None:
        connection = self.connection
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        application = int(connection.execute("PRAGMA application_id").fetchone()[0])
        tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
        if tables and application != _APPLICATION_ID:
            raise LogOpenError(f"{self.path} is a database, but not a log of Muster; {_REMEDY}")
        if version > SCHEMA_VERSION:
            raise LogOpenError(
                f"{self.path} was written by a newer Muster (log schema {version}; this program knows up to "
                f"{SCHEMA_VERSION}): run that version, or move the file away to begin a new log"
            )
        if not tables:
            _make(connection, partitions)
            _sync_folder(self.path.parent)
        meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        self.id = str(meta["id"])
        self.partitions = int(meta["partitions"])
        self.topics = _number_topics(connection)
        self.marks = self._read_marks()

    def _read_marks(self) -> dict[int, Mark]:
        """Give the mark of every slot, checked against the records: one transaction wrote both, so they agree."""
        connection = self.connection
        rows = connection.execute("SELECT slot, first, next, bytes, appended_ns FROM mark").fetchall()
        stored = {slot: Mark(*rest) for slot, *rest in rows}
        marks: dict[int, Mark] = {}
        for number in self.topics.values():
            for partition in range(self.partitions):
                slot = slot_of(number, partition)
                mark = marks[slot] = stored.get(slot, Mark())
                low, high = connection.execute(
                    "SELECT (SELECT min(key) FROM record WHERE key >= ?1 AND key < ?2),"
                    " (SELECT max(key) FROM record WHERE key >= ?1 AND key < ?2)",
                    (key_of(slot, 0), key_of(slot + 1, 0)),
                ).fetchone()
                found = (mark.end, mark.end) if low is None else (offset_of(low), offset_of(high) + 1)
                if found != (mark.begin, mark.end):
                    raise LogOpenError(
                        f"{self.path} is damaged: a partition should hold {mark.begin} to {mark.end} and holds "
                        f"{found[0]} to {found[1]}; {_REMEDY}"
                    )
        return marks

    def close(self) -> None:
        """Move everything from the write-ahead log into the file, and let go."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # a full disk, say: the write-ahead log stays, and holds what it holds
        finally:
            self.connection.close()
            os.close(self._lock)


_REMEDY: Final = "move it away (with its -wal and -shm files) to begin a new log"


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that only reads; the file must be open for writing beside it."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5
    )
    connection.execute("PRAGMA cache_size=-512")
    return connection


def _lock(path: Path) -> int:
    """Take the lock file beside `path`: the descriptor that holds it until closed.

    A file of its own, because closing any descriptor of the database would drop SQLite's own locks on it.
    """
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LogOpenError(f"{path} cannot be opened as a log: {error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LogOpenError(
            f"{path} is open already: one process may use a log, once. Stop the other aggregator, or give this one "
            "a data folder of its own"
        ) from None
    return descriptor


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    # timeout: only a checkpoint ever waits, for a reader; appends must not stand behind it for long
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
    try:
        if not path.stat().st_size:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint=0")  # the writer thread decides when
        connection.execute("PRAGMA secure_delete=OFF")  # Debian builds it on: every trimmed page would be written
        connection.execute("PRAGMA cache_size=-2048")
        connection.execute("PRAGMA temp_store=MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection, partitions: int) -> None:
    """Lay the empty log out in one transaction: a crash leaves a log or an empty file."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    head = [("id", secrets.token_hex(16)), ("partitions", str(partitions))]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", head)
    connection.execute("COMMIT")


def _number_topics(connection: sqlite3.Connection) -> dict[str, int]:
    """Give each topic its number in this file: kept, so that the order of `TOPICS` may change."""
    numbers: dict[str, int] = {name: number for number, name in connection.execute("SELECT number, name FROM topic")}
    missing = [name for name in TOPICS if name not in numbers]
    if missing:
        start = max(numbers.values(), default=-1) + 1
        fresh = range(start, start + len(missing))
        if fresh.stop > _MAX_TOPICS:
            raise LogOpenError(f"a log holds at most {_MAX_TOPICS} topics")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO topic VALUES (?, ?)", zip(fresh, missing, strict=True))
        connection.execute("COMMIT")
        numbers.update(zip(missing, fresh, strict=True))
    return numbers


def _sync_folder(folder: Path) -> None:
    """Make the new file's name durable: SQLite does so for its journals only."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

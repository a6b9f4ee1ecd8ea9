"""The spool's SQLite file: its tables, its transactions, and what is done when it is damaged.

Source: SQLite 3.40, WAL mode with synchronous=FULL: a transaction that returned survives a power cut.
"""

import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schemas.errors import SpoolError
from schemas.intervals import Interval
from schemas.verbosity import Level, RowClass

if TYPE_CHECKING:
    from collectors.spool import Counts, Held

_log = logging.getLogger("muster.spool")
VERSION: Final = 1
APPLICATION_ID: Final = 0x4D535052
"""Marks the file as a Muster spool ("MSPR")."""

_SCHEMA: Final = """
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
_BATCH_COLUMNS: Final = (
    "id, epoch, class, level, first, rows, ord, size, grant_id, document, boottime, wall, boot"  # without the body
)
_TABLES: Final = ("epoch", "stream", "batch", "dropped", "position")


class EpochRow(NamedTuple):
    """A row of the table `epoch`."""

    epoch: str
    boot: str
    next_order: int


class StreamRow(NamedTuple):
    """A row of the table `stream`."""

    epoch: str
    row_class: int
    level: int
    filtered: int
    folded: int
    numbered: int


class DroppedRow(NamedTuple):
    """A row of the table `dropped`."""

    epoch: str
    row_class: int
    level: int
    reason: str
    first: int
    end: int


class State(NamedTuple):
    """Everything that a publisher's spool held when it was opened, but the bodies."""

    epochs: list[EpochRow]
    streams: list[StreamRow]
    dropped: list[DroppedRow]
    held: "list[Held]"
    positions: dict[tuple[str, str], str]
    next_id: int


class SpoolFile:
    """One open spool file. Every method raises sqlite3.Error when the disk does not obey; the file stays usable."""

    def __init__(self, path: Path, connection: sqlite3.Connection, synchronous: str) -> None:
        self.path = path
        self.db = connection
        """For what is done to a file as a whole (salvage, tests)."""
        self._synchronous = synchronous

    def load(self, publisher: str) -> State:
        """Read what is there, epochs oldest first."""
        from collectors.spool import Held

        db, who = self.db, (publisher,)
        epochs = db.execute("SELECT epoch, boot, next_order FROM epoch WHERE publisher = ? ORDER BY begun", who)
        streams = db.execute(
            "SELECT epoch, class, level, filtered, folded, numbered FROM stream WHERE publisher = ?", who
        )
        dropped = db.execute("SELECT epoch, class, level, reason, first, end FROM dropped WHERE publisher = ?", who)
        batches = db.execute(f"SELECT {_BATCH_COLUMNS} FROM batch WHERE publisher = ? ORDER BY id", who)
        positions = db.execute("SELECT collector, source, value FROM position WHERE publisher = ?", who)
        (last_id,) = db.execute("SELECT coalesce(max(id), 0) FROM batch").fetchone()
        return State(
            [EpochRow(*row) for row in epochs],
            [StreamRow(*row) for row in streams],
            [DroppedRow(*row) for row in dropped],
            [Held(row[0], row[1], RowClass(row[2]), Level(row[3]), *row[4:]) for row in batches],
            {(collector, source): value for collector, source, value in positions},
            last_id + 1,
        )

    def begin_epoch(self, publisher: str, epoch: str, boot: str) -> None:
        """Note a new run, durably, before any of its rows."""
        with self.db:
            begun = self.db.execute("SELECT coalesce(max(begun), 0) + 1 FROM epoch").fetchone()[0]
            self.db.execute("INSERT INTO epoch VALUES (?, ?, ?, 0, ?)", (publisher, epoch, boot, begun))

    def commit(
        self,
        publisher: str,
        epoch: str,
        plan: "list[tuple[Held, bytes]]",
        counts: "Mapping[tuple[RowClass, Level], Counts]",
        positions: Mapping[tuple[str, str], str],
    ) -> None:
        """Write rows, numbers, totals and positions in one transaction."""
        totals: dict[tuple[int, int], list[int]] = {}
        for (row_class, level), count in counts.items():
            totals[row_class, level] = [count.filtered, count.folded, 0]
        for held, _ in plan:
            totals.setdefault((held.row_class, held.level), [0, 0, 0])[2] += held.rows
        with self.db:
            self.db.executemany(
                "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*_batch_row(publisher, held), body) for held, body in plan],
            )
            self.db.executemany(
                "INSERT INTO stream VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET filtered = filtered"
                " + excluded.filtered, folded = folded + excluded.folded, numbered = numbered + excluded.numbered",
                [(publisher, epoch, *key, *deltas) for key, deltas in totals.items()],
            )
            if plan:
                self.db.execute(
                    "UPDATE epoch SET next_order = ? WHERE publisher = ? AND epoch = ?",
                    (plan[-1][0].order + 1, publisher, epoch),
                )
            self.db.executemany(
                "INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?)",
                [(publisher, collector, source, value) for (collector, source), value in positions.items()],
            )

    def delete(self, ids: list[int]) -> None:
        """Forget batches. Left to the next commit's fsync: were it lost, they would be sent again."""
        self.db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self.db:
                self.db.executemany("DELETE FROM batch WHERE id = ?", [(batch_id,) for batch_id in ids])
        finally:
            self.db.execute(f"PRAGMA synchronous = {self._synchronous}")

    def drop(self, publisher: str, gone: "list[Held]", reason: str) -> None:
        """Forget batches and remember, in the same transaction, which rows that were."""
        with self.db:
            self.db.executemany("DELETE FROM batch WHERE id = ?", [(held.id,) for held in gone])
            self.db.executemany(
                "INSERT OR REPLACE INTO dropped VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (publisher, held.epoch, held.row_class, held.level, reason, held.first, held.first + held.rows)
                    for held in gone
                ],
            )

    def body(self, batch_id: int) -> bytes | None:
        """Read one body; None when there is no such batch. Raises sqlite3.DatabaseError when it cannot be read."""
        row = self.db.execute("SELECT body FROM batch WHERE id = ?", (batch_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def forget_dropped(
        self, publisher: str, epoch: str, row_class: int, level: int, reason: str, intervals: Iterable[Interval]
    ) -> None:
        """Forget that rows were dropped: the aggregator knows."""
        with self.db:
            self.db.executemany(
                "DELETE FROM dropped WHERE publisher = ? AND epoch = ? AND class = ? AND level = ? AND reason = ?"
                " AND first >= ? AND end <= ?",
                [(publisher, epoch, row_class, level, reason, first, end) for first, end in intervals],
            )

    def forget_epoch(self, publisher: str, epoch: str) -> None:
        """Forget a run of which nothing is left to say."""
        with self.db:
            for table in ("epoch", "stream", "dropped"):
                self.db.execute(f"DELETE FROM {table} WHERE publisher = ? AND epoch = ?", (publisher, epoch))

    def shrink_wal(self) -> None:
        """Write the WAL back and cut it to nothing: frees disk when the disk is full."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Write the WAL back and let go. Safe twice."""
        self.db.close()


def open_spool_file(path: Path, synchronous: str = "FULL") -> SpoolFile:
    """Open or make a spool file. A damaged one is set aside, and what can be read of it is carried over.

    Raises SpoolError when it is of a newer version, is not a spool, or cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open(path, synchronous)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise SpoolError(f"{path}: {error}") from error
        return _salvage(path, synchronous, error)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _open(path: Path, synchronous: str) -> SpoolFile:
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
            db.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {VERSION}; COMMIT;"
            )
        elif application != APPLICATION_ID:
            raise SpoolError(f"{path} is not a Muster spool; name another file or move it away")
        elif version > VERSION:
            raise SpoolError(f"{path} was written by a newer Muster (spool version {version}); upgrade this one")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            damage = sqlite3.DatabaseError(verdict)
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
    except BaseException:
        db.close()
        raise
    return SpoolFile(path, db, synchronous)


def _salvage(path: Path, synchronous: str, error: Exception) -> SpoolFile:
    """Set a damaged file aside and carry over every row that SQLite can still read."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    _log.error("spool_damaged file=%s set_aside=%s error=%s", path, aside, error)
    fresh = _open(path, synchronous)
    kept = {table: _carry_over(aside, fresh, table) for table in _TABLES}
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
            rows: Iterable[tuple[Any, ...]] = old.execute(f"SELECT * FROM {table} ORDER BY {keys} {direction}")
            for row in rows:
                with fresh.db:
                    marks = ", ".join("?" * len(row))
                    count += fresh.db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row).rowcount
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
    from schemas.intervals import Intervals

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


def _batch_row(publisher: str, held: "Held") -> tuple[Any, ...]:
    return (
        held.id,
        publisher,
        held.epoch,
        held.row_class,
        held.level,
        held.first,
        held.rows,
        held.order,
        held.size,
        held.grant,
        held.document,
        held.born_boottime_ns,
        held.born_wall_ns,
        held.boot,
    )

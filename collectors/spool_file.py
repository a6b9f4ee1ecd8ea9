"""The spool's SQLite file: its tables, its transactions, and what is done when it is damaged.

Source: SQLite 3.40, WAL mode with synchronous=FULL: a transaction that returned survives a power cut.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from collectors.failpoint import failpoint
from collectors.spool_reserve import Reserve
from collectors.spool_schema import SALVAGED, connect
from collectors.spool_state import DroppedRow, EpochRow, State, StreamRow
from collectors.spooled import Counts, Held, Key
from schemas.errors import SpoolError
from schemas.intervals import Interval, Intervals
from schemas.verbosity import Level, RowClass

_BATCH_COLUMNS: Final = (
    "id, epoch, class, level, first, rows, ord, size, grant_id, document, boottime, wall, boot"  # without the body
)
_DROPPED_KEY: Final = "publisher = ? AND epoch = ? AND class = ? AND level = ? AND reason = ?"


class Write(NamedTuple):
    """What one publisher has for a transaction."""

    publisher: str
    epoch: str
    batches: list[tuple[Held, bytes]]
    counts: Mapping[Key, Counts]
    positions: Mapping[tuple[str, str], str]
    gave_up: Sequence[tuple[Held, str]] = ()
    """Batches that make room for the new ones, and why."""


class SpoolFile:
    """One open spool file, of one publisher or of many that share its transactions.

    Every method raises sqlite3.Error when the disk does not obey; the file stays usable. Callers hold `lock`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, synchronous: str) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.later = False
        """Whether forgetting waits for the next commit: for files with so many publishers that each one's answer would
        otherwise cost a transaction. What a crash takes of it is sent again, and known as repeated."""
        self.db = connection
        """For what is done to a file as a whole (salvage, tests)."""
        self._synchronous = synchronous
        self._reserve = Reserve(path)
        self._reserve.keep()
        self._limited = False
        self._waiting: list[tuple[str, list[tuple[Any, ...]]]] = []
        self._next_id = 1

    def take_ids(self, count: int) -> int:
        """Give the first of `count` new batch ids."""
        first = self._next_id
        self._next_id += count
        return first

    def load(self) -> dict[str, State]:
        """Read what is there, by publisher."""
        db = self.db
        (self._next_id,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM batch").fetchone()
        states: dict[str, State] = {}

        def of(publisher: str) -> State:
            return states.setdefault(publisher, State())

        for publisher, *epoch in db.execute("SELECT publisher, epoch, boot, next_order FROM epoch ORDER BY begun"):
            of(publisher).epochs.append(EpochRow(*epoch))
        for publisher, *stream in db.execute("SELECT * FROM stream"):
            of(publisher).streams.append(StreamRow(*stream))
        for publisher, *dropped in self._merge_dropped(db.execute("SELECT * FROM dropped").fetchall()):
            of(publisher).dropped.append(DroppedRow(*dropped))
        words: dict[str, str] = {}  # one object for each epoch and boot, however many batches name it
        for publisher, *row in db.execute(f"SELECT publisher, {_BATCH_COLUMNS} FROM batch ORDER BY id"):
            row[1], row[-1] = words.setdefault(row[1], row[1]), words.setdefault(row[-1], row[-1])
            of(publisher).held.append(Held(row[0], row[1], RowClass(row[2]), Level(row[3]), *row[4:]))
        for publisher, collector, source, value in db.execute("SELECT * FROM position"):
            of(publisher).positions[collector, source] = value
        return states

    def begin_epochs(self, epochs: Iterable[tuple[str, str, str]]) -> None:
        """Note new runs (publisher, epoch, boot), durably, before any of their rows."""
        new = list(epochs)

        def begin() -> None:
            with self.db:
                begun = self.db.execute("SELECT coalesce(max(begun), 0) + 1 FROM epoch").fetchone()[0]
                self.db.executemany("INSERT INTO epoch VALUES (?, ?, ?, 0, ?)", [(*epoch, begun) for epoch in new])
                failpoint("spool.epoch.written")
            failpoint("spool.epoch.committed")

        self._with_reserve(begin)  # on a full disk too: only a new run can drain what is here

    def commit(self, writes: Iterable[Write]) -> None:
        """Write rows, numbers, totals and positions, and what is given up for them, in one transaction."""
        new = list(writes)
        self._may_grow()
        try:
            self._commit(new)
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            self._write_back()  # pages that forgetting freed may be all the room that it needs
            self._commit(new)

    def commit_instead(self, writes: Iterable[Write]) -> None:
        """Commit where the disk is full and `gave_up` frees as much as is written: with the room kept in reserve.

        From then on the file must not grow: the write-ahead log would take rows that there is no room to write back,
        and with it full of those nothing could be given up or forgotten any more. It may grow again with a new reserve.
        """
        new = list(writes)

        def commit() -> None:
            self._limit_growth()
            self._commit(new)

        self._with_reserve(commit)

    def _limit_growth(self) -> None:
        (pages,) = self.db.execute("PRAGMA page_count").fetchone()
        self.db.execute(f"PRAGMA max_page_count = {pages}")
        self._limited = True

    def _may_grow(self) -> None:
        if self._limited and self._reserve.renew():
            self.db.execute("PRAGMA max_page_count = 1073741823")  # SQLite's own limit
            self._limited = False

    def _commit(self, writes: Sequence[Write]) -> None:
        with self.db:
            for sql, rows in self._waiting:
                self.db.executemany(sql, rows)
            for write in writes:
                if write.gave_up:
                    self._give_up(write.publisher, write.gave_up)
                self._write(write)
            failpoint("spool.commit.written")
        failpoint("spool.commit.committed")
        self._waiting = []

    def _write(self, write: Write) -> None:
        publisher, epoch, batches = write.publisher, write.epoch, write.batches
        totals: dict[tuple[int, int], list[int]] = {}
        for (row_class, level), count in write.counts.items():
            totals[row_class, level] = [count.filtered, count.folded, 0]
        for held, _ in batches:
            totals.setdefault((held.row_class, held.level), [0, 0, 0])[2] += held.rows
        self.db.executemany(
            "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*_batch_row(publisher, held), body) for held, body in batches],
        )
        self.db.executemany(
            "INSERT INTO stream VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET filtered = filtered"
            " + excluded.filtered, folded = folded + excluded.folded, numbered = numbered + excluded.numbered",
            [(publisher, epoch, *key, *deltas) for key, deltas in totals.items()],
        )
        if batches:
            self.db.execute(
                "UPDATE epoch SET next_order = ? WHERE publisher = ? AND epoch = ?",
                (batches[-1][0].order + 1, publisher, epoch),
            )
        self.db.executemany(
            "INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?)",
            [(publisher, collector, source, value) for (collector, source), value in write.positions.items()],
        )

    def delete(self, ids: list[int]) -> None:
        """Forget batches. Left to the next commit's fsync: were it lost, they would be sent again."""
        sql, rows = "DELETE FROM batch WHERE id = ?", [(batch_id,) for batch_id in ids]
        if self.later:
            self._waiting.append((sql, rows))
            return
        self.db.execute("PRAGMA synchronous = NORMAL")
        try:
            self._with_reserve(lambda: self._delete(sql, rows))
        finally:
            self.db.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _delete(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        with self.db:
            self.db.executemany(sql, rows)
            failpoint("spool.delete.written")
        failpoint("spool.delete.committed")

    def drop(self, publisher: str, gone: Sequence[tuple[Held, str]]) -> None:
        """Forget batches and remember, in the same transaction, which rows that were and why."""

        def drop() -> None:
            with self.db:
                self._give_up(publisher, gone)
                failpoint("spool.drop.written")
            failpoint("spool.drop.committed")

        self._with_reserve(drop)

    def _give_up(self, publisher: str, gone: Sequence[tuple[Held, str]]) -> None:
        self.db.executemany("DELETE FROM batch WHERE id = ?", [(held.id,) for held, _ in gone])
        streams: dict[tuple[str, str, int, int, str], Intervals] = {}
        for held, reason in gone:
            key = (publisher, held.epoch, held.row_class, held.level, reason)
            streams.setdefault(key, Intervals()).add(held.first, held.first + held.rows)
        for stream, intervals in streams.items():
            for first, end in intervals:
                self._remember_dropped(stream, first, end)

    def _remember_dropped(self, key: tuple[str, str, int, int, str], first: int, end: int) -> None:
        """Note dropped rows as one interval with those that they touch: a row for each batch would grow for ever."""
        before = f"SELECT first, end FROM dropped WHERE {_DROPPED_KEY} AND first <= ? ORDER BY first DESC LIMIT 1"
        while (row := self.db.execute(before, (*key, end)).fetchone()) is not None and row[1] >= first:
            self.db.execute(f"DELETE FROM dropped WHERE {_DROPPED_KEY} AND first = ?", (*key, row[0]))
            first, end = min(first, row[0]), max(end, row[1])
        self.db.execute("INSERT INTO dropped VALUES (?, ?, ?, ?, ?, ?, ?)", (*key, first, end))

    def _merge_dropped(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Give the table `dropped` with every interval as large as it can be; write it so where there is room."""
        streams: dict[tuple[Any, ...], Intervals] = {}
        for *key, first, end in rows:
            streams.setdefault(tuple(key), Intervals()).add(first, end)
        merged = [(*key, first, end) for key, intervals in streams.items() for first, end in intervals]

        def write() -> None:
            with self.db:
                self.db.execute("DELETE FROM dropped")
                self.db.executemany("INSERT INTO dropped VALUES (?, ?, ?, ?, ?, ?, ?)", merged)

        if len(merged) < len(rows):
            with contextlib.suppress(sqlite3.Error):  # it says the same either way
                self._with_reserve(write)
        return merged

    def body(self, batch_id: int) -> bytes | None:
        """Read one body; None when there is no such batch. Raises sqlite3.DatabaseError when it cannot be read."""
        row = self.db.execute("SELECT body FROM batch WHERE id = ?", (batch_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def forget_dropped(
        self, publisher: str, epoch: str, row_class: int, level: int, reason: str, intervals: Iterable[Interval]
    ) -> None:
        """Forget that rows were dropped: the aggregator knows. What an interval holds besides stays."""
        key = (publisher, epoch, row_class, level, reason)
        pairs = [(first, end, *key) for first, end in intervals]
        where = _DROPPED_KEY.replace("?", "?{}").format(3, 4, 5, 6, 7)
        behind = f"SELECT ?3, ?4, ?5, ?6, ?7, ?2, end FROM dropped WHERE {where} AND first < ?2 AND end > ?2"
        self._forget(
            (f"INSERT OR REPLACE INTO dropped {behind}", pairs),
            (f"UPDATE dropped SET end = ?1 WHERE {where} AND first < ?1 AND end > ?1 AND ?2 > ?1", pairs),
            (f"DELETE FROM dropped WHERE {where} AND first >= ?1 AND first < ?2", pairs),
        )

    def forget_epoch(self, publisher: str, epoch: str) -> None:
        """Forget a run of which nothing is left to say."""
        self._forget(
            *(
                (f"DELETE FROM {table} WHERE publisher = ? AND epoch = ?", [(publisher, epoch)])
                for table in ("epoch", "stream", "dropped")
            )
        )

    def _forget(self, *statements: tuple[str, list[tuple[Any, ...]]]) -> None:
        if self.later:
            self._waiting.extend(statements)
            return

        def forget() -> None:
            with self.db:
                for sql, rows in statements:
                    self.db.executemany(sql, rows)
                failpoint("spool.told.written")
            failpoint("spool.told.committed")

        self._with_reserve(forget)

    def flush(self) -> None:
        """Do what waits for the next commit."""
        if self._waiting:
            self.commit([])

    def _with_reserve(self, work: Callable[[], None]) -> None:
        """Do what makes the spool emptier; where the disk is too full even for that, with the room kept in reserve."""
        try:
            work()
        except sqlite3.Error as error:
            if not is_full(error) or not self._reserve.give():
                raise
            try:
                self._write_back()
                work()
                self._write_back()
            finally:
                self._reserve.keep()

    def _write_back(self) -> None:
        """Write the write-ahead log back, so that it begins again at its start and need not grow. Raises nothing."""
        with contextlib.suppress(sqlite3.Error):  # no room for that either: what follows says so
            self.db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def close(self) -> None:
        """Write the WAL back and let go. Safe twice."""
        self.db.close()


def open_spool_file(path: Path, synchronous: str = "FULL") -> SpoolFile:
    """Open or make a spool file. A damaged one is set aside, and what can be read of it is carried over.

    Raises SpoolError when it is of a newer version, is not a spool, or cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.with_name(path.name + SALVAGED).exists():
            from collectors.spool_salvage import finish  # seldom needed

            finish(path)
        try:
            db = connect(path, synchronous)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            from collectors.spool_salvage import salvage  # seldom needed

            salvage(path, error)
            db = connect(path, synchronous)
    except (sqlite3.Error, OSError) as error:
        raise SpoolError(f"{path}: {error}") from error
    return SpoolFile(path, db, synchronous)


def is_full(error: sqlite3.Error) -> bool:
    """Whether it was that the disk is full."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF == sqlite3.SQLITE_FULL


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether it was that the file is damaged; else the disk may obey the next time."""
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _batch_row(publisher: str, held: Held) -> tuple[Any, ...]:
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

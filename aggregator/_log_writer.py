"""The one thread that writes the embedded log: it merges the appends that wait into one commit.

A commit costs one fsync however much is in it, so a hundred callers at once pay for one. Nothing is delayed to fill a
commit: while one is under way, the next one fills by itself. Trimming happens between commits, a piece at a time.
"""

import os
import queue
import sqlite3
import threading
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from aggregator._log_file import PAGE_BYTES, LogFile, Mark, key_of, offset_of
from aggregator.log import LogFullError, Record
from collectors.failpoint import failpoint

GROUP_BYTES: Final = 4 << 20
"""A commit takes no further append once it holds this much."""
CHECKPOINT_BYTES: Final = 4 << 20
"""The write-ahead log is moved into the file when about this much was written to it."""
WAL_BYTES: Final = 16 << 20
"""From here on the checkpoint waits for readers, so that the write-ahead log begins again at its start."""
_TRIM_RECORDS: Final = 512
_TRIM_BYTES: Final = 1 << 20
_SLACK_BYTES: Final = 1 << 20  # what pages waste, and the inner pages of the tree, at most, for one commit
_FRAME_BYTES: Final = PAGE_BYTES + 24


class Append(msgspec.Struct):
    """One call that waits: its entries go in together or not at all."""

    entries: list[tuple[int, bytes]]
    """Slot and value of each."""
    size: int
    """The bytes of all values."""
    future: "Future[list[int]]"
    records: list[Record] = []
    """What became of the entries, in order, once committed."""


class Trim(msgspec.Struct):
    """One trimming that waits, or is half done."""

    slot: int
    before: int
    future: "Future[None]"


class Outcome(msgspec.Struct):
    """What one transaction did; all of it on disk, or `error` says why none of it is."""

    appends: list[Append] = []
    trims: list[Trim] = []
    marks: dict[int, Mark] = {}
    """The slots that changed, as they stand now. Whoever gets them owns them."""
    error: str = ""


class LogWriter(threading.Thread):
    """The writer thread. `put` and `stop` may be called from any thread; `deliver` is called from this one."""

    def __init__(
        self, file: LogFile, deliver: Callable[[Outcome], None], *, clock: Callable[[], int], min_free_bytes: int
    ) -> None:
        super().__init__(name="log-writer", daemon=True)
        self._file = file
        self._deliver = deliver
        self._clock = clock
        self._min_free_bytes = min_free_bytes
        self._queue: queue.SimpleQueue[Append | Trim | None] = queue.SimpleQueue()
        self._trims: deque[Trim] = deque()
        self._marks = {slot: mark.copy() for slot, mark in file.marks.items()}
        self._stopping = False
        self._unchecked = CHECKPOINT_BYTES  # what a crash left in the write-ahead log is looked at once
        self._check_at = CHECKPOINT_BYTES

    def put(self, task: Append | Trim) -> None:
        """Queue a task; its future is settled by whoever `deliver` reaches."""
        self._queue.put(task)

    def stop(self) -> None:
        """Finish what is queued, close the file, end the thread."""
        self._queue.put(None)

    def run(self) -> None:
        while not (self._stopping and self._queue.empty() and not self._trims):
            appends = self._gather()
            if appends:
                self._commit(appends)
            if self._trims:
                self._trim(self._trims[0])
            if self._unchecked >= self._check_at:
                self._checkpoint()
        self._file.close()

    def _gather(self) -> list[Append]:
        """Wait for something to do, then take all that waits, up to a commit's size."""
        appends: list[Append] = []
        size = 0
        block = not (self._trims or self._stopping)
        while size < GROUP_BYTES:
            try:
                task = self._queue.get(block)
            except queue.Empty:
                break
            block = False
            if isinstance(task, Append):
                appends.append(task)
                size += task.size
            elif isinstance(task, Trim):
                self._trims.append(task)
            else:
                self._stopping = True
        return appends

    def _commit(self, appends: list[Append]) -> None:
        now = self._clock()
        changed: dict[int, Mark] = {}
        rows: list[tuple[int, int, bytes]] = []
        for append in appends:
            append.records = []
            for slot, value in append.entries:
                mark = changed.get(slot)
                if mark is None:
                    mark = changed[slot] = self._marks[slot].copy()
                    mark.appended_ns = max(now, mark.appended_ns)
                append.records.append(Record(mark.end, mark.appended_ns, value))
                rows.append((key_of(slot, mark.end), mark.appended_ns, value))
                mark.end += 1
                mark.bytes += len(value)
        size = sum(append.size for append in appends)
        error = self._no_room(size) or self._transact(changed, "INSERT INTO record VALUES (?, ?, ?)", rows)
        self._unchecked += size
        self._deliver(Outcome(appends=appends, marks=changed, error=error))

    def _trim(self, trim: Trim) -> None:
        """Do one piece of a trimming, from the oldest record on."""
        mark = self._marks[trim.slot].copy()
        piece, error = mark.begin, ""
        if trim.before > mark.begin:
            try:
                piece, size = self._piece(trim, mark)
            except sqlite3.Error as failure:
                error = _reason(failure)
            else:
                mark.begin, mark.bytes = piece, mark.bytes - size
                keys = [(key_of(trim.slot, 0), key_of(trim.slot, piece))]
                error = self._transact({trim.slot: mark}, "DELETE FROM record WHERE key >= ? AND key < ?", keys)
        done = bool(error) or piece >= trim.before
        if done:
            self._trims.popleft()
        self._deliver(Outcome(trims=[trim] if done else [], marks={trim.slot: mark}, error=error))

    def _piece(self, trim: Trim, mark: Mark) -> tuple[int, int]:
        """Give where the next piece of a trimming ends, and the bytes of its values."""
        rows = self._file.connection.execute(
            "SELECT key, length(value) FROM record WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (key_of(trim.slot, mark.begin), key_of(trim.slot, trim.before), _TRIM_RECORDS),
        ).fetchall()
        end, size = mark.begin, 0
        for key, length in rows:
            end, size = offset_of(key) + 1, size + length
            if size >= _TRIM_BYTES:
                break
        return end, size

    def _transact(self, changed: dict[int, Mark], statement: str, rows: Sequence[tuple[int | bytes, ...]]) -> str:
        """Run one transaction: "" once it is on disk, else why nothing of it was kept."""
        connection = self._file.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, rows)
            connection.executemany(
                "INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?, ?)",
                [(slot, mark.begin, mark.end, mark.bytes, mark.appended_ns) for slot, mark in changed.items()],
            )
            failpoint("log.commit.written")
            connection.execute("COMMIT")
            failpoint("log.commit.committed")
        except sqlite3.Error as error:
            self._undo()
            self._unchecked = max(self._unchecked, self._check_at)  # room in the write-ahead log may be all it needs
            return _reason(error)
        for slot, mark in changed.items():
            self._marks[slot] = mark.copy()
        self._unchecked += _FRAME_BYTES * (2 + len(changed))
        return ""

    def _undo(self) -> None:
        try:
            if self._file.connection.in_transaction:
                self._file.connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # SQLite rolls back by itself on the errors after which ROLLBACK fails

    def _no_room(self, size: int) -> str:
        """Tell whether the file system is so full that appending must stop, so that trimming and others can go on.

        Pages that trimming freed inside the file are room as well: the file keeps them. Of a small file system a
        quarter is kept, or the log would never begin.
        """
        if not self._min_free_bytes:
            return ""
        try:
            state = os.statvfs(self._file.path.parent)
            free = state.f_bavail * state.f_frsize
            kept = min(self._min_free_bytes, state.f_blocks * state.f_frsize // 4)
            if free >= kept:
                return ""
            (pages,) = self._file.connection.execute("PRAGMA freelist_count").fetchone()
        except (OSError, sqlite3.Error):
            return ""  # the transaction will say what is wrong
        if pages * PAGE_BYTES >= size + _SLACK_BYTES:
            return ""
        return f"the disk is nearly full: {free} bytes free, and {kept} are kept for trimming"

    def _checkpoint(self) -> None:
        """Move the write-ahead log into the file; past its bound, wait (0.5 s at most) until it can restart."""
        connection = self._file.connection
        left = 0
        try:
            _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            left = frames - moved
            if frames * _FRAME_BYTES >= WAL_BYTES:
                busy, *_ = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                left = frames if busy else 0
        except sqlite3.Error:
            left = self._unchecked // _FRAME_BYTES  # full disk: what is in the write-ahead log stays there
        self._unchecked = left * _FRAME_BYTES
        self._check_at = self._unchecked + CHECKPOINT_BYTES


def _reason(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    return f"the log cannot write: {error}" + (f" ({name})" if name else "")


def full_error(reason: str) -> LogFullError:
    """Give an error of its own to each caller: an exception object keeps the traceback of who raised it."""
    return LogFullError(f"{reason}; nothing was kept, send it again later")

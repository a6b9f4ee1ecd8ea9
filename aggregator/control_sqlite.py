"""The embedded control database: one SQLite file, one thread that writes it, and a few that read it.

A commit costs one fsync however much is in it, so the writer merges the transactions that wait into one commit; of
several, each is in a savepoint of its own: one that raises is undone alone. Nothing is delayed to fill a commit; while
one is under way the next fills by itself. Nobody is told a result before the commit that holds it is on disk (WAL,
`synchronous=FULL`).

When SQLite gives up a whole commit (disk full, I/O error), its transactions are tried again one by one, so that the one
that asked for too much is the only one to fail. The process goes on, and the next transaction may succeed.

Source: sqlite.org/wal.html, sqlite.org/lang_transaction.html ("Response To Errors Within A Transaction");
SQLAlchemy 2.1, dialects/sqlite, "Serializable isolation / Savepoints / Transactional DDL".
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from aggregator.control import ControlError, ControlFullError, ControlOpenError
from aggregator.migrate import CONTROL, Schema, prepare
from collectors.failpoint import failpoint

T = TypeVar("T")

MERGE: Final = 256
"""A commit takes at most so many transactions, so that the first of them does not wait for ever."""
_BUSY_S: Final = 5.0
"""How long to wait for another process (a backup, a curious operator) that holds the file."""
_FULL: Final = {sqlite3.SQLITE_FULL}
_UNUSABLE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_FAILED: Final = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}


class _Waiting:
    """One transaction and who waits for it."""

    __slots__ = ("future", "loop", "transaction")

    def __init__(self, transaction: Callable[[Connection], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.transaction = transaction
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()


class _Outcome(msgspec.Struct):
    """What became of one transaction."""

    waiting: _Waiting
    result: Any = None
    error: BaseException | None = None


class _GivenUpError(Exception):
    """SQLite undid the whole commit, or could not begin it; `error` says why."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class SqliteControl:
    """Implements `aggregator.control.Control` on one file. May be used from several event loops."""

    def __init__(self, path: Path, *, schema: Schema = CONTROL, readers: int = 2) -> None:
        self._path = path
        self._schema = schema
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._open = False
        self._committing = False
        self._writing = self._engine("rwc", "BEGIN IMMEDIATE", 1)
        event.listen(self._writing, "commit", self._guard)
        self._reading = self._engine("ro", "BEGIN", readers)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="control-read")
        self._writer = threading.Thread(target=self._run, name="control-write", daemon=True)

    def open(self) -> None:
        """Make or migrate the file, then begin to serve. Blocks. Raises ControlOpenError, which says what to do."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():  # SQLite gives the files beside it the same mode
                os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
            with self._writing.connect() as connection, self._commit_allowed(), connection.begin():
                prepare(connection, self._schema)
        except (OSError, DBAPIError) as error:
            self._writing.dispose()
            raise ControlOpenError(
                f"{self._path} cannot be opened as a {self._schema.name} database: {_why(error)}. {self._remedy}"
            ) from error
        except ControlOpenError as error:
            self._writing.dispose()
            raise ControlOpenError(f"{self._path}: {error}") from None
        self._open = True
        self._writer.start()

    async def write(self, transaction: Callable[[Connection], T]) -> T:
        """Run `transaction` and commit it; see `Control`. Transactions run in the order of the calls."""
        waiting = _Waiting(transaction, asyncio.get_running_loop())
        with self._closing:
            if not self._open:
                raise ControlError(f"{self._path} is closed")
            self._queue.put(waiting)
        result: T = await waiting.future
        return result

    async def read(self, question: Callable[[Connection], T]) -> T:
        """Run a function that only reads, on a snapshot; see `Control`."""
        if not self._open:
            raise ControlError(f"{self._path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._answer, question)

    async def close(self) -> None:
        """Finish what waits, then close the file. Safe twice, and without `open`."""
        with self._closing:
            was_open, self._open = self._open, False
        if was_open:
            self._queue.put(None)
            await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._reading.dispose()

    # --- the writer thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            if batch:
                _tell(self._commit(batch))
        self._writing.dispose()

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """Wait for a transaction, then take all that wait; False with the last of them."""
        batch: list[_Waiting] = []
        while len(batch) < MERGE:
            try:
                waiting = self._queue.get(block=not batch)
            except queue.Empty:
                break
            if waiting is None:
                return batch, False
            if not waiting.future.cancelled():
                batch.append(waiting)
        return batch, True

    def _commit(self, batch: list[_Waiting]) -> list[_Outcome]:
        """Commit a batch; when SQLite gives all of it up, commit each alone."""
        try:
            return self._together(batch)
        except _GivenUpError as given_up:
            if len(batch) == 1:
                return [_Outcome(batch[0], error=self._typed(given_up.error))]
        return [outcome for waiting in batch for outcome in self._commit([waiting])]

    def _together(self, batch: list[_Waiting]) -> list[_Outcome]:
        """Run each, then commit. Raises _GivenUpError when nothing of the batch was kept."""
        try:
            with self._writing.connect() as connection:
                try:
                    connection.begin()
                    outcomes = [self._one(connection, waiting, alone=len(batch) == 1) for waiting in batch]
                    failpoint("control.commit.written")
                    with self._commit_allowed():
                        connection.commit()
                    failpoint("control.commit.committed")
                except BaseException:
                    connection.invalidate()  # whatever state it is in, closing undoes it; the next one is fresh
                    raise
                return outcomes
        except _GivenUpError:
            raise
        except BaseException as error:
            raise _GivenUpError(error) from error

    def _one(self, connection: Connection, waiting: _Waiting, *, alone: bool) -> _Outcome:
        """Run one in a savepoint of its own; `alone`, in the transaction itself: a savepoint takes a third as long."""
        mine = connection.get_transaction() if alone else connection.begin_nested()
        assert mine is not None
        try:
            result = waiting.transaction(connection)
            if (connection.get_nested_transaction() or connection.get_transaction()) is not mine:
                raise ControlError("a transaction must not commit or roll back; it left its savepoint")
        except BaseException as error:  # whatever it is, it belongs to the caller
            if not (_in_transaction(connection) and mine.is_active):
                raise _GivenUpError(error) from error
            mine.rollback()
            return _Outcome(waiting, error=self._typed(error))
        if not _in_transaction(connection):  # it caught the very error with which SQLite gave everything up
            raise _GivenUpError(ControlError("the transaction hid an error of the database; nothing was kept"))
        if not alone:
            mine.commit()
        return _Outcome(waiting, result)

    # --- the reader threads -------------------------------------------------------------------------------------------

    def _answer(self, question: Callable[[Connection], T]) -> T:
        try:
            with self._reading.connect() as connection, connection.begin():
                return question(connection)
        except DBAPIError as error:
            typed = self._typed(error)
            if typed is error:
                raise
            raise typed from error

    # --- both ---------------------------------------------------------------------------------------------------------

    def _engine(self, mode: str, begin: str, connections: int) -> Engine:
        def connect() -> sqlite3.Connection:
            # isolation_level None: the driver's own idea of when to begin would break savepoints and snapshots
            place = f"file:{quote(str(self._path.absolute()))}?mode={mode}"
            raw = sqlite3.connect(place, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                if mode == "ro":
                    raw.execute("PRAGMA query_only=ON")
                else:
                    raw.execute("PRAGMA journal_mode=WAL")
                    raw.execute("PRAGMA synchronous=FULL")
                    raw.execute("PRAGMA journal_size_limit=16777216")
            except BaseException:
                raw.close()
                raise
            return raw

        engine = create_engine(
            "sqlite://",
            creator=connect,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,
        )
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine

    @contextlib.contextmanager
    def _commit_allowed(self) -> Iterator[None]:
        self._committing = True
        try:
            yield
        finally:
            self._committing = False

    def _guard(self, _connection: Connection) -> None:
        """Keep a transaction function from committing what others merged with it have not finished."""
        if not self._committing:
            raise ControlError("a transaction must not commit; whoever runs it does, when it returns")

    @property
    def _remedy(self) -> str:
        """Say what to do about a file that cannot be used."""
        return (
            "Stop the aggregator and restore a backup ('muster restore --force'), or move the file away with those"
            f" beside it (-wal, -shm): a new one is made, and {self._schema.without}"
        )

    def _typed(self, error: BaseException) -> BaseException:
        """Give the ControlError that stands for a failure of the database, or any other error as it is."""
        code = _sqlite_code(error)
        if code in _FULL:
            return ControlFullError(f"{self._path}: {_why(error)}; nothing was kept. Free disk space.")
        if code in _UNUSABLE:
            return ControlOpenError(f"{self._path} is damaged: {_why(error)}; nothing was kept. {self._remedy}")
        if code in _FAILED:
            return ControlError(f"{self._path}: {_why(error)}; nothing was kept")
        if isinstance(error, StopIteration):  # a future cannot carry it
            return RuntimeError("a transaction raised StopIteration")
        return error


def _in_transaction(connection: Connection) -> bool:
    """Tell whether SQLite itself still is in the transaction: some errors end it (sqlite.org/lang_transaction.html)."""
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


def _sqlite_code(error: BaseException) -> int | None:
    """Give the primary result code (sqlite.org/rescode.html), or None when the error is not SQLite's."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(origin, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _why(error: BaseException) -> str:
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    name = getattr(origin, "sqlite_errorname", "")
    return f"{origin} ({name})" if name else str(origin)


def _tell(outcomes: list[_Outcome]) -> None:
    """Hand results to those who wait: one call into each event loop, however many of them there are."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.waiting.loop, []).append(outcome)
    for loop, theirs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, theirs)


def _resolve(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.waiting.future
        if future.cancelled():
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.result)

"""One open DuckDB file: how it is opened, who holds which cursor, and what its errors mean.

The settings are those that held up under load: automatic checkpoints off (they stall a COMMIT for seconds), no
extensions from the network, `row_group_size` by ATTACH, which alone takes it, so that every cursor needs its own USE.
Importing this module imports duckdb (70 ms, 30 MB): import it only when DuckDB is the store.

Source: DuckDB 2.0 manual, "Configuration", "ATTACH and USE", "Concurrency" (duckdb.org/docs).
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
from duckdb import DuckDBPyConnection

from aggregator.query import StoreUnavailableError
from schemas.errors import StoreError

ROW_GROUP_SIZE: Final = 30_720
"""A quarter of the default: halves the longest checkpoint."""
DRAIN_SECONDS: Final = 10.0
"""How long closing waits for queries that were interrupted."""


class Database:
    """A DuckDB file, open: one connection for the writer, and cursors lent to readers one query at a time.

    Raises StoreError when the file cannot be opened (no file system, not a DuckDB file, held by another process).
    """

    def __init__(self, path: Path, *, memory_limit_mb: int, threads: int) -> None:
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self._idle: list[DuckDBPyConnection] = []
        self._lent: set[DuckDBPyConnection] = set()
        self._closed = False
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_limit_mb}MB",
            "threads": threads,
            "checkpoint_threshold": "100GB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._base = duckdb.connect(":memory:", config=config)
        try:
            name = str(path).replace("'", "''")
            self._base.execute(f"ATTACH '{name}' AS store (ROW_GROUP_SIZE {ROW_GROUP_SIZE})")
            self.writer = self._cursor()
        except duckdb.Error as error:
            self._base.close()
            raise StoreError(
                f"{path}: {first_line(error)}. If the file is damaged, move it away: a new one is made, and filled from"
                " the log as far back as that reaches"
            ) from None

    @contextlib.contextmanager
    def reader(self) -> Iterator[DuckDBPyConnection]:
        """Lend a cursor for one query. Raises StoreUnavailableError when the file is closed meanwhile."""
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("the store is closed for repair; try again in a moment")
            cursor = self._idle.pop() if self._idle else self._cursor()
            self._lent.add(cursor)
        try:
            yield cursor
        finally:
            self._take_back(cursor)

    def close(self) -> None:
        """Interrupt every query and let go of the file. Safe twice. Raises StoreError when a query does not end."""
        with self._lock:
            self._closed = True
            for cursor in self._lent:
                cursor.interrupt()
            if not self._returned.wait_for(lambda: not self._lent, DRAIN_SECONDS):
                raise StoreError(f"{len(self._lent)} queries still hold the store after {DRAIN_SECONDS:.0f} s")
            for cursor in (*self._idle, self.writer, self._base):
                with contextlib.suppress(duckdb.Error):
                    cursor.close()
            self._idle.clear()

    def _cursor(self) -> DuckDBPyConnection:
        cursor = self._base.cursor()
        cursor.execute("USE store")
        return cursor

    def _take_back(self, cursor: DuckDBPyConnection) -> None:
        with contextlib.suppress(duckdb.Error):
            cursor.abort()  # what a reader left unread would block the cursor's next user
        with self._lock:
            self._lent.discard(cursor)
            if self._closed:
                with contextlib.suppress(duckdb.Error):
                    cursor.close()
            else:
                self._idle.append(cursor)
            self._returned.notify_all()


def is_fatal(error: duckdb.Error) -> bool:
    """Tell whether the open file can no longer be trusted: it must be closed by everybody and opened again."""
    fatal = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.ConnectionException)
    return isinstance(error, fatal) or "invalidated" in str(error)


def first_line(error: BaseException) -> str:
    """Give the part of DuckDB's message that is for people: the rest is SQL and a caret."""
    return str(error).partition("\n")[0]


def quoted(name: str) -> str:
    """Give a name as SQL takes it, also when it is a keyword (`order`)."""
    return '"' + name.replace('"', '""') + '"'

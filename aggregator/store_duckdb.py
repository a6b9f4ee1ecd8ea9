"""The embedded store: DuckDB. Rows, positions and what was seen go to disk in one transaction.

Importing this module imports duckdb; import it only when DuckDB is the store. One thread at a time calls `open`,
`check`, `commit`, `maintain` and `close`; queries (`aggregator.duck_query`) come from any thread, and never hold up
the writer. After an error that leaves the file in doubt everything is closed and queries raise StoreUnavailableError,
until `open` is called again.

Source: the write path and the traps were measured on DuckDB 2.0; see `aggregator.duck_connection`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from operator import is_
from pathlib import Path
from typing import Final

import duckdb
import msgspec
from duckdb import DuckDBPyConnection

from aggregator.duck_connection import Database, first_line, is_fatal
from aggregator.duck_load import load_last, load_series, load_tables, prepare_file
from aggregator.duck_maintain import (
    Retention,
    checkpoint,
    delete_expired,
    delete_over_budget,
    forget_series,
    used_bytes,
)
from aggregator.duck_progress import fold_progress, insert_progress, read_progress
from aggregator.duck_schema import Draft, Table, with_built_in
from aggregator.duck_write import insert, prepare
from aggregator.last_values import LastValues
from aggregator.ownership import taken_over
from aggregator.query import SECOND, StoreUnavailableError
from aggregator.series_index import SeriesIndex
from aggregator.store import Bad, Progress, Rows, Transaction
from schemas.errors import StoreError
from schemas.metrics import Catalogue

LAST_HORIZON: Final = 900 * SECOND
"""How long a silent series keeps its last values in memory."""
FOLD_AT: Final = 5_000
"""Facts of progress not yet folded that make folding worth a write."""
FORGET_EVERY: Final = 60
"""Upkeeps between two searches for series without rows."""


class DuckConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the embedded store behaves."""

    memory_limit_mb: int = 512
    """What DuckDB may take for its buffers; the process takes more."""
    threads: int = 2
    """DuckDB's own threads, shared by all queries."""
    max_series: int = 1_000_000
    """Series beyond which new ones are refused: each takes about 400 bytes of memory."""
    retention: Retention = Retention()


DEFAULTS: Final = DuckConfig()
"""What a store does that is told nothing else."""


class DuckStatistics(msgspec.Struct):
    """What the store counted since the process began, for `/metrics`."""

    transactions: int = 0
    rows: int = 0
    values: int = 0
    """Cells of the rows' columns, absent ones included."""
    commit_seconds: float = 0.0
    failures: int = 0
    openings: int = 0
    checkpoints: int = 0
    checkpoints_put_off: int = 0
    checkpoint_seconds: float = 0.0
    retired: dict[str, int] = {}
    """Rows that retention deleted, by measurement."""
    series_forgotten: int = 0
    used_bytes: int = 0
    """Of the file, as of the last upkeep."""


class View(msgspec.Struct, frozen=True):
    """What queries work on: the open file and what is known of it. `tables` is replaced as a whole at a commit."""

    database: Database
    tables: Mapping[str, Table]
    index: SeriesIndex
    last: LastValues


def _no_failpoint(name: str) -> None:
    del name


class DuckStore:
    """A store in one DuckDB file. Implements `aggregator.store.Store`."""

    def __init__(
        self,
        path: Path,
        catalogue: Catalogue,
        config: DuckConfig = DEFAULTS,
        *,
        failpoint: Callable[[str], None] = _no_failpoint,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare; nothing is opened. `failpoint` is called with names around every commit: the seam of crash tests.

        `wall_ns` is asked at opening: what is later is of a node whose clock is ahead.
        """
        self.path = path
        self.catalogue = with_built_in(catalogue)
        self.config = config
        self.statistics = DuckStatistics()
        self._failpoint = failpoint
        self._wall_ns = wall_ns
        self._database: Database | None = None
        self._closing: Database | None = None
        self._tables: dict[str, Table] = {}
        self._index = SeriesIndex()
        self._last = LastValues()
        self._checked: Draft | None = None
        """What `check` found, for the `commit` that follows."""
        self._owners: dict[int, int] = {}
        """By partition the highest epoch that was committed."""
        self._serial = 0
        self._unfolded = 0
        self._upkeeps = 0

    # --- the store's own thread --------------------------------------------------------------------------------------

    def open(self) -> Progress:
        """Open the file, or look again when it is open; give what was committed. Raises StoreError."""
        if self._database is not None:
            with self._mapped("read progress"):
                return read_progress(self._database.writer)[0]
        self._finish_closing()
        database = Database(self.path, memory_limit_mb=self.config.memory_limit_mb, threads=self.config.threads)
        try:
            progress, tables, index, last = self._load(database)
        except duckdb.Error as error:
            database.close()
            raise StoreError(f"{self.path}: {first_line(error)}") from None
        except StoreError:
            database.close()
            raise
        self._tables, self._index, self._last, self._checked = tables, index, last, None
        self._database = database
        self.statistics.openings += 1
        return progress

    def check(self, rows: list[Rows]) -> list[Bad]:
        """Find the batches that no column can take; what they would bring is left out for those after them."""
        draft = Draft(self._tables, self.catalogue)
        bad: list[Bad] = []
        room = self.config.max_series - len(self._index)
        crowded = room < sum(len(block.keys) for batch in rows for block in batch.blocks)
        for index, batch in enumerate(rows):
            fresh = sum(self._index.unknown(batch.publisher, block) for block in batch.blocks) if crowded else 0
            reason = draft.admit(batch) if fresh <= room else f"more than {self.config.max_series} series"
            if reason:
                bad.append(Bad(index, reason))
            else:
                room -= fresh
        self._checked = draft
        return bad

    def commit(self, transaction: Transaction) -> None:
        """Keep all of it on disk, or none. Raises FencedError; StoreError, also for rows `check` would have named."""
        database = self._open_database()
        began = time.perf_counter()
        # the file is open here alone: nobody else can have taken a partition since it was read
        taken = taken_over(self._owners, transaction.progress)
        try:
            prepared = prepare(self._admit(transaction.rows), self._index)
            with self._transaction(database, "store.commit"):
                insert(database.writer, prepared, self._index.fresh)
                self._serial += 1
                self._unfolded += insert_progress(database.writer, self._serial, transaction.progress, taken)
        except BaseException:
            self._index.undo()
            raise
        self._index.settle()
        self._owners |= taken
        if prepared.draft.changed:
            self._tables = {**self._tables, **prepared.draft.changed}
        self._last.note(prepared.noted)
        self.statistics.transactions += 1
        self.statistics.rows += prepared.rows
        self.statistics.values += prepared.values
        self.statistics.commit_seconds += time.perf_counter() - began

    def maintain(self, now_ns: int) -> None:
        """Delete what is over age or budget, fold progress, and checkpoint. Raises StoreError."""
        database = self._open_database()
        tables = list(self._tables.values())
        self._upkeeps += 1
        gone: list[int] = []
        with self._transaction(database, "store.upkeep"):
            writer = database.writer
            retired = delete_expired(writer, tables, self.config.retention, now_ns)
            for name, count in delete_over_budget(writer, tables, self.config.retention, now_ns).items():
                retired[name] = retired.get(name, 0) + count
            if self._upkeeps % FORGET_EVERY == 0:
                gone = forget_series(writer, tables)
            if self._unfolded >= FOLD_AT:
                fold_progress(writer)
        if self._unfolded >= FOLD_AT:
            self._unfolded = 0
        self._index.forget(gone)
        self.statistics.series_forgotten += len(gone)
        for name, count in retired.items():
            self.statistics.retired[name] = self.statistics.retired.get(name, 0) + count
        self._checkpoint(database)
        self._last.forget_before(now_ns - LAST_HORIZON, now_ns)

    def close(self) -> None:
        """Checkpoint and let go of the file. Safe twice. Raises StoreError when a query does not let go of it."""
        if self._database is not None:
            self._closing, self._database = self._database, None
            with contextlib.suppress(duckdb.Error):
                checkpoint(self._closing.writer)
        self._finish_closing()

    # --- any thread --------------------------------------------------------------------------------------------------

    def view(self) -> View:
        """Give what queries work on. Raises StoreUnavailableError while the file is closed."""
        database = self._database
        if database is None:
            raise StoreUnavailableError("the store is closed, or being repaired; try again in a moment")
        return View(database, self._tables, self._index, self._last)

    @property
    def series(self) -> int:
        """How many series there are."""
        return len(self._index)

    @property
    def wal_bytes(self) -> int:
        """The size of the write-ahead log; 0 when there is none."""
        try:
            return self.path.with_name(self.path.name + ".wal").stat().st_size
        except FileNotFoundError:
            return 0

    # --- inside ------------------------------------------------------------------------------------------------------

    def _open_database(self) -> Database:
        if self._database is None:
            raise StoreError("the store is not open")
        return self._database

    def _admit(self, rows: list[Rows]) -> Draft:
        """Give the tables as these batches make them: what `check` found, when it was asked of the same ones."""
        checked, self._checked = self._checked, None
        known = [one for one, _ in checked.admitted] if checked is not None else []
        if checked is not None and len(rows) == len(known) and all(map(is_, rows, known)):
            return checked
        draft = Draft(self._tables, self.catalogue)
        for batch in rows:
            reason = draft.admit(batch)
            if reason:
                raise StoreError(f"a batch of {batch.publisher} cannot be stored: {reason}")
        return draft

    @contextlib.contextmanager
    def _transaction(self, database: Database, name: str) -> Iterator[None]:
        """Run what is inside as one transaction. Any failure of COMMIT leaves the file in doubt: it is closed."""
        writer = database.writer
        with self._mapped(name):
            writer.execute("BEGIN")
            try:
                self._failpoint(f"{name}.begun")
                yield
                self._failpoint(f"{name}.written")
            except BaseException:
                self._roll_back(writer)
                raise
            try:
                writer.execute("COMMIT")
            except duckdb.Error as error:
                self.statistics.failures += 1
                self._abandon()
                raise StoreError(f"{name}: {first_line(error)}") from None
            self._failpoint(f"{name}.committed")

    def _roll_back(self, writer: DuckDBPyConnection) -> None:
        try:
            writer.execute("ROLLBACK")
        except duckdb.Error:  # whatever is still open, nobody knows: begin anew
            self._abandon()

    @contextlib.contextmanager
    def _mapped(self, doing: str) -> Iterator[None]:
        """Turn DuckDB's errors into StoreError, and close the file after one that leaves it in doubt."""
        try:
            yield
        except duckdb.Error as error:
            self.statistics.failures += 1
            if is_fatal(error):
                self._abandon()
            raise StoreError(f"{doing}: {first_line(error)}") from None

    def _abandon(self) -> None:
        """Close everything, without a checkpoint; `open` repairs from the write-ahead log."""
        if self._database is not None:
            self._closing, self._database = self._database, None
        with contextlib.suppress(StoreError):  # a query that still runs: `open` waits for it
            self._finish_closing()

    def _finish_closing(self) -> None:
        if self._closing is not None:
            self._closing.close()
            self._closing = None

    def _checkpoint(self, database: Database) -> None:
        began = time.perf_counter()
        with self._mapped("checkpoint"):
            if checkpoint(database.writer):
                self.statistics.checkpoints += 1
            else:
                self.statistics.checkpoints_put_off += 1
            self.statistics.used_bytes = used_bytes(database.writer)
        self.statistics.checkpoint_seconds += time.perf_counter() - began
        self._failpoint("store.checkpointed")

    def _load(self, database: Database) -> tuple[Progress, dict[str, Table], SeriesIndex, LastValues]:
        prepare_file(self.path, database)
        index = load_series(database)
        tables = load_tables(database, self.catalogue, index)
        progress, self._serial = read_progress(database.writer)
        self._owners = dict(progress.owners)
        self._unfolded = FOLD_AT  # not known: fold at the first upkeep
        return progress, tables, index, load_last(database, tables, self._wall_ns())

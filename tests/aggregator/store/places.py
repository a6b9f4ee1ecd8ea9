"""The embedded store as the conformance suites see it."""

from collections.abc import Callable
from pathlib import Path

from aggregator.duck_query import DuckQueries
from aggregator.store import Store
from aggregator.store_duckdb import DEFAULTS, DuckConfig, DuckStore
from tests.contract.store_rows import CATALOGUE


class DuckPlace:
    """One DuckDB file in a folder."""

    def __init__(self, folder: Path, config: DuckConfig = DEFAULTS) -> None:
        self.path = folder / "store.duckdb"
        self.config = config
        self._closers: list[Callable[[], None]] = []
        self._epoch = 0

    def store(self) -> DuckStore:
        """Give a store on the file, not yet open."""
        store = DuckStore(self.path, CATALOGUE, self.config)
        self._closers.append(store.close)
        return store

    def queries(self, store: Store) -> DuckQueries:
        """Give what asks that store."""
        assert isinstance(store, DuckStore)
        queries = DuckQueries(store)
        self._closers.append(queries.close)
        return queries

    def take(self) -> int:
        """Give the next owner's epoch; the file itself knows only those that have written."""
        self._epoch += 1
        return self._epoch

    def close(self) -> None:
        """Let go of everything that was given out, also after a failed test."""
        while self._closers:
            self._closers.pop()()

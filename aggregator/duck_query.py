"""Queries on the embedded store: who asks waits for a cursor, not for the writer.

Selectors are matched in memory, the rest is one SQL statement a query. A query that takes too long is interrupted from
a timer; an answer that grows too large is cut, and says so.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import duckdb
import msgspec
from arro3.core import Array, DataType
from arro3.core import Table as ArrowTable
from duckdb import DuckDBPyConnection

from aggregator import duck_folded, duck_sql
from aggregator.deadlines import Deadlines
from aggregator.duck_connection import first_line, is_fatal
from aggregator.duck_schema import Stored
from aggregator.last_values import Value
from aggregator.query import (
    Aggregate,
    Copies,
    FieldInfo,
    MeasurementInfo,
    Order,
    Query,
    QueryTimeoutError,
    Result,
    StoreUnavailableError,
)
from aggregator.query_plan import Plan, declared_fields, guessed_info, plan, refused_pattern
from aggregator.series_index import Names, label_of
from aggregator.store_duckdb import DuckStore, View
from schemas.errors import QueryError, StoreError, near_names
from schemas.metrics import Catalogue, ValueType
from schemas.rows import CAPABILITY, EVENT, LOG
from schemas.verbosity import RowClass

_FETCH: Final = 30_000
"""Values fetched at a time: the interpreter's lock is held meanwhile, and has to be waited for after each time."""
_CLASSES: Final = {LOG: RowClass.LOG, EVENT: RowClass.EVENT, CAPABILITY: RowClass.CAPABILITY}
_INT32: Final = DataType.int32()

_FETCH_FIRST: Final = 128
"""Rows at first, 16 times as many each time after: messages may be long."""

_SPARSE: Final = 3
"""Of so many series one must be wanted, for aggregating all of them to be cheaper than choosing rows."""
_LISTED: Final = 2_000
"""Series of which a list tells the group; of more, a table to join with, which costs 1 ms however small it is."""

Labels = tuple[str | None, ...]
_Row = tuple[Any, ...]


class QueryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a query may cost."""

    timeout_s: float = 10.0
    concurrent: int = 2
    """Queries at one time; more wait."""
    waiting: int = 64
    """Queries that wait; more are refused with StoreUnavailableError."""
    max_bytes: int = 32 << 20
    """Of one answer, about: texts are counted, other values taken as 16 bytes."""


DEFAULTS: Final = QueryConfig()
"""Bounds that nobody has changed."""


def _no_names() -> Mapping[str, str]:
    return {}


class DuckQueries:
    """Answers queries on a `DuckStore`. Implements `aggregator.query.Queries`; `ask` is for coroutines."""

    def __init__(self, store: DuckStore, config: QueryConfig = DEFAULTS, *, names: Names = _no_names) -> None:
        """`names` gives the name that people use for each node id; selectors match either."""
        self._store = store
        self._config = config
        self._names = names
        self._deadlines = Deadlines(config.timeout_s)
        self._free = threading.BoundedSemaphore(config.concurrent)
        self._pool = ThreadPoolExecutor(config.concurrent, thread_name_prefix="query")
        self._waiting = 0

    async def ask(self, query: Query) -> Result:
        """Answer one query in a thread of its own. Raises what `run` raises."""
        if self._waiting >= self._config.concurrent + self._config.waiting:
            raise StoreUnavailableError(f"{self._waiting} queries are waiting already; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self.run, query)
        finally:
            self._waiting -= 1

    def run(self, query: Query) -> Result:
        """Answer one query. Raises QueryError, QueryTimeoutError or StoreError (503 when it is unavailable)."""
        view = self._store.view()
        settled = plan(query, _Existing(view, self._store.catalogue))
        table = view.tables.get(query.measurement)
        needed = {"message": query.contains or query.matches, "severity": query.severity is not None}
        if table is None or any(used and name not in table.columns for name, used in needed.items()):
            # declared, and nothing came yet
            return _result(settled, [], truncated=False)
        with self._free:
            if query.raw:
                return self._raw(view, settled, table.columns)
            groups = _Groups(view, settled, self._names())
            if not groups.labels:
                return _result(settled, [], truncated=False)
            if _remembered(query) and view.last.covers(query.since):
                return _last_in_memory(view, settled, groups)
            source = duck_sql.Source(settled, table.columns, groups.bounds)
            statement = duck_sql.last(source) if query.last else duck_sql.aggregated(source)
            rows, truncated = self._fetch(view, statement, groups.pick, query.limit)
            return _grouped(settled, groups, rows, truncated)

    def describe(self, measurement: str = "") -> list[MeasurementInfo]:
        """Tell what there is to ask for, all or one. Raises QueryError or StoreUnavailableError."""
        view = self._store.view()
        existing = _Existing(view, self._store.catalogue)
        known = existing.measurements()
        if measurement and measurement not in known:
            raise QueryError(f"no measurement {measurement!r}.{near_names(measurement, known)}")
        text = "SELECT table_name, estimated_size FROM duckdb_tables() WHERE database_name = 'store'"
        sizes = dict(self._fetch(view, duck_sql.Statement(text, {}), None, 1 << 20)[0])
        return [
            MeasurementInfo(
                name,
                view.tables[name].row_class if name in view.tables else _CLASSES.get(name, RowClass.TELEMETRY),
                list(existing.fields(name).values()),
                sorted(existing.attributes(name)),
                view.index.count(name),
                int(sizes.get(name, 0)),
            )
            for name in ([measurement] if measurement else known)
        ]

    def close(self) -> None:
        """Answer nobody any more; what is running ends by itself, or with the store."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _raw(self, view: View, settled: Plan, columns: Mapping[str, Stored]) -> Result:
        pick, bounds = None, None
        if settled.query.where:
            matches = view.index.match(settled.query.measurement, settled.query.where, self._names())
            chosen = {number: 0 for _, _, number in matches}
            if not chosen:
                return _result(settled, [], truncated=False)
            pick, bounds = _pick_table(chosen), duck_sql.Pick(min(chosen), max(chosen), late=False)
        source, limit = duck_sql.Source(settled, columns, bounds), settled.query.limit
        folded = settled.query.copies is Copies.FOLDED and columns.keys() >= duck_folded.NEEDED
        statement = duck_folded.folded(source) if folded else duck_sql.raw(source)
        rows, truncated = self._fetch(view, statement, pick, limit)
        if not rows:
            return _result(settled, [], truncated=truncated)
        torn = [row[0] for row in rows if row[-1]]
        if torn:
            parts, cut = self._fetch(view, duck_sql.apart(source, torn), pick, sys.maxsize)
            rows = _told_apart(rows, parts, cut=cut)
            rows, truncated = rows[:limit], truncated or cut or len(rows) > limit
        times, series, *values, _ = map(list, zip(*rows, strict=True))
        labels = {number: view.index.labels(number, settled.labels) for number in set(series)}
        return _result(settled, [times, *_label_columns(settled, labels, series), *values], truncated=truncated)

    def _fetch(
        self, view: View, statement: duck_sql.Statement, pick: ArrowTable | None, limit: int
    ) -> tuple[list[tuple[Any, ...]], bool]:
        """Run a statement; give at most `limit` rows, and whether there were more."""
        rows: list[tuple[Any, ...]] = []
        size = 0
        with view.database.reader() as cursor, self._deadlines.watch(cursor.interrupt):
            try:
                for many in _batches(cursor, statement, pick):
                    rows += many
                    size += _size(many)
                    if len(rows) > limit or size > self._config.max_bytes:
                        return rows[:limit], True
            except duckdb.Error as error:
                raise self._mapped(error, statement) from None
        return rows, False

    def _mapped(self, error: duckdb.Error, statement: duck_sql.Statement) -> Exception:
        if isinstance(error, duckdb.InterruptException):
            return QueryTimeoutError(
                f"the query took longer than {self._config.timeout_s:g} s and was stopped:"
                " ask for less time, fewer series or fewer fields"
            )
        if is_fatal(error):
            return StoreUnavailableError(f"the store is being repaired: {first_line(error)}")
        if isinstance(error, duckdb.OutOfMemoryException):
            return QueryError("the query needs more memory than the store may use: ask for less")
        if isinstance(error, duckdb.InvalidInputException):
            pattern, why = str(statement.parameters.get("matches", "")), first_line(error)
            return refused_pattern(pattern, why.removeprefix("Invalid Input Error: ")) if pattern else QueryError(why)
        return StoreError(first_line(error))


class _Existing:
    """What there is to ask for: what is declared, and what came."""

    def __init__(self, view: View, catalogue: Catalogue) -> None:
        self._view = view
        self._catalogue = catalogue

    def measurements(self) -> list[str]:
        return sorted({*self._catalogue.measurements(), *self._view.tables})

    def fields(self, measurement: str) -> Mapping[str, FieldInfo]:
        fields = declared_fields(self._catalogue, measurement)
        table = self._view.tables.get(measurement)
        if table is not None:
            for name, stored in table.columns.items():
                if name not in fields:
                    fields[name] = guessed_info(name, stored.value_type, table.levels.get(name))
        return fields

    def attributes(self, measurement: str) -> frozenset[str]:
        table = self._view.tables.get(measurement)
        return frozenset(self._catalogue.attributes(measurement)) | (table.attributes if table else frozenset())


class _Groups:
    """The series that a query means, and the group of each; groups are numbered in the order of their labels."""

    def __init__(self, view: View, settled: Plan, people: Mapping[str, str]) -> None:
        query = settled.query
        everything = not query.where and not settled.labels
        found: dict[int, Labels] = {}
        if not everything:
            for group, key, number in view.index.match(query.measurement, query.where, people):
                found[number] = label_of(group, key, settled.labels)
        self.labels: list[Labels] = [()] if everything else sorted(set(found.values()), key=_sortable)
        places = {labels: place for place, labels in enumerate(self.labels)}
        self.of: dict[int, int] | None = None if everything else {number: places[own] for number, own in found.items()}
        self.bounds = self._bounds(settled) if self.of else None
        """What the SQL needs to know of the groups; None: every series is in the one group."""
        listed = self.bounds is not None and self.bounds.places
        self.pick = _pick_table(self.of) if self.of and not listed else None

    def _bounds(self, settled: Plan) -> duck_sql.Pick:
        of = self.of or {}
        first, last = min(of), max(of)
        alone = not settled.query.last and len(self.labels) == len(of)
        late = alone and last - first < _SPARSE * len(of)
        places = list(map(of.get, range(first, last + 1))) if late and last - first < _LISTED else []
        return duck_sql.Pick(first, last, late, places)


def _batches(
    cursor: DuckDBPyConnection, statement: duck_sql.Statement, picked: ArrowTable | None
) -> Iterator[list[tuple[Any, ...]]]:
    _pick = picked  # DuckDB finds it by this name, in this frame
    cursor.execute(statement.setting)
    cursor.execute(statement.text, statement.parameters)
    step = _FETCH_FIRST
    while many := cursor.fetchmany(step):
        yield many
        if len(many) < step:
            break
        step = min(max(_FETCH_FIRST, _FETCH // len(many[0])), step * 16)


def _pick_table(groups: Mapping[int, int]) -> ArrowTable:
    return ArrowTable(
        {"_series": Array(list(groups), type=_INT32), "_g": Array(list(groups.values()), type=_INT32)},
    )


def _size(rows: Sequence[tuple[Any, ...]]) -> int:
    width = len(rows[0])
    texts = [place for place in range(width) if any(isinstance(row[place], str) for row in rows[:50])]
    return 16 * width * len(rows) + sum(len(row[place] or "") for place in texts for row in rows)


def _told_apart(rows: list[_Row], parts: list[_Row], *, cut: bool) -> list[_Row]:
    """Give the rows, and instead of each that is torn those that it was made of; as far as these go if they are cut."""
    made_of: dict[_Row, list[_Row]] = {}
    for row in parts:
        made_of.setdefault(row[:2], []).append((*row, False))
    if cut and len(made_of) > 1:
        made_of.popitem()  # it may go on
    told: list[_Row] = []
    for row in rows:
        if not row[-1]:
            told.append(row)
        elif row[:2] in made_of:
            told += made_of[row[:2]]
        else:
            break
    return told


def _grouped(settled: Plan, groups: _Groups, rows: list[tuple[Any, ...]], truncated: bool) -> Result:
    """Make columns of (bucket or time, group, values)."""
    if not rows:
        return _result(settled, [], truncated=truncated)
    first, group, *values = map(list, zip(*rows, strict=True))
    query = settled.query
    if query.every is not None:
        start, every = duck_sql.first_bucket(query), query.every
        times_of = {bucket: start + bucket * every for bucket in set(first)}
        first = list(map(times_of.__getitem__, first))
    labels = dict(enumerate(groups.labels))
    times = [first] if settled.timed else []
    return _result(settled, [*times, *_label_columns(settled, labels, group), *values], truncated=truncated)


def _label_columns(settled: Plan, labels: Mapping[int, Labels], own: Sequence[int]) -> list[list[str | None]]:
    columns = []
    for place in range(len(settled.labels)):
        words = {number: label[place] for number, label in labels.items()}
        columns.append(list(map(words.__getitem__, own)))
    return columns


def _last_in_memory(view: View, settled: Plan, groups: _Groups) -> Result:
    """Answer a query for last values without touching the disk; the same answer that SQL would give."""
    query = settled.query
    fields = [target.field for target in settled.targets]
    newest: dict[int, dict[str, Value]] = {}
    for number, values in view.last.newest(query.measurement, fields).items():
        place = groups.of.get(number) if groups.of is not None else 0
        if place is None:
            continue
        known = newest.setdefault(place, {})
        for field, value in values.items():
            if value[0] >= query.since and (field not in known or known[field][0] <= value[0]):
                known[field] = value
    rows = [
        (
            max(time for time, _ in known.values()),
            place,
            *(known[field][1] if field in known else None for field in fields),
        )
        for place, known in sorted(newest.items(), reverse=settled.order is Order.NEWEST)
        if known
    ]
    return _grouped(settled, groups, rows[: query.limit], len(rows) > query.limit)


def _result(settled: Plan, data: list[list[Any]], *, truncated: bool) -> Result:
    columns = settled.columns
    data = data or [[] for _ in columns]
    for place, column in enumerate(columns):
        if column.aggregate is Aggregate.SUM and column.type is ValueType.INT:
            # beyond 64 bits there is no whole number in JSON that readers would take for one
            data[place] = [float(v) if v is not None and abs(v) >= 1 << 63 else v for v in data[place]]
    return Result(columns, data, len(data[0]) if data else 0, truncated)


def _remembered(query: Query) -> bool:
    """Tell whether memory has what is asked for, where it goes back far enough: newest values of telemetry."""
    filtered = bool(query.contains or query.matches or query.severity is not None)
    return query.last and query.until is None and query.measurement not in _CLASSES and not filtered


def _sortable(labels: Labels) -> tuple[tuple[bool, str], ...]:
    return tuple((word is None, word or "") for word in labels)

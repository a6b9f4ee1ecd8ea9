# ruff: noqa: S608  # names of tables and columns have passed schemas.metrics.NAME, and are quoted
"""What an embedded store reads when it opens its file: tables, series, and the newest values.

Source: DuckDB 2.0 manual, "CREATE TABLE", "arg_max" (duckdb.org/docs).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aggregator.duck_connection import Database, quoted
from aggregator.duck_progress import CREATE as CREATE_PROGRESS
from aggregator.duck_schema import Stored, Table
from aggregator.last_values import LastValues
from aggregator.query import SECOND
from aggregator.series_index import SeriesIndex
from schemas.errors import StoreError
from schemas.metrics import Catalogue
from schemas.verbosity import Level, RowClass

VERSION: Final = 1
"""Of our own tables; a file with a higher one is refused."""
FILL_BACK: Final = 60 * SECOND
"""How much of the newest data is read at opening to know last values."""
FOREVER: Final = (1 << 63) - 1

_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS _meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL)",
    "CREATE TABLE IF NOT EXISTS _measurements (measurement VARCHAR NOT NULL, class UTINYINT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS _fields (
        measurement VARCHAR NOT NULL, field VARCHAR NOT NULL, type VARCHAR NOT NULL, level UTINYINT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS _series (
        id INTEGER NOT NULL, measurement VARCHAR NOT NULL, publisher VARCHAR NOT NULL, subject VARCHAR NOT NULL,
        device VARCHAR NOT NULL, attributes VARCHAR NOT NULL)""",
    CREATE_PROGRESS,
)


def prepare_file(path: Path, database: Database) -> None:
    """Make our own tables where they are missing. Raises StoreError when a newer program made them."""
    for statement in _CREATE:
        database.writer.execute(statement)
    row = database.writer.execute("SELECT value FROM _meta WHERE name = 'version'").fetchone()
    if row is None:
        database.writer.execute("INSERT INTO _meta VALUES ('version', ?)", [str(VERSION)])
    elif int(row[0]) > VERSION:
        raise StoreError(
            f"{path} was written by a newer Muster (its tables have version {row[0]}, here it is {VERSION})"
        )


def load_series(database: Database) -> SeriesIndex:
    """Give every series of the file."""
    index = SeriesIndex()
    rows = database.writer.execute("SELECT id, measurement, publisher, subject, device, attributes FROM _series")
    while many := rows.fetchmany(10_000):
        for row in many:
            index.load(*row)
    return index


def load_tables(database: Database, catalogue: Catalogue, index: SeriesIndex) -> dict[str, Table]:
    """Give every measurement's table, with the attributes that are declared or that its series have."""
    tables: dict[str, Table] = {}
    for name, number in database.writer.execute("SELECT measurement, class FROM _measurements").fetchall():
        tables[name] = Table(name, RowClass(number))
    for name, field, stored, level in database.writer.execute(
        "SELECT measurement, field, type, level FROM _fields ORDER BY rowid"
    ).fetchall():
        tables[name].columns[field] = Stored(stored)
        tables[name].levels[field] = Level(level)
    for name, table in tables.items():
        table.attributes = {*catalogue.attributes(name), *index.attributes(name)}
    return tables


def load_last(database: Database, tables: Mapping[str, Table], now_ns: int) -> LastValues:
    """Give the last values of the newest data, so that `top` has something at once.

    What is the newest is judged by rows that are not of the future (`now_ns`): a node whose clock is an hour ahead
    would else have everybody else's values be too old to be read, and stay so for that hour.
    """
    last = LastValues()
    telemetry = [table for table in tables.values() if table.row_class is RowClass.TELEMETRY and table.columns]
    newest = _newest(database, telemetry, now_ns)
    if newest is None:  # this machine's own clock may be behind everybody's
        newest = _newest(database, telemetry, FOREVER) or 0
    since = max(0, newest - FILL_BACK)
    for table in telemetry:
        for field in table.columns:
            name = quoted(field)
            rows = database.writer.execute(
                f"SELECT _series, max(_time), arg_max({name}, _time) FROM {quoted(table.measurement)}"
                f" WHERE _time >= ? AND {name} IS NOT NULL GROUP BY _series",
                [since],
            ).fetchall()
            if rows:
                series, times, values = zip(*rows, strict=True)
                last.put(table.measurement, series, times, {field: list(values)})
    last.begin(since)
    return last


def _newest(database: Database, tables: Sequence[Table], until: int) -> int | None:
    """Give the time of the newest row that is not later than `until`; None when there is none."""
    times = []
    for table in tables:
        question = f"SELECT max(_time) FROM {quoted(table.measurement)} WHERE _time <= ?"
        row = database.writer.execute(question, [until]).fetchone()
        times += [row[0]] if row is not None and row[0] is not None else []
    return max(times, default=None)

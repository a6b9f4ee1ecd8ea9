# a bench prints, and makes its own SQL
"""The embedded store's bars (DESIGN part 9), each beside its peer: `python -m tests.bench.bench_store [--quick]`.

- from log to disk: batches of 80 rows x 10 fields from 1,000 publishers, values per core-second by process CPU time;
  once with one measurement a batch, once with ten blocks of eight rows, which costs ten times as many inserts. Decode,
  check and commit alone in transactions as large as the consumer makes them when it keeps up (4,000 rows, or 1,000 for
  each table) and when it is behind (16,000), then the whole consumer on a log that holds all of it
  already: reading, interval sets, transactions as it makes them when it is behind. Bare DuckDB gets the same rows as
  ready Arrow tables, SQLite a wide table by executemany of ready tuples;
- queries while a writer adds 20,000 rows a second: the last hour of 100 devices by minute, and 24 hours at 5 s by
  ten minutes (1.7 million rows), through `DuckQueries` to JSON bytes; peers: the bare statement,
  measured in turns with ours, and SQLite without rollups.
"""

import argparse
import asyncio
import gc
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
from arro3.core import Array, DataType, Table

from aggregator.duck_query import DuckQueries
from aggregator.gathering import BEHIND_ROWS, COMMIT_ROWS, TABLE_ROWS
from aggregator.log import Entry, partition_of
from aggregator.log_sqlite import SqliteLog
from aggregator.query import SECOND, Aggregate, Asked, Query
from aggregator.selector import equals
from aggregator.store import Outcome, Position, Progress, Rows, Seen, Stream, Transaction
from aggregator.store_consumer import StoreConsumer
from aggregator.store_duckdb import DuckConfig, DuckStore
from schemas.batch import Block, Envelope
from schemas.codec import check_batch, decode_batch, encode_batch, encode_body
from schemas.metrics import Catalogue
from schemas.verbosity import Level, RowClass

PUBLISHERS = 1_000
ROWS = 80
FIELDS = 10
FLOATS = [f"value{place}_ratio" for place in range(7)]
INTS = [f"count{place}_total" for place in range(3)]
START = 1_790_000_000 * SECOND
EPOCH = "0123456789abcdef"


def make_block(measurement: str, publisher: int, round_: int, rows: int, rng: random.Random) -> Block:
    """Make slowly changing values of 8 devices; 5 % of device and field pairs never report."""
    floats: dict[str, list[float | None]] = {
        field: [
            None if (row % 8 * 7 + place) % 20 == 3 else round(50 + 30 * rng.random(), 1 + place % 3)
            for row in range(rows)
        ]
        for place, field in enumerate(FLOATS)
    }
    ints: dict[str, list[int | None]] = {
        field: [(round_ * rows + row) * 1_000 + rng.randrange(900) for row in range(rows)] for field in INTS
    }
    return Block(
        measurement,
        f"node-{publisher:04d}",
        ["index"],
        [[f"gpu:GPU-{publisher:04d}-{device}", str(device)] for device in range(8)],
        [row % 8 for row in range(rows)],
        START + round_ * 10 * SECOND,
        [0] + [SECOND // 10] * (rows - 1),
        floats,
        ints,
    )


def make_batches(mixed: bool, rounds: int, publishers: int) -> list[bytes]:
    """Encode the batches that the log would hold."""
    rng = random.Random(1)
    batches = []
    for round_ in range(rounds):
        for publisher in range(publishers):
            if mixed:
                blocks = [make_block(f"kind{kind}", publisher, round_, ROWS // 10, rng) for kind in range(10)]
            else:
                blocks = [make_block("gpu", publisher, round_, ROWS, rng)]
            envelope = Envelope(
                f"node-{publisher:04d}", EPOCH, RowClass.TELEMETRY, Level.STANDARD, round_ * ROWS, ROWS, round_
            )
            batches.append(encode_batch(envelope, encode_body(blocks)))
    return batches


def transactions(batches: list[bytes], commit_rows: int) -> Iterator[Transaction]:
    """Decode and check batches as the store consumer does, and give a transaction every `commit_rows` rows."""
    rows: list[Rows] = []
    progress = Progress("bench")
    for offset, data in enumerate(batches):
        batch = decode_batch(data)
        envelope = batch.envelope
        rows.append(Rows(envelope.publisher, envelope.row_class, envelope.level, check_batch(batch)))
        stream = Stream(envelope.publisher, envelope.epoch, envelope.row_class, envelope.level)
        progress.seen.append(Seen(stream, envelope.first, envelope.end, Outcome.DONE))
        if len(rows) * ROWS >= commit_rows:
            progress.positions = [Position("telemetry", partition, offset) for partition in range(8)]
            yield Transaction(rows, progress)
            rows, progress = [], Progress("bench")
    if rows:
        yield Transaction(rows, progress)


def ingest(store: DuckStore, batches: list[bytes], commit_rows: int) -> float:
    """Store batches; give values per core-second."""
    began = time.process_time()
    for transaction in transactions(batches, commit_rows):
        assert not store.check(transaction.rows)
        store.commit(transaction)
    return len(batches) * ROWS * FIELDS / (time.process_time() - began)


def bench_ingest(folder: Path, first: list[bytes], batches: list[bytes], commit_rows: int) -> float:
    """Give values per core-second from encoded batches to disk, once the store has every series from the `first`."""
    store = DuckStore(folder / "ingest.duckdb", Catalogue())
    store.open()
    new = ingest(store, first, commit_rows)
    store.maintain(START)
    own = ingest(store, batches, commit_rows)
    began = time.process_time()
    store.maintain(START)
    checkpoint = time.process_time() - began
    store.close()
    values = len(batches) * ROWS * FIELDS
    whole = values / (values / own + checkpoint)
    print(f"    {own / 1e6:5.2f} M values/s of a core; checkpoint included {whole / 1e6:.2f};", end=" ")
    print(f"the round in which all series are new {new / 1e6:.2f}")
    return own


async def consume(log: SqliteLog, store: DuckStore, batches: list[bytes]) -> float:
    """Append batches, then let a consumer store them; give its values per core-second."""
    for start in range(0, len(batches), 500):
        chunk = [(decode_batch(data).envelope.publisher, data) for data in batches[start : start + 500]]
        await log.append([Entry("telemetry", partition_of(name, log.partitions), data) for name, data in chunk])
    store.open()
    consumer = StoreConsumer(log, store, refuse)
    began = time.process_time()
    task = asyncio.create_task(consumer.run())
    while consumer.status.rows_done < len(batches) * ROWS:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.02)
    spent = time.process_time() - began
    consumer.stop()
    await task
    return len(batches) * ROWS * FIELDS / spent


async def bench_consumer(folder: Path, first: list[bytes], batches: list[bytes]) -> float:
    """Give values per core-second of the store consumer, from a log on disk, once the store has every series."""
    log = SqliteLog(folder / "log.db", synchronous="OFF")
    store = DuckStore(folder / "consumer.duckdb", Catalogue())
    await consume(log, store, first)
    own = await consume(log, store, batches)
    await log.close()
    print(f"    {own / 1e6:5.2f} M values/s of a core")
    return own


async def refuse(envelope: Envelope, _: bytes, stage: str, reason: str) -> None:
    """Set nothing aside: the bench's batches are sound."""
    raise AssertionError(f"{envelope.publisher} {stage}: {reason}")


def bench_bare(folder: Path, rows: int) -> float:
    """Give values per CPU second of bare DuckDB: ready Arrow tables, no accounting, no decoding."""
    connection = duckdb.connect(str(folder / "bare.duckdb"), config={"threads": 2, "checkpoint_threshold": "100GB"})
    columns = "".join(f", {name} DOUBLE" for name in FLOATS) + "".join(f", {name} BIGINT" for name in INTS)
    connection.execute(f"CREATE TABLE gpu (_series INTEGER, _time BIGINT{columns})")
    block = make_block("gpu", 0, 0, COMMIT_ROWS, random.Random(1))
    data: dict[str, Any] = {
        "_series": Array(block.rows, type=DataType.int32()),
        "_time": Array(list(range(COMMIT_ROWS)), type=DataType.int64()),
        **{name: Array(values, type=DataType.float64()) for name, values in block.floats.items()},
        **{name: Array(values, type=DataType.int64()) for name, values in block.ints.items()},
    }
    blk = Table(data)  # noqa: F841  # found by DuckDB
    began = time.process_time()
    for _ in range(rows // COMMIT_ROWS):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO gpu BY NAME SELECT * FROM blk")
        connection.execute("COMMIT")
    spent = time.process_time() - began
    connection.close()
    return rows // COMMIT_ROWS * COMMIT_ROWS * FIELDS / spent


def bench_sqlite(folder: Path, rows: int) -> float:
    """Give values per CPU second of a wide table in SQLite: ready tuples, WAL, synchronous NORMAL, no accounting."""
    connection = open_sqlite(folder / "bare.sqlite")
    block = make_block("gpu", 0, 0, COMMIT_ROWS, random.Random(1))
    columns = [*block.floats.values(), *block.ints.values()]
    marks = ", ".join("?" * (FIELDS + 2))
    began = 0.0
    for commit in range(rows // COMMIT_ROWS):
        times = range(commit * COMMIT_ROWS, (commit + 1) * COMMIT_ROWS)
        ready = list(zip(times, block.rows, *columns, strict=True))
        at = time.process_time()
        with connection:
            connection.executemany(f"INSERT INTO gpu VALUES ({marks})", ready)
        began += time.process_time() - at
    connection.close()
    return rows // COMMIT_ROWS * COMMIT_ROWS * FIELDS / began


def open_sqlite(path: Path) -> sqlite3.Connection:
    """Open the peer's file, with the key that suits both queries best."""
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    columns = "".join(f", {name}" for name in (*FLOATS, *INTS))
    connection.execute(f"CREATE TABLE gpu (time, series{columns}, PRIMARY KEY (time, series)) WITHOUT ROWID")
    return connection


def fill(store: DuckStore, devices: int, every_s: int, hours: int) -> int:
    """Store `hours` of data by `every_s` seconds; give the time after the last row."""
    steps = hours * 3600 // every_s
    rng = random.Random(2)
    keys = [[f"gpu:{device}", str(device)] for device in range(devices)]
    for chunk in range(0, steps, 300):
        count = min(300, steps - chunk)
        size = count * devices
        block = Block(
            "gpu",
            "node-0000",
            ["index"],
            keys,
            [row % devices for row in range(size)],
            START + chunk * every_s * SECOND,
            [0] + [every_s * SECOND // devices] * (size - 1),
            {name: [50 + 30 * rng.random() for _ in range(size)] for name in FLOATS},
            {name: list(range(chunk * devices, chunk * devices + size)) for name in INTS},
        )
        store.commit(Transaction([Rows("node-0000", RowClass.TELEMETRY, Level.STANDARD, [block])]))
    store.maintain(START)
    return START + steps * every_s * SECOND


def write_on(store: DuckStore, stopping: threading.Event, end: int) -> None:
    """Add 20,000 rows a second of other nodes until told to stop, in transactions of half a second."""
    rng = random.Random(3)
    blocks = [make_block("gpu", publisher, 0, ROWS, rng) for publisher in range(1, 126)]
    now = end
    while not stopping.is_set():
        began = time.monotonic()
        now += SECOND // 2
        for block in blocks:
            block.start = now
        rows = [Rows(block.subject, RowClass.TELEMETRY, Level.STANDARD, [block]) for block in blocks]
        store.commit(Transaction(rows))
        stopping.wait(max(0.0, 0.5 - (time.monotonic() - began)))


def measured(ask: Callable[[], object], times: int, peer: Callable[[], object] | None = None) -> list[float]:
    """Give median and longest in milliseconds, and the median of the peer, asked in turns."""
    spent: list[list[float]] = [[], []]
    for _ in range(times + 1):
        for own, question in zip(spent, (ask, peer), strict=True):
            if question is not None:
                began = time.perf_counter()
                question()
                own.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.05)
    ours, theirs = (own[1:] for own in spent)  # the first of each warms up
    return [statistics.median(ours), max(ours), statistics.median(theirs) if theirs else 0.0]


def questions(end: int) -> dict[str, Query]:
    """Give the questions, of all 100 devices of one node."""
    where = (equals("node", "node-0000"),)
    average, rate = (Asked(FLOATS[0], Aggregate.AVG),), (Asked(INTS[0], Aggregate.RATE),)
    an_hour_ago = end - 3600 * SECOND

    def over(since: int, asked: tuple[Asked, ...], every_s: int) -> Query:
        return Query(
            measurement="gpu",
            since=since,
            until=end,
            asked=asked,
            where=where,
            every=every_s * SECOND,
            limit=100_000,
        )

    return {
        "hour by minute": over(an_hour_ago, average, 60),
        "24 h by ten minutes": over(START, average, 600),
        "hour by minute, a rate": over(an_hour_ago, rate, 60),
        "24 h by ten minutes, a rate": over(START, rate, 600),
        "last values": Query(measurement="gpu", since=end - 300 * SECOND, last=True, where=where),
    }


def bare_text(since: int, end: int, every_s: int) -> str:
    """Give the statement that somebody would write who knows the table: no selector, no labels."""
    return (
        f"SELECT _series, _time // {every_s * SECOND} AS b, avg({FLOATS[0]}) FROM gpu"
        f" WHERE _time >= {since} AND _time < {end} GROUP BY 1, 2 ORDER BY 2, 1"
    )


def bench_queries(folder: Path, devices: int = 100) -> None:
    """Print the questions' times, idle and while writing, beside the bare statement's."""
    store = DuckStore(folder / "query.duckdb", Catalogue(), DuckConfig())
    store.open()
    end = fill(store, devices, 5, 24)
    queries = DuckQueries(store)
    bars = {"hour by minute": 25, "24 h by ten minutes": 60}
    bare = {
        "hour by minute": bare_text(end - 3600 * SECOND, end, 60),
        "24 h by ten minutes": bare_text(START, end, 600),
    }
    asks = {name: partial(ask_json, queries, query) for name, query in questions(end).items()}
    with store.view().database.reader() as cursor:
        peers = {name: partial(ask_bare, cursor, text) for name, text in bare.items()}
        idle = {name: measured(ask, 11, peers.get(name)) for name, ask in asks.items()}
        stopping = threading.Event()
        writer = threading.Thread(target=write_on, args=(store, stopping, end))
        writer.start()
        time.sleep(1)
        busy = {name: measured(ask, 15, peers.get(name)) for name, ask in asks.items()}
        stopping.set()
        writer.join()
    for name in asks:
        limit = f"; bar {bars[name]} while writing" if name in bars else ""
        print(f"  {name}: idle {shown(*idle[name])}; while writing 20,000 rows/s {shown(*busy[name])}{limit}")
    queries.close()
    store.close()


def shown(ours: float, longest: float, peer: float) -> str:
    """Give what was measured, in words."""
    beside = f", bare DuckDB {peer:.1f} (ours {ours / peer:.2f} x)" if peer else ""
    return f"{ours:.1f} ms (longest {longest:.1f}){beside}"


def ask_json(queries: DuckQueries, query: Query) -> bytes:
    """Ask as the API does."""
    return queries.run(query).json()


def ask_bare(cursor: duckdb.DuckDBPyConnection, text: str) -> object:
    """Ask without us."""
    return cursor.execute(text).fetchall()


def bench_sqlite_queries(folder: Path, devices: int = 100) -> None:
    """Print what SQLite needs for the same two questions without rollups."""
    connection = open_sqlite(folder / "query.sqlite")
    rng = random.Random(2)
    steps = 24 * 720
    marks = ", ".join("?" * (FIELDS + 2))
    for step in range(steps):
        values = [50 + 30 * rng.random() for _ in FLOATS]
        with connection:
            connection.executemany(
                f"INSERT INTO gpu VALUES ({marks})",
                [(START + step * 5 * SECOND, device, *values, step, step, step) for device in range(devices)],
            )
    end = START + steps * 5 * SECOND
    for name, since, every in (("hour", end - 3600 * SECOND, 60), ("day", START, 600)):
        text = (
            f"SELECT series, time / {every * SECOND} AS b, avg({FLOATS[0]}) FROM gpu"
            f" WHERE time >= {since} GROUP BY 1, 2 ORDER BY 2, 1"
        )
        spent = measured(partial(ask_sqlite, connection, text), 3)[0]
        print(f"  {name}: SQLite without rollups {spent:.1f} ms")
    connection.close()


def ask_sqlite(connection: sqlite3.Connection, text: str) -> list[object]:
    """Ask the peer."""
    return connection.execute(text).fetchall()


def main() -> None:
    """Run all of it, about two minutes; `--quick` half a minute and no SQLite queries."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # as the aggregator's process has it
    publishers, rounds = (200, 3) if quick else (PUBLISHERS, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = {}
        whole = {}
        for mixed in (False, True):
            every = make_batches(mixed, 1 + rounds, publishers)
            first, batches = every[:publishers], every[publishers:]
            keeping_up = max(COMMIT_ROWS, TABLE_ROWS * (10 if mixed else 1))
            for commit_rows in (keeping_up, BEHIND_ROWS):
                what = "ten measurements a batch" if mixed else "one measurement a batch"
                print(f"from log to disk, {len(batches)} batches, {what}, {commit_rows} rows a transaction:")
                ours[mixed, commit_rows] = bench_ingest(folder, first, batches, commit_rows)
                for path in folder.glob("ingest.duckdb*"):
                    path.unlink()
            print("the same by the consumer, from a log that holds it:")
            whole[mixed] = asyncio.run(bench_consumer(folder, first, batches))
            for path in (*folder.glob("consumer.duckdb*"), *folder.glob("log.db*")):
                path.unlink()
        rows = rounds * publishers * ROWS
        bare, lite = bench_bare(folder, rows), bench_sqlite(folder, rows)
        best = ours[False, COMMIT_ROWS]
        print(f"peers, rows ready made: bare DuckDB {bare / 1e6:.2f} (ours {best / bare:.2f} of it),", end=" ")
        print(f"SQLite {lite / 1e6:.2f} (ours {best / lite:.2f} of it)")
        print(
            f"bar: 1.50 M values/s of a core; ours {best / 1e6:.2f}, the whole consumer {whole[False] / 1e6:.2f},",
            end="",
        )
        print(f" {whole[True] / 1e6:.2f} with ten measurements a batch")
        print("queries, 100 devices:")
        bench_queries(folder)
        if not quick:
            bench_sqlite_queries(folder)


if __name__ == "__main__":
    main()

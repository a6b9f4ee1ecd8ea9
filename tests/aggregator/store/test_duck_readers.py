"""Readers and the writer do not hold each other up; what takes too long is stopped; what is closed says so."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.duck_query import DuckQueries, QueryConfig
from aggregator.query import Aggregate, Asked, Query, QueryTimeoutError, StoreUnavailableError
from aggregator.store_duckdb import DuckConfig, DuckStore
from schemas.errors import StoreError
from tests.aggregator.store.places import DuckPlace
from tests.contract.store_rows import CATALOGUE, T0, block, column, rows_of, seen, transaction

ALL = Query(measurement="gpu", since=0, asked=(Asked("power_watts", Aggregate.COUNT),), group=())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DuckPlace]:
    place = DuckPlace(tmp_path)
    yield place
    place.close()


@pytest.fixture
def store(place: DuckPlace) -> DuckStore:
    store = place.store()
    store.open()
    return store


def write(store: DuckStore, number: int, rows: int = 1) -> None:
    seconds = [number + row / rows for row in range(rows)]
    store.commit(transaction(rows_of(block("gpu", {"power_watts": [1.0] * rows}, seconds=seconds)), offset=number + 1))


def test_a_reader_with_an_open_snapshot_blocks_neither_commit_nor_upkeep(place: DuckPlace, store: DuckStore) -> None:
    write(store, 0)
    with store.view().database.reader() as cursor:
        cursor.execute("BEGIN")
        assert (1,) == cursor.execute("SELECT count(*) FROM gpu").fetchone()
        for number in range(1, 20):
            write(store, number)
        store.maintain(T0)
        assert (1,) == cursor.execute("SELECT count(*) FROM gpu").fetchone()
        cursor.execute("ROLLBACK")
    assert [[20]] == place.queries(store).run(ALL).data
    assert 1 == store.statistics.checkpoints
    assert 0 == store.wal_bytes


def test_many_threads_ask_while_one_writes(place: DuckPlace, store: DuckStore) -> None:
    """Every answer is a whole number of transactions, and they only grow."""
    write(store, 0, rows=10)
    queries = place.queries(store)
    problems: list[BaseException] = []
    stopping = threading.Event()

    def keep_asking() -> None:
        before = 0
        try:
            while not stopping.is_set():
                count = queries.run(ALL).data[0][0]
                assert 0 == count % 10
                assert count >= before
                before = count
        except BaseException as error:  # noqa: BLE001  # handed to the test
            problems.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 60):
        write(store, number, rows=10)
        if number % 20 == 0:
            store.maintain(T0)
    stopping.set()
    for thread in threads:
        thread.join()
    assert [] == problems
    assert [[600]] == queries.run(ALL).data


def test_a_query_that_takes_too_long_is_stopped(store: DuckStore) -> None:
    for part in range(4):
        seconds = [part * 50_000 + row for row in range(50_000)]
        fields = {"errors_total": [row % 1000 for row in range(50_000)]}
        store.commit(transaction(rows_of(block("gpu", fields, seconds=seconds))))
    queries = DuckQueries(store, QueryConfig(timeout_s=0.02))
    began = time.monotonic()
    with pytest.raises(QueryTimeoutError):
        queries.run(
            Query(
                measurement="gpu",
                since=0,
                asked=(Asked("errors_total", Aggregate.RATE),),
                every=1_000_000_000,
                limit=100_000,
            )
        )
    assert time.monotonic() - began < 30
    assert [[200_000]] == DuckQueries(store).run(
        Query(measurement="gpu", since=0, asked=(Asked("errors_total", Aggregate.COUNT),), group=())
    ).data
    queries.close()


def test_an_answer_of_long_texts_is_cut(store: DuckStore) -> None:
    store.commit(transaction(rows_of(block("log", {"message": ["x" * 1000] * 3000}))))
    queries = DuckQueries(store, QueryConfig(max_bytes=1 << 20))
    result = queries.run(Query(measurement="log", since=0, asked=(Asked("message"),)))
    assert result.truncated
    assert 1000 <= result.rows < 3000
    queries.close()


def test_while_closed_queries_say_unavailable_and_after_opening_they_answer(place: DuckPlace, store: DuckStore) -> None:
    write(store, 0)
    queries = place.queries(store)
    store.close()
    for ask in (lambda: queries.run(ALL), queries.describe):
        with pytest.raises(StoreUnavailableError) as caught:
            ask()
        assert "store.unavailable" == caught.value.code
    store.open()
    assert [[1]] == queries.run(ALL).data


def test_closing_interrupts_a_running_query(store: DuckStore) -> None:
    write(store, 0)
    failed: list[str] = []

    def run_long() -> None:
        import duckdb

        try:
            with store.view().database.reader() as cursor:
                started.set()
                cursor.execute("SELECT sum(sqrt(a.range * b.range)) FROM range(1000000) a, range(1000000) b").fetchall()
        except duckdb.InterruptException:
            failed.append("interrupted")

    started = threading.Event()
    thread = threading.Thread(target=run_long)
    thread.start()
    started.wait()
    time.sleep(0.1)
    began = time.monotonic()
    store.close()
    thread.join()
    assert time.monotonic() - began < 30
    assert ["interrupted"] == failed
    store.open()


def test_more_queries_than_may_wait_are_refused(store: DuckStore) -> None:
    write(store, 0)

    async def many() -> list[object]:
        queries = DuckQueries(store, QueryConfig(concurrent=1, waiting=2))
        try:
            return list(await asyncio.gather(*(queries.ask(ALL) for _ in range(10)), return_exceptions=True))
        finally:
            queries.close()

    results = asyncio.run(many())
    refused = [one for one in results if isinstance(one, StoreUnavailableError)]
    assert 7 == len(refused)


def test_a_failure_between_writing_and_commit_keeps_nothing(tmp_path: Path) -> None:
    failing: list[str] = []

    def failpoint(name: str) -> None:
        if name in failing:
            raise StoreError(name)

    store = DuckStore(tmp_path / "own.duckdb", CATALOGUE, failpoint=failpoint)
    store.open()
    write(store, 0)
    before = store.open()
    failing.append("store.commit.written")
    new = rows_of(block("brand_new", {"a": [1]}), block("gpu", {"power_watts": [9.0], "added": [True]}, device="gpu:9"))
    for _ in range(2):
        with pytest.raises(StoreError):
            store.commit(transaction(new, offset=99, seen=[seen(0, 5)]))
    assert before == store.open()
    assert 1 == store.series
    failing.clear()
    store.commit(transaction(new, offset=2))
    queries = DuckQueries(store)
    assert [[2]] == queries.run(ALL).data
    assert {None, True} == set(column(queries.run(Query(measurement="gpu", since=0)), "added"))
    store.close()
    store.open()
    assert [[2]] == queries.run(ALL).data
    queries.close()
    store.close()


def test_series_beyond_the_limit_are_bad_and_known_ones_are_not(tmp_path: Path) -> None:
    place = DuckPlace(tmp_path, DuckConfig(max_series=3))
    store = place.store()
    store.open()

    def of(*devices: int) -> object:
        return rows_of(*(block("gpu", {"power_watts": [1.0]}, device=f"gpu:{device}") for device in devices))

    store.commit(transaction(of(0, 1)))  # type: ignore[arg-type]
    bad = store.check([of(0, 1), of(2), of(3), of(1)])  # type: ignore[list-item]
    assert [(2, "more than 3 series")] == [(one.index, one.reason) for one in bad]
    place.close()


def test_a_second_store_on_the_same_file_is_refused_and_a_foreign_file_too(tmp_path: Path) -> None:
    other = tmp_path / "text.duckdb"
    other.write_text("this is no database, but long enough to be read as one " * 100)
    with pytest.raises(StoreError, match=r"text\.duckdb"):
        DuckStore(other, CATALOGUE).open()
    with pytest.raises(StoreError):
        DuckStore(tmp_path / "no" / "folder.duckdb", CATALOGUE).open()


def test_a_file_of_a_newer_version_is_refused(place: DuckPlace, store: DuckStore) -> None:
    store.view().database.writer.execute("UPDATE _meta SET value = '2' WHERE name = 'version'")
    store.close()
    with pytest.raises(StoreError, match="newer Muster"):
        place.store().open()

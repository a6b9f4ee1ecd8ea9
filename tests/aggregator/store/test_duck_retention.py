"""Retention deletes by age and by budget, oldest first, and counts what it takes (R001-10)."""

from pathlib import Path
from random import Random

import pytest

from aggregator.duck_maintain import ClassLimit, Retention
from aggregator.query import SECOND, Order, Query
from aggregator.store_duckdb import DuckConfig, DuckStore
from schemas.verbosity import RowClass
from tests.aggregator.store.places import DuckPlace
from tests.contract.store_rows import T0, block, column, rows_of, transaction

DAY = 86_400


def times(place: DuckPlace, store: DuckStore, measurement: str) -> list[float]:
    """Give the seconds after T0 of the rows that are there."""
    query = Query(measurement=measurement, since=0, order=Order.OLDEST, limit=100_000)
    return [(time - T0) / SECOND for time in column(place.queries(store).run(query), "time")]


def test_each_class_has_its_own_age(tmp_path: Path) -> None:
    retention = Retention(telemetry=ClassLimit(days=1), log=ClassLimit(days=2), event=ClassLimit())
    place = DuckPlace(tmp_path, DuckConfig(retention=retention))
    store = place.store()
    store.open()
    days = [0.0, DAY, 2 * DAY]
    store.commit(
        transaction(
            rows_of(block("gpu", {"power_watts": [1.0] * 3}, seconds=days)),
            rows_of(block("log", {"message": ["m"] * 3}, seconds=days), row_class=RowClass.LOG),
            rows_of(block("event", {"message": ["m"] * 3}, seconds=days), row_class=RowClass.EVENT),
        )
    )
    store.maintain(T0 + int(2.5 * DAY) * SECOND)
    assert [2 * DAY] == times(place, store, "gpu")
    assert [DAY, 2 * DAY] == times(place, store, "log")
    assert days == times(place, store, "event")
    assert {"gpu": 2, "log": 1} == store.statistics.retired
    place.close()


def test_the_newest_document_of_a_device_stays_however_old(tmp_path: Path) -> None:
    place = DuckPlace(tmp_path)
    store = place.store()
    store.open()
    blocks = [
        block("capability", {"document": ["{}"] * 2}, device="gpu:0", seconds=[0, 1]),
        block("capability", {"document": ["{}"]}, device="gpu:1", seconds=[2]),
    ]
    store.commit(transaction(rows_of(*blocks, row_class=RowClass.CAPABILITY)))
    store.maintain(T0 + 10_000 * DAY * SECOND)
    assert [1, 2] == times(place, store, "capability")
    place.close()


def fill(store: DuckStore, measurement: str, row_class: RowClass, minutes: range) -> None:
    """Store noise: 6,000 rows a minute, about 200 KB."""
    rng = Random(minutes.start)
    for minute in minutes:
        fields = {f"noise{number}": [rng.random() for _ in range(6_000)] for number in range(4)}
        seconds = [minute * 60 + row / 100 for row in range(6_000)]
        store.commit(transaction(rows_of(block(measurement, fields, seconds=seconds), row_class=row_class)))


@pytest.mark.parametrize("whole", [False, True])
def test_over_budget_the_oldest_go_until_it_fits(tmp_path: Path, whole: bool) -> None:
    """The newest stay, the file stops growing, and what went is counted."""
    budget = 8 << 20
    retention = Retention(bytes=budget) if whole else Retention(telemetry=ClassLimit(bytes=budget))
    place = DuckPlace(tmp_path, DuckConfig(retention=retention))
    store = place.store()
    store.open()
    sizes = []
    for hour in range(4):
        fill(store, "noise", RowClass.TELEMETRY, range(hour * 30, hour * 30 + 30))
        now = T0 + (hour * 30 + 31) * 60 * SECOND
        for _ in range(3):
            store.maintain(now)
        assert store.statistics.used_bytes <= 1.2 * budget
        sizes.append(store.path.stat().st_size)
    left = store.view().database.writer.execute("SELECT count(*), min(_time), max(_time) FROM noise").fetchone()
    assert left is not None
    count, oldest, newest = left
    assert 4 * 30 * 6_000 == count + store.statistics.retired["noise"]
    assert T0 + int(119 * 60 + 59.99) * SECOND <= newest
    assert oldest > T0 + 60 * 60 * SECOND
    assert count > 6_000 * 15, "far more than needed was deleted"
    assert sizes[-1] <= 2.5 * budget
    place.close()


def test_events_outlive_telemetry_under_the_common_budget(tmp_path: Path) -> None:
    place = DuckPlace(tmp_path, DuckConfig(retention=Retention(bytes=6 << 20)))
    store = place.store()
    store.open()
    store.commit(transaction(rows_of(block("event", {"message": ["old"]}, seconds=[-1e6]), row_class=RowClass.EVENT)))
    fill(store, "noise", RowClass.TELEMETRY, range(40))
    for _ in range(3):
        store.maintain(T0 + 41 * 60 * SECOND)
    assert store.statistics.retired["noise"] > 0
    assert [-1e6] == times(place, store, "event")
    place.close()


def test_over_its_budget_only_superseded_documents_go(tmp_path: Path) -> None:
    place = DuckPlace(tmp_path, DuckConfig(retention=Retention(capability=ClassLimit(bytes=1 << 20))))
    store = place.store()
    store.open()
    rng = Random(1)
    for minute in range(20):
        documents = [rng.randbytes(2_000).hex() for _ in range(60)]
        own = block("capability", {"document": documents}, seconds=[minute * 60 + second for second in range(60)])
        store.commit(transaction(rows_of(own, row_class=RowClass.CAPABILITY)))
    only = block("capability", {"document": ["{}"]}, device="gpu:1", seconds=[-100])
    store.commit(transaction(rows_of(only, row_class=RowClass.CAPABILITY)))
    store.maintain(T0)  # nothing is on disk as blocks before the first checkpoint
    store.maintain(T0 + 30 * 60 * SECOND)
    left = times(place, store, "capability")
    assert (-100, 1199) == (left[0], left[-1])
    assert 1201 - len(left) == store.statistics.retired["capability"] > 500
    place.close()


def test_series_without_rows_are_forgotten_and_may_come_again(tmp_path: Path) -> None:
    place = DuckPlace(tmp_path, DuckConfig(retention=Retention(telemetry=ClassLimit(days=1))))
    store = place.store()
    store.open()
    store.commit(
        transaction(
            rows_of(*(block("gpu", {"power_watts": [1.0]}, device=f"gpu:{n}", seconds=[n * DAY]) for n in range(3)))
        )
    )
    for _ in range(60):
        store.maintain(T0 + int(2.5 * DAY) * SECOND)
    assert (1, 2) == (store.series, store.statistics.series_forgotten)
    store.commit(transaction(rows_of(block("gpu", {"power_watts": [5.0]}, device="gpu:0", seconds=[2 * DAY]))))
    store.close()
    store.open()
    rows = place.queries(store).run(Query(measurement="gpu", since=0, order=Order.OLDEST))
    assert [("gpu:0", 5.0), ("gpu:2", 1.0)] == sorted(
        zip(column(rows, "device"), column(rows, "power_watts"), strict=True)
    )
    place.close()

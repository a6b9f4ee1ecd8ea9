"""Quarantine: what cannot be taken can be looked at, and is counted once (promises 2 and 8)."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from aggregator import migrate
from aggregator.control_sqlite import SqliteControl
from aggregator.quarantine import (
    INGEST,
    Limits,
    Quarantine,
    QuarantineError,
    counts,
    intervals,
    kept_bytes,
    list_entries,
    put,
    remove,
    show,
)
from aggregator.store import Stream
from schemas.batch import Envelope
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass
from tests.aggregator.control.conftest import Time

STREAM = Stream("n1", "e1", RowClass.LOG, Level.STANDARD)


def envelope(first: int, rows: int, **more: Any) -> Envelope:
    fields: dict[str, Any] = {
        "publisher": "n1",
        "epoch": "e1",
        "row_class": RowClass.LOG,
        "level": Level.STANDARD,
    } | more
    return Envelope(first=first, rows=rows, order=0, **fields)


@pytest.fixture
def quarantine(control: SqliteControl, time: Time) -> Quarantine:
    return Quarantine(control, Limits(entry_bytes=100, total_bytes=250, entries=5), wall_ns=time.wall_ns)


async def test_an_entry_says_what_came_and_why_it_was_not_taken(
    quarantine: Quarantine, control: SqliteControl, time: Time
) -> None:
    await quarantine.at_ingest(envelope(10, 5), "n1", b"bytes", "wire.malformed: a row too many")
    (entry,) = await control.read(list_entries)
    assert (STREAM, 10, 5, INGEST) == (entry.stream, entry.first, entry.rows, entry.stage)
    assert ("wire.malformed", "wire.malformed: a row too many") == (entry.code, entry.reason)
    assert (5, 5, 1, time.wall_ns(), None) == (entry.size, entry.kept, entry.times, entry.first_ns, entry.body)
    assert b"bytes" == (await control.read(partial(show, id=entry.id))).body


async def test_a_batch_that_comes_again_counts_once(quarantine: Quarantine, control: SqliteControl, time: Time) -> None:
    for _ in range(3):
        await quarantine.at_ingest(envelope(10, 5), "n1", b"bytes", "wire.malformed: x")
        time.pass_(1)
    (entry,) = await control.read(list_entries)
    assert (3, 2 * 10**9) == (entry.times, entry.last_ns - entry.first_ns)
    assert [(STREAM, (10, 15))] == await control.read(partial(intervals, stage=INGEST))
    assert {(INGEST, "wire.malformed"): (1, 3)} == await control.read(counts)
    assert 5 == await control.read(kept_bytes)


async def test_one_batch_is_counted_for_each_stage_that_set_it_aside(
    quarantine: Quarantine, control: SqliteControl
) -> None:
    await quarantine.at_consumer(envelope(0, 5), b"bytes", "store", "store.unstorable: x")
    await quarantine.at_consumer(envelope(0, 5), b"bytes", "alerts", "alerts.broken: x")
    assert [(STREAM, (0, 5))] == await control.read(partial(intervals, stage="store"))
    assert [(STREAM, (0, 5))] == await control.read(partial(intervals, stage="alerts"))
    assert [] == await control.read(partial(intervals, stage=INGEST))
    assert ["store"] == [entry.stage for entry in await control.read(partial(list_entries, stage="store"))]


async def test_bytes_without_a_readable_envelope_are_kept_and_no_rows_are_counted(
    quarantine: Quarantine, control: SqliteControl
) -> None:
    for data in (b"garbage", b"rubbish", b"garbage"):
        await quarantine.at_ingest(None, "n1", data, "wire.malformed: not a batch")
    entries = await control.read(list_entries)
    assert [(None, None, None, 1), (None, None, None, 2)] == [
        (entry.stream, entry.first, entry.rows, entry.times) for entry in entries
    ]
    assert [] == await control.read(partial(intervals, stage=INGEST))


async def test_entries_are_found_by_class_and_level(quarantine: Quarantine, control: SqliteControl) -> None:
    """The most telling of classes and the least of levels are 0, which is no reason to leave a filter out."""
    await quarantine.at_ingest(envelope(0, 5), "n1", b"log", "c: x")
    lowest = envelope(10, 5, row_class=RowClass.TELEMETRY, level=Level.ESSENTIAL)
    await quarantine.at_ingest(lowest, "n1", b"telemetry", "c: x")
    for asked in ({"row_class": RowClass.TELEMETRY}, {"level": Level.ESSENTIAL}):
        assert [10] == [entry.first for entry in await control.read(partial(list_entries, **asked))]
    assert [] == await control.read(partial(list_entries, row_class=RowClass.LOG, level=Level.ESSENTIAL))


async def test_heartbeats_are_told_apart_by_their_bytes(quarantine: Quarantine, control: SqliteControl) -> None:
    for data in (b"one", b"two"):
        await quarantine.at_ingest(envelope(7, 0), "n1", data, "wire.malformed: a heartbeat has a body")
    assert [0, 0] == [entry.rows for entry in await control.read(list_entries)]
    assert [] == await control.read(partial(intervals, stage=INGEST))


async def test_a_large_batch_is_cut(quarantine: Quarantine, control: SqliteControl) -> None:
    await quarantine.at_ingest(envelope(0, 1), "n1", b"x" * 1000, "wire.too_large: x")
    (entry,) = await control.read(list_entries)
    assert (1000, 100, b"x" * 100) == (entry.size, entry.kept, (await control.read(partial(show, id=entry.id))).body)


async def test_the_oldest_bytes_go_first_and_their_rows_stay_counted(
    quarantine: Quarantine, control: SqliteControl
) -> None:
    for n in range(4):
        await quarantine.at_ingest(envelope(10 * n, 10), "n1", b"x" * 100, "c: x")
    assert [100, 100, 0, 0] == [entry.kept for entry in await control.read(list_entries)]
    assert 200 == await control.read(kept_bytes)
    assert [(STREAM, (0, 40))] == await control.read(partial(intervals, stage=INGEST))
    oldest = (await control.read(list_entries))[-1]
    assert None is (await control.read(partial(show, id=oldest.id))).body


async def test_the_oldest_entries_go_when_there_are_too_many_and_their_rows_stay_counted(
    quarantine: Quarantine, control: SqliteControl
) -> None:
    for n in range(12):
        await quarantine.at_ingest(envelope(10 * n, 5), "n1", b"x" * 10, "c: x")
    assert [110, 100, 90, 80, 70] == [entry.first for entry in await control.read(list_entries)]
    assert 50 == await control.read(kept_bytes)
    assert 12 == len(await control.read(partial(intervals, stage=INGEST)))


async def test_removing_an_entry_frees_its_bytes_and_keeps_its_rows_counted(
    quarantine: Quarantine, control: SqliteControl
) -> None:
    await quarantine.at_ingest(envelope(0, 5), "n1", b"bytes", "c: x")
    (entry,) = await control.read(list_entries)
    await control.write(partial(remove, id=entry.id))
    assert ([], 0) == (await control.read(list_entries), await control.read(kept_bytes))
    await quarantine.at_ingest(envelope(0, 5), "n1", b"bytes", "c: x")
    assert [(STREAM, (0, 5))] == await control.read(partial(intervals, stage=INGEST))
    with pytest.raises(QuarantineError, match=f"no quarantined batch {entry.id}"):
        await control.write(partial(remove, id=entry.id))


async def test_lists_come_in_pages_and_by_publisher(quarantine: Quarantine, control: SqliteControl) -> None:
    for n in range(5):
        await quarantine.at_ingest(envelope(n, 1), f"n{n % 2}", b"x", "c: x")
    page = await control.read(partial(list_entries, limit=2))
    rest = await control.read(partial(list_entries, before=page[-1].id))
    assert [4, 3, 2, 1, 0] == [entry.first for entry in page + rest]
    mine = await control.read(partial(list_entries, publisher="n1"))
    assert [3, 1] == [entry.first for entry in mine]
    assert {"n1"} == {
        stream.publisher for stream, _ in await control.read(partial(intervals, stage=INGEST, publisher="n1"))
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["n1", "n2"]), st.sampled_from([0, 3]), st.integers(0, 40), st.integers(1, 10)),
        max_size=25,
    )
)
def test_the_rows_counted_are_the_union_of_what_came(batches: list[tuple[str, int, int, int]]) -> None:
    expected: dict[Stream, Intervals] = {}
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        migrate.CONTROL.metadata.create_all(connection)
        for publisher, level, first, rows in batches:
            one = envelope(first, rows, publisher=publisher, level=Level(level))
            put(connection, publisher=publisher, envelope=one, data=b"x", stage=INGEST, reason="c: x", now_ns=1)
            stream = Stream(publisher, "e1", RowClass.LOG, Level(level))
            expected.setdefault(stream, Intervals()).add(first, first + rows)
        flat = [(stream, pair) for stream in sorted(expected) for pair in expected[stream]]
        assert flat == intervals(connection, INGEST)
    engine.dispose()

"""The store consumer over the real log: every row once, whatever is repeated, fails or is started again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from aggregator.consumer import Own, own_nothing
from aggregator.control import ControlFullError
from aggregator.cutting import cut_blocks
from aggregator.log import Entry, partition_of
from aggregator.log_sqlite import SqliteLog
from aggregator.store import Outcome, Position, Progress, Rows, Seen, Stream, Transaction
from aggregator.store_consumer import StoreConsumer
from schemas.batch import Envelope
from schemas.codec import check_batch, decode_batch
from schemas.rows import Event
from schemas.verbosity import Level, RowClass
from tests.aggregator.consumer.fakes import MemoryStore, account, batch, heartbeat


class Rig:
    """A log, a store, and consumers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteLog(folder / "log.db", synchronous="OFF", min_free_bytes=0)
        self.store = MemoryStore()
        self.aside: list[tuple[str, int, int, str, str]] = []
        self.events: list[str] = []

    async def append(self, *values: bytes) -> None:
        entries = []
        for value in values:
            publisher = decode_batch(value).envelope.publisher
            entries.append(Entry("telemetry", partition_of(publisher, self.log.partitions), value))
        await self.log.append(entries)

    async def keep_aside(self, envelope: Envelope, _: bytes, stage: str, reason: str) -> None:
        self.aside.append((envelope.publisher, envelope.first, envelope.end, stage, reason))

    async def announce(self, events: list[Event]) -> None:
        self.events.extend(event.type for event in events)

    @contextlib.asynccontextmanager
    async def consumer(self, keep: Level = Level.DEBUG, own: Own = own_nothing) -> AsyncIterator[StoreConsumer]:
        consumer = StoreConsumer(self.log, self.store, self.keep_aside, keep=keep, announce=self.announce, own=own)
        task = asyncio.create_task(consumer.run())
        try:
            yield consumer
        finally:
            consumer.stop()
            await asyncio.wait_for(task, 60)

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for is in another hand
                await asyncio.sleep(0.005)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.log.close()


async def test_rows_are_stored_once_however_often_they_come(rig: Rig) -> None:
    """Promise 3: repetitions are known by publisher, epoch, stream and row number."""
    async with rig.consumer() as consumer:
        await rig.append(batch("n1", 0, 5), batch("n1", 0, 5), batch("n1", 5, 5))
        await rig.append(batch("n1", 5, 5), batch("n2", 0, 3))
        # the partitions are read one after the other: what came again may be committed later than what is new
        await rig.until(lambda: (13, 10) == (consumer.status.rows_done, consumer.status.rows_repeated))
    assert sorted(rig.store.rows) == [*(("n1", n) for n in range(10)), *(("n2", n) for n in range(3))]


async def test_of_a_batch_that_overlaps_only_the_new_rows_are_stored(rig: Rig) -> None:
    async with rig.consumer():
        await rig.append(batch("n1", 2, 3), batch("n1", 0, 8))
        await rig.until(lambda: len(rig.store.rows) == 8)

    assert sorted(rig.store.rows) == [("n1", number) for number in range(8)]


async def test_a_new_consumer_goes_on_where_the_store_says(rig: Rig) -> None:
    async with rig.consumer():
        await rig.append(batch("n1", 0, 5))
        await rig.until(lambda: len(rig.store.rows) == 5)
    await rig.append(batch("n1", 0, 5), batch("n1", 5, 2))

    async with rig.consumer():
        await rig.until(lambda: len(rig.store.rows) == 7)

    assert sorted(rig.store.rows) == [("n1", number) for number in range(7)]


async def test_a_failed_commit_loses_nothing_and_doubles_nothing(rig: Rig) -> None:
    rig.store.failures = ["disk full", "disk full"]
    async with rig.consumer() as consumer:
        await rig.append(batch("n1", 0, 5), batch("n2", 0, 5))
        await rig.until(lambda: len(rig.store.rows) == 10)

        assert consumer.status.failures == 2
        assert consumer.status.last_error == ""
    assert sorted(rig.store.rows) == [*(("n1", n) for n in range(5)), *(("n2", n) for n in range(5))]


async def test_what_cannot_be_stored_is_set_aside_and_the_rest_goes_on(rig: Rig) -> None:
    rig.store.bad = {"odd"}
    async with rig.consumer() as consumer:
        await rig.append(batch("n1", 0, 5), batch("n1", 5, 5, subject="odd"), batch("n1", 10, 5))
        await rig.until(lambda: consumer.status.rows_done == 10)

        assert consumer.status.rows_quarantined == 5
    assert rig.aside == [("n1", 5, 10, "store", "store.unstorable: a text in a column of numbers")]
    outcomes = {(seen.first, seen.end): seen.outcome.name for seen in rig.store.progress.seen}
    assert outcomes[5, 10] == "QUARANTINED"


async def test_a_body_that_does_not_open_is_set_aside(rig: Rig) -> None:
    async with rig.consumer():
        await rig.append(batch("n1", 0, 5, body=b"rubbish"), batch("n1", 5, 5))
        await rig.until(lambda: len(rig.store.rows) == 5)

    assert [(first, end, stage) for _, first, end, stage, _ in rig.aside] == [(0, 5, "store")]


async def test_rows_above_the_level_that_is_kept_are_counted_as_filtered(rig: Rig) -> None:
    """R001-12: filtering at the aggregator as well."""
    async with rig.consumer(keep=Level.STANDARD) as consumer:
        await rig.append(batch("n1", 0, 5, level=Level.DEBUG), batch("n1", 0, 4))
        await rig.until(lambda: consumer.status.rows_done == 4)

        assert consumer.status.rows_filtered == 5


async def test_the_latest_word_is_kept(rig: Rig) -> None:
    async with rig.consumer() as consumer:
        await rig.append(heartbeat("n1", account(9, [(5, 9)], word=2)), heartbeat("n1", account(5, [(0, 5)], word=1)))
        await rig.until(lambda: bool(consumer.committed.words))

        assert consumer.committed.words["n1"].account.word == 2


async def test_a_recreated_log_is_read_from_its_beginning(rig: Rig, tmp_path: Path) -> None:
    async with rig.consumer():
        await rig.append(batch("n1", 0, 5))
        await rig.until(lambda: len(rig.store.rows) == 5)
    await rig.log.close()
    (tmp_path / "second").mkdir()
    rig.log = SqliteLog(tmp_path / "second" / "log.db", synchronous="OFF", min_free_bytes=0)
    await rig.append(batch("n1", 0, 5), batch("n1", 5, 1))

    async with rig.consumer():
        await rig.until(lambda: len(rig.store.rows) == 6)

    assert rig.store.progress.log_id == rig.log.id
    assert rig.events == ["log.recreated"]


async def test_a_log_put_back_from_an_older_copy_is_read_from_its_beginning(rig: Rig, tmp_path: Path) -> None:
    """Its offsets are given a second time: what was read of them says nothing of what lies there now."""
    await rig.append(batch("n1", 0, 2))
    await rig.log.close()
    older = (tmp_path / "log.db").read_bytes()
    rig.log = SqliteLog(tmp_path / "log.db", synchronous="OFF", min_free_bytes=0)
    async with rig.consumer() as consumer:
        await rig.append(batch("n1", 2, 2), batch("n1", 4, 2))
        await rig.until(lambda: consumer.status.rows_done == 6)
    await rig.log.close()
    (tmp_path / "log.db").write_bytes(older)
    rig.log = SqliteLog(tmp_path / "log.db", synchronous="OFF", min_free_bytes=0)
    await rig.append(batch("n1", 6, 1))

    async with rig.consumer() as consumer:
        await rig.until(lambda: consumer.status.rows_done == 1)
        assert consumer.status.rows_repeated == 2
    async with rig.consumer() as consumer:  # the positions that it found now are below those that it had
        await rig.append(batch("n1", 7, 1))
        await rig.until(lambda: consumer.status.rows_done == 1)
        assert consumer.status.rows_repeated == 0

    assert [row for _, row in rig.store.rows] == list(range(8))
    assert rig.events == ["log.set_back"]


async def test_what_a_failed_commit_reads_again_is_counted_once(rig: Rig) -> None:
    rig.store.failures = ["disk full", "disk full"]
    async with rig.consumer(keep=Level.STANDARD) as consumer:
        await rig.append(batch("n1", 0, 5), batch("n1", 0, 5), batch("n1", 0, 3, level=Level.DEBUG))
        await rig.append(batch("n1", 5, 2, body=b"rubbish"))
        await rig.until(lambda: consumer.status.records == 4)

        counted = consumer.status
        assert (5, 5, 3) == (counted.rows_done, counted.rows_repeated, counted.rows_filtered)
        assert (2, 2) == (counted.rows_quarantined, counted.failures)


async def test_a_store_that_fails_in_any_way_at_the_end_does_not_keep_the_consumer_from_ending(rig: Rig) -> None:
    async with rig.consumer() as consumer:
        await rig.until(lambda: consumer.ready)

        def close() -> None:
            raise OSError("input/output error")

        rig.store.close = close  # type: ignore[method-assign]

    assert not consumer.ready


class Owners:
    """Gives epochs as the control database does, and can be another instance for a moment."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.epochs: dict[int, int] = {}
        self.refusals = 0

    async def own(self, above: Mapping[int, int]) -> Mapping[int, int]:
        if self.refusals:
            self.refusals -= 1
            raise ControlFullError("no room")
        for partition in await self.rig.log.owned():
            if self.epochs.get(partition, 0) < max(1, above.get(partition, 0)):
                self.epochs[partition] = above.get(partition, 0) + 1
        return dict(self.epochs)


async def test_partitions_are_taken_before_anything_is_read(rig: Rig) -> None:
    owners = Owners(rig)
    owners.refusals = 2
    await rig.append(batch("n1", 0, 5))
    async with rig.consumer(own=owners.own) as consumer:
        await rig.until(lambda: consumer.status.failures == 2)
        assert rig.store.rows == []
        await rig.until(lambda: len(rig.store.rows) == 5)

    assert rig.store.progress.owners == dict.fromkeys(range(rig.log.partitions), 1)


async def test_an_owner_that_was_replaced_stores_nothing_of_what_it_read(rig: Rig) -> None:
    """Another instance takes the partition and stores the rows just before our commit; they are not stored again."""
    owners = Owners(rig)
    async with rig.consumer(own=owners.own) as consumer:
        await rig.until(lambda: consumer.ready)

        def take_and_store() -> None:
            rig.store.before_commit = lambda: None
            partition = partition_of("n1", rig.log.partitions)
            [block] = check_batch(decode_batch(batch("n1", 0, 5)))
            stream = Stream("n1", "e1", RowClass.TELEMETRY, Level.STANDARD)
            seen, position = Seen(stream, 0, 5, Outcome.DONE), Position("telemetry", partition, 1)
            progress = Progress(rig.log.id, [position], [seen], owners={partition: 7})
            rig.store.commit(Transaction([Rows("n1", RowClass.TELEMETRY, Level.STANDARD, [block])], progress))

        rig.store.before_commit = take_and_store
        await rig.append(batch("n1", 0, 5))
        await rig.until(lambda: consumer.status.failures == 1)
        await rig.append(batch("n1", 5, 2))
        await rig.until(lambda: len(rig.store.rows) == 7)

    assert sorted(rig.store.rows) == [("n1", number) for number in range(7)]
    assert rig.store.progress.owners[partition_of("n1", rig.log.partitions)] == 8


async def test_partitions_that_come_are_taken_and_read_and_those_that_go_are_left(tmp_path: Path) -> None:
    class ChangingLog(SqliteLog):
        mine = frozenset({partition_of("n1", 8)})

        async def owned(self) -> frozenset[int]:
            return self.mine

    rig = Rig(tmp_path)
    await rig.log.close()
    log = rig.log = ChangingLog(tmp_path / "log.db", synchronous="OFF", min_free_bytes=0)
    other = next(name for name in ("n2", "n3", "n4") if partition_of(name, 8) != partition_of("n1", 8))
    owners = Owners(rig)
    async with rig.consumer(own=owners.own) as consumer:
        await rig.append(batch("n1", 0, 1), batch(other, 0, 1))
        await rig.until(lambda: rig.store.rows == [("n1", 0)])
        log.mine = frozenset({partition_of(other, 8)})
        await rig.append(batch("n1", 1, 1), batch(other, 1, 1))
        await rig.until(lambda: len(rig.store.rows) == 3)

        assert consumer.status.failures == 0
    await log.close()

    assert sorted(rig.store.rows) == sorted([("n1", 0), (other, 0), (other, 1)])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.sampled_from(["n1", "n2", "n3"]), st.integers(0, 6)),
            st.tuples(st.just("fail"), st.just(""), st.integers(1, 2)),
            st.tuples(st.just("restart"), st.just(""), st.just(0)),
        ),
        max_size=25,
    )
)
def test_any_mixture_of_repeats_failures_and_restarts_stores_each_row_once(
    steps: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def run() -> None:
        rig = Rig(tmp_path_factory.mktemp("log"))
        sent: set[tuple[str, int]] = set()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(rig.consumer())
            for what, publisher, number in steps:
                if what == "send":
                    await rig.append(batch(publisher, number * 4, 4))
                    sent |= {(publisher, row) for row in range(number * 4, number * 4 + 4)}
                elif what == "fail":
                    rig.store.failures = ["no"] * number
                else:
                    await stack.aclose()
                    await stack.enter_async_context(rig.consumer())
            rig.store.failures = []
            await rig.until(lambda: len(rig.store.rows) >= len(sent))
        await rig.log.close()
        assert sorted(rig.store.rows) == sorted(sent)

    asyncio.run(run())


def test_cutting_keeps_times_and_columns_together() -> None:
    [block] = check_batch(decode_batch(batch("n1", 10, 6)))

    [cut] = cut_blocks([block], 10, [(11, 13), (15, 16)])

    assert cut.ints == {"number": [11, 12, 15]}
    assert cut.start == block.start + 1
    assert cut.steps == [0, 1, 3]


async def test_an_error_of_any_kind_costs_no_row(rig: Rig) -> None:
    """The control database may be full when something is to be set aside; the consumer comes again."""
    refusals = ["full", "full"]

    async def keep_aside(envelope: Envelope, data: bytes, stage: str, reason: str) -> None:
        if refusals:
            raise ControlFullError(refusals.pop())
        await Rig.keep_aside(rig, envelope, data, stage, reason)

    rig.keep_aside = keep_aside  # type: ignore[method-assign, assignment]
    async with rig.consumer() as consumer:
        await rig.append(batch("n1", 0, 5), batch("n1", 5, 5, body=b"rubbish"), batch("n1", 10, 5))
        await rig.until(lambda: len(rig.store.rows) == 10)

        assert consumer.status.failures == 2
    assert [(first, end) for _, first, end, _, _ in rig.aside] == [(5, 10)]

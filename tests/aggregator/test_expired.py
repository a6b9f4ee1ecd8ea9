"""What retention of the log takes from a consumer that has not read it is counted, durably, and the balance closes."""

import asyncio
from pathlib import Path

import msgspec

from aggregator.balance import make_balance
from aggregator.control_sqlite import SqliteControl
from aggregator.expired import Expiry
from aggregator.log import Entry, partition_of
from aggregator.log_sqlite import SqliteLog
from aggregator.progress import Tracker
from aggregator.retention import Limits, Retention
from aggregator.store import Outcome, Stream
from aggregator.store_consumer import StoreConsumer
from aggregator.unread import Unread, UnreadLog
from schemas.account import Account, Dropped, EpochAccount
from schemas.batch import Envelope
from schemas.verbosity import Level, RowClass
from tests.aggregator.consumer.fakes import MemoryStore, account, batch, heartbeat

STREAM = Stream("n1", "e1", RowClass.TELEMETRY, Level.STANDARD)


async def test_unread_rows_that_retention_takes_are_expired_in_the_balance(tmp_path: Path) -> None:
    """Promise 2 (R001-15): nothing is lost silently, not even by being late."""
    log = SqliteLog(tmp_path / "log.db", synchronous="OFF", min_free_bytes=0)
    control = SqliteControl(tmp_path / "control.db")
    control.open()
    partition = partition_of("n1", log.partitions)
    await log.append([Entry("telemetry", partition, batch("n1", first, 10)) for first in range(0, 400, 10)])
    read = 15  # of 40 records the consumer has read so many
    tracker = Tracker()
    tracker.hear("n1", "e1", 0, account(400, []))
    tracker.mark(STREAM, 0, read * 10, Outcome.DONE)
    expiry = Expiry(control)
    await expiry.load()
    retention = Retention(
        log, {"telemetry": Limits(bytes=1)}, positions=lambda topic, part: {"store": read}, take=expiry.take
    )

    await retention.enforce(0)

    begin = await log.begin("telemetry", partition)
    assert begin > read
    unread = await _unread(log, partition, begin)
    again = Expiry(control)
    await again.load()
    for known in (expiry, again):
        balance = make_balance({"store": tracker}, {"store": unread}, (), {"store": known.intervals("store")})
        [line] = balance.lines
        assert (line.done, line.expired, line.in_log) == (150, (begin - read) * 10, (40 - begin) * 10)
        assert (line.unaccounted, balance.closed) == (0, True)
    await log.close()
    await control.close()


async def test_a_word_that_expires_unread_is_heard_all_the_same(tmp_path: Path) -> None:
    """The publisher takes its dropped rows as told once the log has the word, and says them no more (promise 2)."""
    log = SqliteLog(tmp_path / "log.db", synchronous="OFF", min_free_bytes=0)
    control = SqliteControl(tmp_path / "control.db")
    control.open()
    partition = partition_of("n1", log.partitions)
    told = account(10, [(4, 10)])
    stream = msgspec.structs.replace(told.epochs[0].streams[0], dropped=[Dropped("spool_full", [(0, 4)])])
    first = Account(1, [EpochAccount("e1", "boot", [stream])])
    await log.append([Entry("event", partition, heartbeat("n1", word)) for word in (first, account(10, [], word=2))])
    await log.append([Entry("telemetry", partition, batch("n1", 4, 6))])
    expiry = Expiry(control)
    retention = Retention(log, {"event": Limits(bytes=0)}, positions=lambda topic, part: {"store": 0}, take=expiry.take)
    await retention.enforce(0)
    again = Expiry(control)
    await again.load()
    store = MemoryStore()
    consumer = StoreConsumer(log, store, _refuse, expired_words=lambda: again.words("store"))
    running = asyncio.create_task(consumer.run())

    async with asyncio.timeout(5):
        while consumer.status.rows_done < 6:  # noqa: ASYNC110 - it is in another hand
            await asyncio.sleep(0.005)
    consumer.stop()
    await running

    [kept] = store.progress.words
    assert 2 == kept.account.word
    [line] = make_balance({"store": Tracker(store.progress)}, {}).lines
    assert (6, {"spool_full": 4}, 0) == (line.done, line.dropped, line.unaccounted)
    await log.close()
    await control.close()


async def _refuse(envelope: Envelope, data: bytes, stage: str, reason: str) -> None:
    raise AssertionError(reason)


async def _unread(log: SqliteLog, partition: int, offset: int) -> Unread:
    end = await log.end("telemetry", partition)
    return await UnreadLog(log).look({("telemetry", partition): offset}, {("telemetry", partition): end})

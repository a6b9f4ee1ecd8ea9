"""What lies unread in the log: all of it however much, opened once, and no word newer than the rows beside it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator.balance import make_balance
from aggregator.log import Entry, Record, partition_of
from aggregator.log_sqlite import SqliteLog
from aggregator.progress import Tracker
from aggregator.store import Outcome, Stream
from aggregator.unread import Place, UnreadLog
from schemas.verbosity import Level, RowClass
from tests.aggregator.consumer.fakes import account, batch, heartbeat

STREAM = Stream("n1", "e1", RowClass.TELEMETRY, Level.STANDARD)


class CountingLog(SqliteLog):
    """Counts the records that are read."""

    given = 0

    async def read(self, topic: str, partition: int, offset: int, max_bytes: int) -> list[Record]:
        """See `Log`."""
        records = await super().read(topic, partition, offset, max_bytes)
        self.given += len(records)
        return records


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[CountingLog]:
    made = CountingLog(tmp_path / "log.db", synchronous="OFF", min_free_bytes=0)
    yield made
    await made.close()


async def ends_of(log: SqliteLog) -> dict[Place, int]:
    partition = partition_of("n1", log.partitions)
    return {(topic, partition): await log.end(topic, partition) for topic in ("telemetry", "event")}


async def append(log: SqliteLog, topic: str, *values: bytes) -> None:
    await log.append([Entry(topic, partition_of("n1", log.partitions), value) for value in values])


async def test_a_record_that_stays_unread_is_opened_once(log: CountingLog) -> None:
    """During a long outage every scrape would otherwise read all of the log again."""
    unread = UnreadLog(log)
    for first in range(0, 5000, 1000):
        await append(log, "telemetry", *(batch("n1", number, 10) for number in range(first, first + 1000, 10)))
        found = await unread.look({}, await ends_of(log))

        assert [(0, first + 1000)] == found.rows[STREAM].pairs()
    assert 500 == log.given


async def test_what_the_consumer_has_caught_up_with_is_forgotten(log: CountingLog) -> None:
    unread = UnreadLog(log)
    place = ("telemetry", partition_of("n1", log.partitions))
    await append(log, "telemetry", batch("n1", 0, 10))
    await unread.look({}, await ends_of(log))
    await append(log, "telemetry", batch("n1", 10, 10))

    found = await unread.look({place: 1}, await ends_of(log))

    assert [(10, 20)] == found.rows[STREAM].pairs()


async def test_what_retention_trims_meanwhile_is_passed_over(log: CountingLog) -> None:
    unread = UnreadLog(log)
    await append(log, "telemetry", *(batch("n1", number, 10) for number in range(0, 50, 10)))
    await log.trim("telemetry", partition_of("n1", log.partitions), 3)

    found = await unread.look({}, await ends_of(log))

    assert [(30, 50)] == found.rows[STREAM].pairs()


async def test_a_word_that_arrives_while_the_log_is_looked_at_waits_for_the_next_balance(log: CountingLog) -> None:
    """It says of rows that they were sent which were not there when the place where they lie was looked at."""
    tracker, unread = Tracker(), UnreadLog(log)
    await append(log, "telemetry", batch("n1", 0, 10))
    await append(log, "event", heartbeat("n1", account(10, [])))
    ends = await ends_of(log)
    await append(log, "telemetry", batch("n1", 10, 10))
    await append(log, "event", heartbeat("n1", account(20, [], word=2)))

    for count in (10, 20):
        [line] = make_balance({"store": tracker}, {"store": await unread.look({}, ends)}).lines
        assert (count, count, 0) == (line.numbered, line.in_log, line.unaccounted)
        ends = await ends_of(log)


async def test_a_frozen_tracker_keeps_its_words_and_its_rows() -> None:
    tracker = Tracker()
    tracker.hear("n1", "e1", 1, account(10, [(5, 10)]))
    tracker.mark(STREAM, 0, 5, Outcome.DONE)
    words = dict(tracker.words)
    tracker.hear("n1", "e1", 2, account(20, [], word=2))
    frozen = tracker.frozen(words)
    tracker.mark(STREAM, 5, 8, Outcome.DONE)

    [line] = make_balance({"store": frozen}, {}).lines

    assert (5, 5, 0) == (line.done, line.spooled, line.unaccounted)

"""Retention keeps the log within its limits, and says to whom what it takes was still owed (R001-15)."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from aggregator.log import Entry, Expired
from aggregator.log_sqlite import SqliteLog
from aggregator.retention import Limits, Retention, Taken, Trimmed
from schemas.batch import Envelope
from schemas.codec import encode_batch
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass

SECOND = 10**9


def batch(first: int, rows: int, size: int = 100) -> bytes:
    """Give a batch of telemetry; nobody opens its body here."""
    return encode_batch(Envelope("node-1", "e1", RowClass.TELEMETRY, Level.STANDARD, first, rows, first), bytes(size))


class Ledger:
    """A clock, consumers' positions, and what was taken from them."""

    def __init__(self, log: SqliteLog) -> None:
        self.log = log
        self.at: dict[str, dict[tuple[str, int], int]] = {}
        self.taken: list[tuple[str, Taken]] = []
        self.begins: list[int] = []
        self.broken = False

    def positions(self, topic: str, partition: int) -> Mapping[str, int]:
        return {name: at[topic, partition] for name, at in self.at.items() if (topic, partition) in at}

    async def take(self, consumer: str, taken: Taken) -> None:
        if self.broken:
            raise OSError("the control database is away")
        self.begins.append(await self.log.begin(taken.expired.topic, taken.expired.partition))
        self.taken.append((consumer, taken))

    def rows_taken(self, consumer: str) -> Intervals:
        rows = Intervals()
        for name, taken in self.taken:
            if name == consumer:
                rows.update((envelope.first, envelope.end) for envelope in taken.envelopes)
        return rows


async def _ten_batches(tmp_path: Path) -> tuple[SqliteLog, Ledger]:
    """Ten batches of five rows, one a second from 1000 s on, in telemetry/3."""
    now = 0

    def clock() -> int:
        return now

    log = SqliteLog(tmp_path / "log.sqlite", clock=clock)
    for number in range(10):
        now = (1000 + number) * SECOND
        await log.append([Entry("telemetry", 3, batch(number * 5, 5))])
    return log, Ledger(log)


async def test_nothing_is_trimmed_within_the_limits(tmp_path: Path) -> None:
    log, ledger = await _ten_batches(tmp_path)
    limits = {"telemetry": Limits(age_seconds=100, bytes=1 << 20), "log": Limits(age_seconds=0, bytes=0)}
    retention = Retention(log, limits, positions=ledger.positions, take=ledger.take)
    assert [] == await retention.enforce(1010 * SECOND)
    assert 0 == await log.begin("telemetry", 3)
    await log.close()


async def test_what_everybody_has_read_goes_without_a_word(tmp_path: Path) -> None:
    log, ledger = await _ten_batches(tmp_path)
    ledger.at = {"store": {("telemetry", 3): 9}, "alerts": {("telemetry", 3): 10}}
    retention = Retention(log, {"telemetry": Limits(age_seconds=5)}, positions=ledger.positions, take=ledger.take)
    assert [Trimmed("telemetry", 3, 0, 5, {})] == await retention.enforce(1010 * SECOND)
    assert [] == ledger.taken
    assert 5 == await log.begin("telemetry", 3)
    await log.close()


async def test_what_a_consumer_has_not_read_is_counted_for_it_before_it_goes(tmp_path: Path) -> None:
    log, ledger = await _ten_batches(tmp_path)
    ledger.at = {"store": {("telemetry", 3): 2}, "alerts": {("telemetry", 3): 4}, "inventory": {("event", 3): 0}}
    retention = Retention(log, {"telemetry": Limits(age_seconds=5)}, positions=ledger.positions, take=ledger.take)
    assert [Trimmed("telemetry", 3, 0, 5, {"store": 3, "alerts": 1})] == await retention.enforce(1010 * SECOND)
    assert [(10, 25)] == list(ledger.rows_taken("store"))
    assert [(20, 25)] == list(ledger.rows_taken("alerts"))
    assert [] == list(ledger.rows_taken("inventory"))
    assert [Expired("telemetry", 3, 2, 5), Expired("telemetry", 3, 4, 5)] == [t.expired for _, t in ledger.taken]
    assert all(begin <= taken.expired.first for begin, (_, taken) in zip(ledger.begins, ledger.taken, strict=True))
    await log.close()


async def test_a_consumer_that_never_read_anything_is_owed_all_of_it(tmp_path: Path) -> None:
    log, ledger = await _ten_batches(tmp_path)
    ledger.at = {"store": {("telemetry", 3): 0}}
    retention = Retention(log, {"telemetry": Limits(bytes=0)}, positions=ledger.positions, take=ledger.take)
    await retention.enforce(1010 * SECOND)
    assert [(0, 50)] == list(ledger.rows_taken("store"))
    assert 10 == await log.begin("telemetry", 3)
    await log.close()


async def test_nothing_is_trimmed_while_the_account_cannot_be_kept(tmp_path: Path) -> None:
    log, ledger = await _ten_batches(tmp_path)
    ledger.at = {"store": {("telemetry", 3): 2}}
    ledger.broken = True
    retention = Retention(log, {"telemetry": Limits(age_seconds=5)}, positions=ledger.positions, take=ledger.take)
    with pytest.raises(OSError, match="away"):
        await retention.enforce(1010 * SECOND)
    assert 2 == await log.begin("telemetry", 3)  # what was read went; what is owed is still here
    ledger.broken = False
    assert [Trimmed("telemetry", 3, 2, 5, {"store": 3})] == await retention.enforce(1010 * SECOND)
    assert [(10, 25)] == list(ledger.rows_taken("store"))
    await log.close()


async def test_counting_again_after_a_crash_counts_the_same(tmp_path: Path) -> None:
    """The account became durable, the trim did not happen: interval sets bear the repetition."""
    log, ledger = await _ten_batches(tmp_path)
    ledger.at = {"store": {("telemetry", 3): 0}}

    class Crash(SqliteLog):
        async def trim(self, topic: str, partition: int, before: int) -> None:
            raise ConnectionError("killed here")

    crashing = Retention(log, {"telemetry": Limits(age_seconds=5)}, positions=ledger.positions, take=ledger.take)
    log.__class__ = Crash
    with pytest.raises(ConnectionError):
        await crashing.enforce(1010 * SECOND)
    log.__class__ = SqliteLog
    await crashing.enforce(1010 * SECOND)
    assert [(0, 25)] == list(ledger.rows_taken("store"))
    assert 2 == len(ledger.taken)
    await log.close()


async def test_size_is_kept_over_all_partitions_and_the_oldest_goes_first(tmp_path: Path) -> None:
    now = 0
    log = SqliteLog(tmp_path / "log.sqlite", clock=lambda: now)
    for number in range(40):
        now = number * SECOND
        await log.append([Entry("log", number % 4, bytes(1000))])
    ledger = Ledger(log)
    retention = Retention(log, {"log": Limits(bytes=10_000)}, positions=ledger.positions, take=ledger.take)
    await retention.enforce(40 * SECOND)
    standings = [standing for standing in log.standings() if standing.topic == "log" and standing.partition < 4]
    assert 10_000 == sum(standing.bytes for standing in standings)
    oldest = [await log.oldest("log", partition) for partition in range(4)]
    assert [32 * SECOND, 33 * SECOND, 30 * SECOND, 31 * SECOND] == oldest
    await log.close()


async def test_a_long_backlog_is_counted_in_pieces(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", tail_bytes=0, min_free_bytes=0)
    for number in range(30):
        await log.append([Entry("telemetry", 0, batch(number * 10, 10, 500_000))])
    ledger = Ledger(log)
    ledger.at = {"store": {("telemetry", 0): 1}}
    retention = Retention(log, {"telemetry": Limits(bytes=0)}, positions=ledger.positions, take=ledger.take)
    assert [Trimmed("telemetry", 0, 0, 30, {"store": 29})] == await retention.enforce(0)
    assert [(10, 300)] == list(ledger.rows_taken("store"))
    assert 4 <= len(ledger.taken) <= 6  # 15 MB, 4 MiB at a time: memory stays bounded
    assert ledger.begins == [
        taken.expired.first for _, taken in ledger.taken
    ]  # each piece goes before the next is read
    await log.close()


async def test_a_record_that_cannot_be_read_is_told_apart(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    await log.append([Entry("telemetry", 0, batch(0, 5)), Entry("telemetry", 0, b"damaged"), Entry("alert", 0, b"{}")])
    ledger = Ledger(log)
    ledger.at = {"live": {("telemetry", 0): 0, ("alert", 0): 0}}
    limits = {"telemetry": Limits(bytes=0), "alert": Limits(bytes=0)}
    await Retention(log, limits, positions=ledger.positions, take=ledger.take).enforce(0)
    assert [1, 0] == [taken.unreadable for _, taken in ledger.taken]
    assert [1, 0] == [len(taken.envelopes) for _, taken in ledger.taken]  # `alert` holds no batches
    await log.close()

"""What retention of the log takes from a consumer that has not read it is counted, durably, and the balance closes."""

from pathlib import Path

from aggregator.balance import make_balance
from aggregator.control_sqlite import SqliteControl
from aggregator.expired import Expiry
from aggregator.log import Entry, partition_of
from aggregator.log_sqlite import SqliteLog
from aggregator.progress import Tracker
from aggregator.retention import Limits, Retention
from aggregator.store import Outcome, Stream
from schemas.batch import Envelope
from schemas.codec import decode_batch
from schemas.verbosity import Level, RowClass
from tests.aggregator.consumer.fakes import account, batch

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
    unread = await _envelopes(log, partition, begin)
    again = Expiry(control)
    await again.load()
    for known in (expiry, again):
        balance = make_balance({"store": tracker}, {"store": unread}, (), {"store": known.intervals("store")})
        [line] = balance.lines
        assert (line.done, line.expired, line.in_log) == (150, (begin - read) * 10, (40 - begin) * 10)
        assert (line.unaccounted, balance.closed) == (0, True)
    await log.close()
    await control.close()


async def _envelopes(log: SqliteLog, partition: int, offset: int) -> list[Envelope]:
    if offset == await log.end("telemetry", partition):
        return []
    return [decode_batch(one.value).envelope for one in await log.read("telemetry", partition, offset, 1 << 20)]

"""Making the balance in a running aggregator: when, how often, and what it says before anything is known."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aggregator.balancing import Balancing
from aggregator.control_sqlite import SqliteControl
from aggregator.expired import Expiry
from aggregator.log import Entry, partition_of
from aggregator.log_sqlite import SqliteLog
from aggregator.progress import Tracker
from aggregator.query import StoreUnavailableError
from aggregator.store_consumer import StoreConsumer
from schemas.batch import Envelope
from tests.aggregator.consumer.fakes import MemoryStore, account, batch, heartbeat


class Place:
    """An aggregator's parts that a balance needs, the consumer not running."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteLog(folder / "log.db", synchronous="OFF", min_free_bytes=0)
        self.control = SqliteControl(folder / "control.db")
        self.control.open()
        self.consumer = StoreConsumer(self.log, MemoryStore(), _refuse)
        self.balancing = Balancing(self.log, self.control, self.consumer, Expiry(self.control))

    async def append(self, topic: str, value: bytes) -> None:
        await self.log.append([Entry(topic, partition_of("n1", self.log.partitions), value)])


async def _refuse(envelope: Envelope, data: bytes, stage: str, reason: str) -> None:
    raise AssertionError(reason)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    yield made
    await made.log.close()
    await made.control.close()


async def test_before_the_store_was_opened_there_is_no_balance(place: Place) -> None:
    """All that was stored would seem to be missing."""
    with pytest.raises(StoreUnavailableError):
        await place.balancing.balance()


async def test_a_balance_is_of_now_or_as_old_as_the_caller_bears(place: Place) -> None:
    place.consumer.known = True
    await place.append("telemetry", batch("n1", 0, 10))
    first = await place.balancing.balance()
    await place.append("telemetry", batch("n1", 10, 10))

    borne = await place.balancing.balance(60.0)
    now = await place.balancing.balance()

    assert borne is first
    assert ([10], [20]) == ([line.in_log for line in first.lines], [line.in_log for line in now.lines])


async def test_a_word_that_is_committed_while_the_log_is_looked_at_does_not_count_yet(place: Place) -> None:
    """Its rows came after the moment of which the balance is."""
    place.consumer.known = True
    place.consumer.committed = tracker = Tracker()
    await place.append("telemetry", batch("n1", 0, 10))
    await place.append("event", heartbeat("n1", account(10, [])))
    inner = place.control.read

    async def read(work: Any) -> Any:
        tracker.hear("n1", "e1", 2**62, account(30, [], word=9))
        return await inner(work)

    place.control.read = read  # type: ignore[method-assign, assignment]
    [line] = (await place.balancing.balance()).lines

    assert (10, 10, 0) == (line.numbered, line.in_log, line.unaccounted)

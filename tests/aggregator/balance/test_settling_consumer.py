"""Settling in a running store consumer, over the real log and the real store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from aggregator import store_consumer
from aggregator.balance import make_balance
from aggregator.control_sqlite import SqliteControl
from aggregator.expired import Expiry
from aggregator.log import Entry, partition_of
from aggregator.log_sqlite import SqliteLog
from aggregator.settling import Settling
from aggregator.store import Store
from aggregator.store_consumer import StoreConsumer
from schemas.account import Account
from schemas.batch import Envelope
from schemas.codec import check_batch, decode_batch, encode_body
from tests.aggregator.consumer.fakes import account, batch, heartbeat
from tests.aggregator.store.places import DuckPlace


class Parts:
    """What a consumer needs; consumers come and go."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteLog(folder / "log.db", synchronous="OFF", min_free_bytes=0)
        self.control = SqliteControl(folder / "control.db")
        self.control.open()
        self.expiry = Expiry(self.control)
        self.place = DuckPlace(folder)
        self.aside: list[tuple[int, str]] = []
        self.partition = partition_of("n1", self.log.partitions)

    def consumer(self) -> tuple[StoreConsumer, Store]:
        """Give a new one, on the same files."""
        store = self.place.store()
        settle = Settling(self.log, self.control, self.expiry, StoreConsumer.name).settle
        return StoreConsumer(self.log, store, self._set_aside, settle=settle), store

    async def _set_aside(self, envelope: Envelope, data: bytes, stage: str, reason: str) -> None:
        self.aside.append((envelope.first, reason))

    async def append(self, topic: str, *values: bytes) -> None:
        await self.log.append([Entry(topic, self.partition, value) for value in values])

    async def forget(self) -> None:
        """Trim everything."""
        for topic in ("telemetry", "event"):
            await self.log.trim(topic, self.partition, await self.log.end(topic, self.partition))


@pytest.fixture
async def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parts]:
    monkeypatch.setattr(store_consumer, "MAINTAIN_SECONDS", 0.02)
    monkeypatch.setattr(store_consumer, "COMMIT_SECONDS", 0.01)
    made = Parts(tmp_path)
    yield made
    made.place.close()
    await made.log.close()
    await made.control.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - it is in another hand
            await asyncio.sleep(0.01)


async def test_a_run_is_settled_and_what_comes_of_it_later_is_set_aside(parts: Parts) -> None:
    late = batch("n1", 4, 6)
    await parts.append("telemetry", batch("n1", 0, 4), late, batch("n1", 0, 3, epoch="e2"))
    first, second = account(10, []).epochs[0], account(3, [], epoch="e2").epochs[0]
    await parts.append("event", heartbeat("n1", Account(1, [second, first]), epoch="e2"))
    consumer, _ = parts.consumer()
    running = asyncio.create_task(consumer.run())
    await until(lambda: consumer.status.rows_done == 13)
    await parts.forget()
    await until(lambda: consumer.committed.is_settled("n1", "e1"))
    consumer.stop()
    await running

    consumer, _ = parts.consumer()
    running = asyncio.create_task(consumer.run())
    await until(lambda: consumer.ready)
    assert ["e2"] == [stream.epoch for stream in consumer.committed.streams()]
    await parts.append("telemetry", late, batch("n1", 3, 2, epoch="e2"))
    await until(lambda: consumer.status.rows_done == 2)
    consumer.stop()
    await running

    [(number, reason)] = parts.aside
    assert 4 == number
    assert reason.startswith("balance.settled_run: ")
    [line] = make_balance({"store": consumer.committed}, {}).lines
    assert (15, 15, 0, 0) == (line.numbered, line.done, line.quarantined, line.unaccounted)


async def test_what_could_not_be_stored_stays_quarantined_when_its_run_is_settled(parts: Parts) -> None:
    """Settling counts what became of rows, not what was thought of them when they were read."""
    good = batch("n1", 0, 4)
    [block] = check_batch(decode_batch(good))
    odd = msgspec.structs.replace(block, ints={}, strings={name: ["odd"] * 4 for name in block.ints})
    await parts.append("telemetry", good, batch("n1", 4, 4, body=encode_body([odd])), batch("n1", 0, 3, epoch="e2"))
    first, second = account(8, []).epochs[0], account(3, [], epoch="e2").epochs[0]
    await parts.append("event", heartbeat("n1", Account(1, [second, first]), epoch="e2"))
    consumer, _ = parts.consumer()
    running = asyncio.create_task(consumer.run())
    await until(lambda: consumer.status.rows_done == 7)
    await parts.forget()
    await until(lambda: consumer.committed.is_settled("n1", "e1"))
    consumer.stop()
    await running

    [(number, reason)] = parts.aside
    assert (4, "store.unstorable") == (number, reason.partition(":")[0])
    [line] = make_balance({"store": consumer.committed}, {}).lines
    assert (11, 7, 4, 0) == (line.numbered, line.done, line.quarantined, line.unaccounted)

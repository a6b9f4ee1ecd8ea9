"""What the ledger concludes is in the log: all of it, in order; what comes twice says which it is."""

import asyncio
from pathlib import Path

import pytest

from aggregator.ledger.entries import NodeOrdered, RatioSet
from aggregator.ledger_publisher import LedgerPublisher
from aggregator.log import Log, LogFullError, partition_of
from aggregator.log_sqlite import SqliteLog
from schemas.inventory import InventoryRecord, decode_inventory
from tests.aggregator.ledger.rig import opened, settle, write


async def published(log: Log) -> list[InventoryRecord]:
    found = []
    for partition in range(log.partitions):
        records = await log.read("inventory", partition, await log.begin("inventory", partition), 1 << 24)
        here = [decode_inventory(record.value) for record in records]
        assert [one.sequence for one in here] == sorted(one.sequence for one in here)
        found += here
    return sorted(found, key=lambda one: (one.sequence, one.node))


async def published_as_it_is(log: Log) -> list[InventoryRecord]:
    """Give what is in the log, repetitions too, as far as it is about no node."""
    place = partition_of("", log.partitions)
    records = await log.read("inventory", place, await log.begin("inventory", place), 1 << 24)
    return sorted((decode_inventory(record.value) for record in records), key=lambda one: one.sequence)


async def drain(publisher: LedgerPublisher) -> None:
    await publisher.begin()
    while await publisher.publish():
        pass


async def test_every_entry_is_published_once(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=4)
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        await drain(LedgerPublisher(ledger, log))
        await write(ledger, NodeOrdered("n0", cordoned="a fan"), RatioSet("vcpus", 2.0))
        await drain(LedgerPublisher(ledger, log))
        found = await published(log)
        assert [one.sequence for one in found] == list(range(1, ledger.durable + 1))
        assert ("node.ordered", "n0", b'{"node":"n0","cordoned":"a fan"}') == (
            found[-2].kind,
            found[-2].node,
            found[-2].data,
        )
        assert "" == found[-1].node
        assert {ledger.id} == {one.ledger for one in found}
    await log.close()


class Failing:
    """A log that takes nothing once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.full = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def append(self, entries: object) -> object:
        """Refuse once."""
        if self.full:
            self.full = False
            raise LogFullError("no room")
        return await self._log.append(entries)  # type: ignore[arg-type]


async def test_what_a_full_log_refused_is_published_later(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=4)
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        publisher = LedgerPublisher(ledger, Failing(log))  # type: ignore[arg-type]
        with pytest.raises(LogFullError):
            await drain(publisher)
        await drain(publisher)
        assert [one.sequence for one in await published(log)] == list(range(1, ledger.durable + 1))
    await log.close()


async def test_the_place_is_kept_once_a_second_and_what_came_behind_it_comes_twice_after_a_crash(
    tmp_path: Path,
) -> None:
    """Each keeping is a commit of the ledger, behind which decisions wait."""
    log, now = SqliteLog(tmp_path / "log.db", partitions=4), [0.0]
    async with opened(tmp_path / "ledger.db") as ledger:
        publisher = LedgerPublisher(ledger, log, clock=lambda: now[0])
        await publisher.begin()
        for _ in range(3):
            await write(ledger, RatioSet("vcpus", 2.0))
            await publisher.publish()
            now[0] += 0.4
        again = LedgerPublisher(ledger, log, clock=lambda: now[0])  # the first one died
        await drain(again)
        assert [1, 2, 2, 3, 3] == [one.sequence for one in await published_as_it_is(log)]
        await write(ledger, RatioSet("vcpus", 3.0))
        now[0] += 1.0
        await drain(again)
        third = LedgerPublisher(ledger, log)
        await third.begin()
        assert third.status.sequence == ledger.durable == 4
    await log.close()


async def test_the_place_is_kept_when_nothing_more_comes(tmp_path: Path) -> None:
    """A restart in peace repeats nothing."""
    log = SqliteLog(tmp_path / "log.db", partitions=4)
    async with opened(tmp_path / "ledger.db") as ledger:
        publisher = LedgerPublisher(ledger, log)
        running = asyncio.create_task(publisher.run())
        for number in range(3):
            await write(ledger, RatioSet("vcpus", 2.0 + number))
        again = LedgerPublisher(ledger, log)
        async with asyncio.timeout(30):
            while again.status.sequence != ledger.durable:
                await asyncio.sleep(0.02)
                await again.begin()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [1, 2, 3] == [one.sequence for one in await published(log)]
    await log.close()


class Counting:
    """A log that counts how often it was appended to."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.appends = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def append(self, entries: object) -> object:
        """Count."""
        self.appends += 1
        return await self._log.append(entries)  # type: ignore[arg-type]


async def test_what_comes_soon_after_another_is_published_together(tmp_path: Path) -> None:
    """Each append is a commit of the log, beside those of the ledger behind which decisions wait."""
    log = SqliteLog(tmp_path / "log.db", partitions=4)
    async with opened(tmp_path / "ledger.db") as ledger:
        counting = Counting(log)
        publisher = LedgerPublisher(ledger, counting, gap=3600.0)  # type: ignore[arg-type]
        running = asyncio.create_task(publisher.run())
        await write(ledger, RatioSet("vcpus", 2.0))
        async with asyncio.timeout(30):
            while publisher.status.sequence != ledger.durable:  # noqa: ASYNC110 - it is in another hand
                await asyncio.sleep(0.01)  # whatever comes alone waits for nothing
        for number in range(5):
            await write(ledger, RatioSet("vcpus", 3.0 + number))
        await asyncio.sleep(0.05)
        assert (1, 1) == (counting.appends, publisher.status.sequence)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await publisher.publish()
        assert (2, ledger.durable) == (counting.appends, publisher.status.sequence)
    await log.close()


async def test_who_waits_for_an_entry_and_is_cancelled_as_it_comes_ends(tmp_path: Path) -> None:
    """Or an aggregator that is told to stop would wait for its publisher for good."""
    async with opened(tmp_path / "ledger.db") as ledger:

        async def follow() -> None:
            while True:
                await ledger.wait(ledger.durable, 60.0)

        waiting = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await write(ledger, RatioSet("vcpus", 2.0))
        waiting.cancel()
        ended, _ = await asyncio.wait({waiting}, timeout=10.0)
        waiting.cancel()
        assert ended


async def test_another_log_gets_what_is_written_from_then_on(tmp_path: Path) -> None:
    first, second = SqliteLog(tmp_path / "a.db", partitions=4), SqliteLog(tmp_path / "b.db", partitions=4)
    async with opened(tmp_path / "ledger.db") as ledger:
        await settle(ledger)
        await drain(LedgerPublisher(ledger, first))
        await drain(LedgerPublisher(ledger, second))
        await write(ledger, RatioSet("vcpus", 2.0))
        await drain(LedgerPublisher(ledger, second))
        assert [ledger.durable] == [one.sequence for one in await published(second)]
    await first.close()
    await second.close()

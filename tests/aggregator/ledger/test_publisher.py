"""What the ledger concludes is in the log: all of it, in order; what comes twice says which it is."""

from pathlib import Path

import pytest

from aggregator.ledger.entries import NodeOrdered, RatioSet
from aggregator.ledger_publisher import LedgerPublisher
from aggregator.log import Log, LogFullError
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

"""A disk that fills: decisions fail with a word, nobody is told what is not kept, and it goes on once there is room."""

import asyncio
from pathlib import Path

from aggregator.control import ControlFullError
from aggregator.ledger import journal
from aggregator.ledger.entries import NodeOrdered, NodeSeen
from aggregator.ledger.keeping import Keeping
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from schemas.errors import MusterError
from tests.aggregator.ledger.rig import opened, settle, write
from tests.faults.disks import Ballast, small_disk


async def ready(ledger: Ledger) -> None:
    async with asyncio.timeout(60):
        while not ledger.ready:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)


async def test_decisions_on_a_full_disk_fail_typed_and_the_state_is_what_is_on_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "image", tmp_path / "disk") as disk:
        async with opened(disk / "ledger.db") as ledger:
            await settle(ledger)
            told = []
            ballast = Ballast(disk)
            ballast.fill()
            refused: list[MusterError] = []
            for number in range(400):
                try:
                    await write(ledger, NodeSeen(f"m{number}", "x" * 2000))
                    told.append(f"m{number}")
                except (ControlFullError, LedgerBusyError) as error:
                    refused.append(error)
                    await ready(ledger)
                    if len(refused) >= 5:
                        break
            assert refused, "the disk never filled"
            assert any(isinstance(error, ControlFullError) for error in refused)
            assert [name for name in told if name not in ledger.peek().nodes] == []
            assert len(ledger.peek().nodes) == 2 + len(told)
            ballast.free()
            await write(ledger, NodeOrdered("n1", cordoned="again"))
            assert await Keeping(ledger).snapshot()
            every = await ledger.database.read(lambda connection: list(journal.read(connection, 0)))
            assert ledger.durable == len(every)
            digest = ledger.peek().digest()
        async with opened(disk / "ledger.db") as again:
            assert digest == again.peek().digest()


async def test_snapshot_that_finds_no_room_harms_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "image", tmp_path / "disk") as disk:
        async with opened(disk / "ledger.db") as ledger:
            await settle(ledger, nodes=40)
            ballast = Ballast(disk)
            ballast.fill()
            keeping, failed = Keeping(ledger), 0
            for number in range(2000):
                try:
                    await write(ledger, NodeOrdered("n1", cordoned=f"{number}" * 300))
                    await keeping.snapshot()
                except (ControlFullError, LedgerBusyError):
                    failed += 1
                    await ready(ledger)
                    if failed >= 3:
                        break
            assert failed
            ballast.free()
            assert await keeping.snapshot()
            digest = ledger.peek().digest()
        async with opened(disk / "ledger.db") as again:
            assert digest == again.peek().digest()

"""What is not written whole is not there at all: in no state, in no answer, and no node hears of it."""

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection

from aggregator.control import ControlError
from aggregator.ledger import snapshots
from aggregator.ledger.entries import NodeOrdered, Passed
from aggregator.ledger.ledger import LedgerBusyError
from aggregator.ledger.state import State
from aggregator.ledger.transitions import TransitionError
from tests.aggregator.ledger.rig import opened, settle, write


async def test_nothing_is_kept_of_a_decision_of_which_a_part_cannot_be_applied(tmp_path: Path) -> None:
    """Though a commit is under way, which takes along what other decisions wait to have written."""
    async with opened(tmp_path / "ledger.db") as ledger:
        gpu, *_ = await settle(ledger)
        begun, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold_up(_connection: Connection) -> None:
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(10.0)

        first = asyncio.create_task(ledger.decide(lambda _: ([NodeOrdered("n0", name="one")], None), beside=hold_up))
        await begun.wait()
        second = asyncio.create_task(write(ledger, NodeOrdered("n0", name="two")))
        await asyncio.sleep(0)
        loop.call_later(0.05, go_on.set)
        with pytest.raises(TransitionError):
            await write(ledger, NodeOrdered("n1", cordoned="half of it"), Passed(gpu, "cleaned"))
        await asyncio.gather(first, second)
        nodes = ledger.peek().nodes
        assert ("two", "") == (nodes["n0"].name, nodes["n1"].cordoned)
        await write(ledger, NodeOrdered("n1", cordoned="a fan"))
        assert "a fan" == nodes["n1"].cordoned


async def test_who_waits_for_what_was_lost_meanwhile_is_told_so(tmp_path: Path) -> None:
    """The ledger is being read from disk again: what was decided before is nowhere, whatever is written then."""
    loop, again, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    go_on.set()

    def load(connection: Connection) -> State:
        if not go_on.is_set():
            loop.call_soon_threadsafe(again.set)
            assert go_on.wait(10.0)
        return snapshots.load(connection)

    def fail(_connection: Connection) -> None:
        raise ControlError("no disk")

    async with opened(tmp_path / "ledger.db", load=load) as ledger:
        await settle(ledger)
        go_on.clear()
        with pytest.raises(ControlError, match="no disk"):
            await ledger.decide(lambda _: ([NodeOrdered("n0", cordoned="a fan")], None), beside=fail)
        await again.wait()
        loop.call_later(0.05, go_on.set)
        with pytest.raises(LedgerBusyError, match="nothing was kept"):
            await ledger.settled()
        assert "" == ledger.peek().nodes["n0"].cordoned

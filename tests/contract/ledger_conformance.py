"""What the ledger needs of a control database: cases that every implementation passes.

A module of tests imports these, and gives a fixture `control`: an open `Control` with the ledger's tables, empty.
"""

import asyncio
from functools import partial

import pytest
from sqlalchemy import delete

from aggregator.control import Control, ControlError
from aggregator.ledger import journal, snapshots
from aggregator.ledger.apply import apply
from aggregator.ledger.entries import Entry, RatioSet
from aggregator.ledger.journal import LeadLostError, LedgerDamagedError, LedgerGoneError, Written
from aggregator.ledger.keeping import Keeping
from aggregator.ledger.ledger import Ledger, LedgerBusyError
from aggregator.ledger.past import device_history
from aggregator.ledger.state import State
from aggregator.ledger.tables import LEDGER_ENTRIES
from schemas.errors import MusterError
from tests.aggregator.ledger.rig import settle, write


async def _entries(control: Control) -> list[Written]:
    return await control.read(lambda connection: list(journal.read(connection, 0)))


async def test_every_prefix_gives_the_same_state(control: Control) -> None:
    """17: whoever replays any prefix, from any snapshot, over joined rows or not, comes to the same state."""
    ledger = Ledger(control, "a")
    await ledger.open()
    await settle(ledger)
    await Keeping(ledger, least=4, join=8).snapshot()
    await write(ledger, RatioSet("vcpus", 2.0))
    await Keeping(ledger, least=4, join=8).tend()
    replayed = State()
    for one in await _entries(control):
        apply(replayed, one.sequence, one.time_ns, one.entry)
        state = await control.read(partial(snapshots.load, until=one.sequence))
        assert replayed.digest() == state.digest(), one.sequence
    await ledger.close()


async def test_late_writer_is_refused_and_writes_nothing(control: Control) -> None:
    """A leader that was paused while another took over: its decisions fail, typed, and leave no trace."""
    late, now = Ledger(control, "late"), Ledger(control, "now")
    await late.open()
    await write(late, RatioSet("vcpus", 2.0))
    await now.open()
    await write(now, RatioSet("vcpus", 3.0))
    with pytest.raises(LeadLostError):
        await write(late, RatioSet("vcpus", 4.0))
    with pytest.raises((LedgerBusyError, LeadLostError)):
        await write(late, RatioSet("vcpus", 5.0))
    assert not late.ready
    with pytest.raises(LeadLostError):
        await late.maintain(journal.renew_lead)
    await write(now, RatioSet("vcpus", 6.0))
    assert [2.0, 3.0, 6.0] == [one.entry.ratio for one in await _entries(control) if isinstance(one.entry, RatioSet)]
    assert 6.0 == now.peek().ratios["vcpus"]
    await now.close()
    await late.close()


async def test_late_writer_that_appends_to_the_same_head_is_refused(control: Control) -> None:
    """Between its last look and its write another took the lead, and wrote nothing yet."""
    late, now = Ledger(control, "late"), Ledger(control, "now")
    await late.open()
    await now.open()
    results = await asyncio.gather(
        write(late, RatioSet("vcpus", 1.0)), write(now, RatioSet("vcpus", 2.0)), return_exceptions=True
    )
    assert isinstance(results[0], LeadLostError)
    assert results[1] is None
    assert 1 == len(await _entries(control))
    await now.close()
    await late.close()


async def test_free_lead_is_taken_and_a_held_one_is_not(control: Control) -> None:
    first, second = Ledger(control, "first"), Ledger(control, "second")
    assert await first.open(force=False)
    assert not await second.open(force=False)
    await first.close()
    assert await second.open(force=False)
    assert first.id == ""
    await second.close()


async def test_decisions_that_wait_are_one_commit_and_all_told(control: Control) -> None:
    ledger = Ledger(control, "a")
    await ledger.open()
    results = await asyncio.gather(*(write(ledger, RatioSet("vcpus", 1.0 + number)) for number in range(50)))
    assert [None] * 50 == results
    assert list(range(1, 51)) == [one.sequence for one in await _entries(control)]
    await ledger.close()


async def test_what_belongs_to_a_decision_is_kept_or_lost_with_it(control: Control) -> None:
    ledger = Ledger(control, "a")
    await ledger.open()
    place = {("capability", 0): 7}
    moved = partial(journal.move, log_id="log", offsets=place)
    await ledger.decide(lambda _: ([RatioSet("vcpus", 2.0)], None), beside=moved)
    assert {"log": place} == await control.read(journal.positions)

    def failing(_connection: object) -> None:
        raise ControlError("no")

    before = ledger.peek().digest()
    with pytest.raises(ControlError):
        await ledger.decide(lambda _: ([RatioSet("vcpus", 9.0)], None), beside=failing)
    for _ in range(100):
        if ledger.ready:
            break
        await asyncio.sleep(0.05)
    assert before == ledger.peek().digest()
    assert 1 == len(await _entries(control))
    await write(ledger, RatioSet("vcpus", 4.0))
    await ledger.close()


async def test_refused_decision_leaves_nothing(control: Control) -> None:
    ledger = Ledger(control, "a")
    await ledger.open()

    def refuse(_state: State) -> tuple[list[Entry], None]:
        raise MusterError("no")

    with pytest.raises(MusterError):
        await ledger.decide(refuse)
    assert [] == await _entries(control)
    await ledger.close()


async def test_missing_entries_are_told(control: Control) -> None:
    """A ledger of which a piece is gone is not led, and not gone on from."""
    ledger = Ledger(control, "a")
    await ledger.open()
    for number in range(4):
        await write(ledger, RatioSet("vcpus", 1.0 + number))
    await ledger.close()
    await control.write(
        lambda connection: connection.execute(delete(LEDGER_ENTRIES).where(LEDGER_ENTRIES.c.first == 4))
    )
    again = Ledger(control, "b")
    with pytest.raises(LedgerDamagedError):
        await again.open()
    await control.write(
        lambda connection: connection.execute(delete(LEDGER_ENTRIES).where(LEDGER_ENTRIES.c.first == 2))
    )
    with pytest.raises(MusterError):
        await again.open()


async def test_entries_before_those_in_memory_come_from_disk_and_beyond_the_end_is_gone(control: Control) -> None:
    ledger = Ledger(control, "a")
    await ledger.open()
    devices = await settle(ledger)
    await ledger.close()
    again = Ledger(control, "a")
    await again.open()
    await write(again, RatioSet("vcpus", 2.0))
    end = again.durable
    assert list(range(3, end + 1)) == [one.sequence for one in await again.entries(2)]
    assert [end] == [one.sequence for one in await again.entries(end - 1)]
    assert [] == await again.entries(end)
    with pytest.raises(LedgerGoneError):
        await again.entries(end + 1)
    history = await control.read(partial(device_history, device=devices[0]))
    assert ["DeviceSeen", "Viewed"] == [type(one.entry).__name__ for one in history][:2]
    await again.close()


async def test_joined_rows_of_a_leader_that_lost_are_not_kept(control: Control) -> None:
    late, now = Ledger(control, "late"), Ledger(control, "now")
    await late.open()
    for number in range(20):
        await write(late, RatioSet("vcpus", 1.0 + number))
    await now.open()
    with pytest.raises(LeadLostError):
        await Keeping(late, join=8).join()
    with pytest.raises(LeadLostError):
        await Keeping(late).snapshot()
    assert await Keeping(now, join=8).join()
    assert list(range(1, 21)) == [one.sequence for one in await _entries(control)]
    await now.close()
    await late.close()

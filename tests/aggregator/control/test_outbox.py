"""A decision about a node and the event that tells of it are kept together: no crash and no full log parts them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from aggregator.announcer import Announcer
from aggregator.config import VerbositySection
from aggregator.control_sqlite import SqliteControl
from aggregator.fleet import Fleet
from aggregator.log import Entry, LogFullError, topic_of
from aggregator.log_sqlite import SqliteLog
from aggregator.outbox import Outbox, oldest, put, remove
from aggregator.succession import Hello, Succession
from aggregator.token_service import Tokens
from schemas.batch import WIRE_VERSION, Envelope
from schemas.codec import decode_batch, decode_body
from schemas.publish import PublishRequest
from schemas.rows import Event
from schemas.verbosity import RowClass
from tests.aggregator.control.conftest import Time


class Stubborn(SqliteLog):
    """A log that is full, or that waits before it appends, when a test says so."""

    full = False
    gate: asyncio.Event | None = None
    reached: asyncio.Event

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        """See `Log`."""
        if self.full:
            raise LogFullError("no room")
        if self.gate is not None:
            self.reached.set()
            await self.gate.wait()
        return await super().append(entries)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Stubborn]:
    log = Stubborn(tmp_path / "log.db", partitions=1)
    log.reached = asyncio.Event()
    yield log
    await log.close()


async def batches(log: SqliteLog) -> list[tuple[Envelope, list[str]]]:
    """Give the events in the log, a batch each: its envelope, and the events' types."""
    records = await log.read(topic_of(RowClass.EVENT), 0, 0, 1 << 20)
    opened = [decode_batch(record.value) for record in records]
    return [
        (batch.envelope, [type_ for block in decode_body(batch.body) for type_ in block.strings["type"] if type_])
        for batch in opened
    ]


async def told(log: SqliteLog) -> list[str]:
    return [type_ for _, types in await batches(log) for type_ in types]


async def cancel_at(log: Stubborn, task: "asyncio.Task[object]") -> None:
    """Cancel a task while the log keeps it waiting, then let the log go on."""
    await asyncio.wait_for(log.reached.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.gate is not None
    log.gate.set()


def fleet_of(control: SqliteControl, log: SqliteLog) -> Fleet:
    return Fleet(control, Tokens(control), Announcer(log, "b1"), VerbositySection())


def request(epoch: str, *predecessors: str) -> PublishRequest:
    return PublishRequest(WIRE_VERSION, "n1", epoch, "b1", list(predecessors), "host-1", [])


async def test_an_event_is_told_when_the_request_is_answered_and_then_forgotten(
    control: SqliteControl, log: Stubborn
) -> None:
    fleet = fleet_of(control, log)
    await fleet.load()
    await fleet.admit(request("e1"))
    await fleet.admit(request("e2", "e1"))
    assert ["node.new", "node.handover"] == await told(log)
    assert [] == await control.read(oldest)


async def test_what_a_process_decided_and_could_not_tell_the_next_one_tells(
    control: SqliteControl, log: Stubborn, time: Time
) -> None:
    """The process ends between the commit of a decision and its event."""
    succession = Succession(control, clock=time.clock, wall_ns=time.wall_ns)
    await succession.decide(Hello("n1", "e1", "b1"))
    decided = time.wall_ns()
    time.pass_(30)
    await succession.decide(Hello("n1", "x1", "b2"))
    waiting = [event for _, event in await control.read(oldest)]
    assert [("node.new", decided), ("node.takeover", decided + 30 * 10**9)] == [
        (event.type, event.source_time_ns) for event in waiting
    ]
    await fleet_of(control, log).load()
    assert ["node.new", "node.takeover"] == await told(log)
    assert [] == await control.read(oldest)


async def test_a_decision_that_was_not_kept_leaves_no_event(control: SqliteControl, time: Time) -> None:
    first = Succession(control, clock=time.clock, wall_ns=time.wall_ns)
    second = Succession(control, clock=time.clock, wall_ns=time.wall_ns)
    assert (await first.decide(Hello("n1", "e1", "b1"))).accepted
    assert not (await second.decide(Hello("n1", "x1", "b1"))).accepted  # it thought itself the first, and was not
    assert ["node.new"] == [event.type for _, event in await control.read(oldest)]


async def test_what_a_full_log_does_not_take_waits_until_there_is_room(
    control: SqliteControl, log: Stubborn, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = fleet_of(control, log)
    await fleet.load()
    log.full = True
    assert frozenset({"e1"}) == await fleet.admit(request("e1"))
    for _ in range(3):
        await fleet.tick()
    assert 1 == sum("outbox_not_drained" in record.message for record in caplog.records)
    assert ["node.new"] == [event.type for _, event in await control.read(oldest)]
    log.full = False
    await fleet.tick()
    assert ["node.new"] == await told(log)


async def test_a_request_that_is_cancelled_tells_its_event_once(control: SqliteControl, log: Stubborn) -> None:
    fleet = fleet_of(control, log)
    await fleet.load()
    log.gate = asyncio.Event()
    await cancel_at(log, asyncio.create_task(fleet.admit(request("e1"))))
    await fleet.flush()
    assert ["node.new"] == await told(log)
    assert [] == await control.read(oldest)


async def test_many_at_once_are_told_together(control: SqliteControl, log: Stubborn) -> None:
    outbox = Outbox(control, Announcer(log, "b1"))

    async def decide(number: int) -> None:
        await control.write(partial(put, events=[Event(f"t{number}", "said", subject="n1")], now_ns=1))
        await outbox.drain()

    await asyncio.gather(*(decide(number) for number in range(100)))
    assert sorted(f"t{number}" for number in range(100)) == sorted(await told(log))
    assert len(await batches(log)) < 20


async def test_events_come_back_whole_and_in_order(control: SqliteControl) -> None:
    events = [
        Event("a", "one", detail={"seconds": 30.0, "known": False, "count": 3, "name": "x"}, subject="n1"),
        Event("b", "two", source_time_ns=7, device="gpu-0"),
    ]
    await control.write(partial(put, events=events, now_ns=5))
    (first, one), (second, two) = await control.read(oldest)
    assert [msgspec.structs.replace(events[0], source_time_ns=5), events[1]] == [one, two]
    assert (float, bool) == (type(one.detail["seconds"]), type(one.detail["known"]))
    await control.write(partial(remove, ids=[first]))
    assert [second] == [id_ for id_, _ in await control.read(oldest)]


async def test_a_cancelled_announcement_leaves_no_number_behind(log: Stubborn) -> None:
    """Two batches with the same numbers would be one to whoever reads the log."""
    announcer = Announcer(log, "b1")
    log.gate = asyncio.Event()
    await cancel_at(log, asyncio.create_task(announcer.announce([Event("a", "one"), Event("b", "two", subject="n1")])))
    await announcer.announce([Event("c", "three")])
    found = await batches(log)
    assert [(0, 1, 0), (1, 1, 1), (2, 1, 2)] == [(one.first, one.rows, one.order) for one, _ in found]
    assert [1, 2, 3] == [one.account.epochs[0].streams[0].numbered for one, _ in found if one.account]


async def test_what_a_full_log_did_not_take_has_no_number(log: Stubborn) -> None:
    announcer = Announcer(log, "b1")
    log.full = True
    await announcer.announce([Event("a", "one"), Event("b", "two", subject="n1")])
    log.full = False
    await announcer.announce([Event("c", "three")])
    ((envelope, types),) = await batches(log)
    assert (2, 0, ["c"]) == (announcer.failed, envelope.first, types)

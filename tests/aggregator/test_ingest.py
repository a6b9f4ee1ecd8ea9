"""Ingest: what one request may cost, and for whom nobody may speak. Small batches that open to much are the case."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator.access import LOCAL, Caller, Who
from aggregator.ingest import MAX_OPENED_BYTES, MAX_WAITING_BYTES, BusyError, Ingest
from aggregator.log_sqlite import SqliteLog
from aggregator.opened import OpenedBatches, opened_bytes
from schemas.batch import Batch, Block, Envelope
from schemas.codec import check_batch, decode_batch, encode_batch, encode_body
from schemas.errors import AccessError
from schemas.publish import PublishRequest, Result, Status, decode_answer, encode_request
from schemas.verbosity import Level, RowClass

TEXT = 6 << 20


class Admission:
    """Admits every run."""

    async def admit(self, request: PublishRequest) -> frozenset[str]:
        """See `ingest.Admission`."""
        return frozenset({request.epoch})


class Rig:
    """An ingest over a log of its own."""

    def __init__(self, log: SqliteLog) -> None:
        self.aside: list[str] = []
        self.ingest = Ingest(log, Admission(), self._set_aside, OpenedBatches())

    async def _set_aside(self, envelope: Envelope | None, publisher: str, data: bytes, reason: str) -> None:
        self.aside.append(reason)

    async def publish(self, *batches: bytes, publisher: str = "n1", caller: Caller = LOCAL) -> list[Result]:
        """Hand in batches, as the operator of this machine unless somebody else is named."""
        data = encode_request(publisher, "e1", "boot", [], "n1", list(batches))
        return decode_answer(await self.ingest.publish(data, caller)).results


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    log = SqliteLog(tmp_path / "log.db", partitions=1)
    yield Rig(log)
    await log.close()


def batch(first: int, size: int = TEXT, publisher: str = "n1", epoch: str = "e1", subject: str = "") -> bytes:
    """Give a batch of one row with so much text, which travels in a few hundred bytes."""
    text: dict[str, list[str | None]] = {"message": ["x" * size]}
    block = Block("log", subject or publisher, [], [[""]], [0], 1_800_000_000_000_000_000, [0], strings=text)
    envelope = Envelope(publisher, epoch, RowClass.LOG, Level.ESSENTIAL, first, 1, first)
    return encode_batch(envelope, encode_body([block]))


async def test_what_one_request_opens_to_is_bounded_and_the_sender_keeps_the_rest(rig: Rig) -> None:
    batches = [batch(number) for number in range(8)]
    taken = MAX_OPENED_BYTES // TEXT
    results = await rig.publish(*batches)

    assert [Status.ACCEPTED] * taken + [Status.RETRY] * (8 - taken) == [one.status for one in results]
    assert {"ingest.busy"} == {one.reason.partition(":")[0] for one in results[taken:]}
    assert [Status.ACCEPTED] * (8 - taken) == [one.status for one in await rig.publish(*batches[taken:])]


async def test_a_batch_that_cannot_be_opened_costs_nothing_and_is_set_aside(rig: Rig) -> None:
    envelope = Envelope("n1", "e1", RowClass.LOG, Level.ESSENTIAL, 0, 1, 0)
    results = await rig.publish(b"no batch", encode_batch(envelope, b"not zstd"), batch(1))

    assert [Status.QUARANTINED, Status.QUARANTINED, Status.ACCEPTED] == [one.status for one in results]
    assert ["wire.malformed"] * 2 == [reason.partition(":")[0] for reason in rig.aside]


async def test_nobody_publishes_under_the_aggregators_name(rig: Rig) -> None:
    with pytest.raises(AccessError, match="own name") as refused:
        await rig.publish(batch(0, 10, "aggregator"), publisher="aggregator")
    assert refused.value.authenticated


async def test_nobody_publishes_about_the_aggregator(rig: Rig) -> None:
    """Who may speak for everybody may not: those events are believed to be Muster's own."""
    about = [batch(0, 10, subject="aggregator"), batch(0, 10, subject="another")]
    assert [Status.QUARANTINED, Status.ACCEPTED] == [one.status for one in await rig.publish(*about)]
    assert ["access.foreign_subject"] == [reason.partition(":")[0] for reason in rig.aside]


async def test_who_lacks_a_right_is_told_which_and_how_it_is_given(rig: Rig) -> None:
    token = Caller(Who.TOKEN, ("ingest:n1",), "t1")
    told = await rig.publish(batch(0, 10, subject="bmc:rack7-u12"), batch(1, 10), caller=token)

    assert [Status.QUARANTINED, Status.ACCEPTED] == [one.status for one in told]
    assert "lacks the scope ingest:bmc:*" in told[0].reason
    assert "muster token create NAME --scope 'ingest:n1' --scope 'ingest:bmc:*'" in told[0].reason


async def test_a_batch_of_a_run_that_the_request_does_not_speak_for_is_set_aside(rig: Rig) -> None:
    """Else anybody with the token could fill the numbers of the run that is current."""
    told = await rig.publish(batch(0, 10, epoch="e9"), batch(0, 10))

    assert [Status.QUARANTINED, Status.ACCEPTED] == [one.status for one in told]
    assert ["access.foreign_epoch"] == [reason.partition(":")[0] for reason in rig.aside]


async def test_bytes_that_are_being_read_count_as_waiting(rig: Rig) -> None:
    with rig.ingest.reading() as take:
        take(MAX_WAITING_BYTES)
        take(1)  # alone, it is taken whatever its size: other limits are for that
        with pytest.raises(BusyError) as busy:
            await rig.publish(batch(0, 10))
    assert (429, 1) == (busy.value.status, rig.ingest.status.busy)

    assert [Status.ACCEPTED] == [one.status for one in await rig.publish(batch(0, 10))]


def opened(first: int, size: int) -> tuple[Batch, list[Block]]:
    """Give a batch as ingest opens it."""
    found = decode_batch(batch(first, size))
    return found, check_batch(found)


def test_opened_batches_are_bounded_by_their_bytes() -> None:
    memory = OpenedBatches(max_bytes=2500)
    for number in range(3):
        memory.put(("log", 0, number), *opened(number, 1000))

    assert memory.get(("log", 0, 0)) is None
    for number in (1, 2):
        assert memory.get(("log", 0, number)) is not None
    memory.put(("log", 0, 3), *opened(3, 2000))  # what was given back makes room
    assert memory.get(("log", 0, 3)) is not None
    memory.put(("log", 0, 4), *opened(4, 3000))
    assert memory.get(("log", 0, 4)) is None


def test_the_bytes_of_an_opened_batch_are_those_of_its_body() -> None:
    small, large = (opened_bytes(opened(0, size)[0]) for size in (1000, 3000))
    assert 2000 <= large - small <= 2004
    heartbeat = Envelope("n1", "e1", RowClass.EVENT, Level.ESSENTIAL, 0, 0, 0)
    assert 0 == opened_bytes(Batch(1, heartbeat, b""))

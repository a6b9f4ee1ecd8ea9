"""The live consumer opens what may concern somebody who watches, and as little else as can be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator import live
from aggregator.live import LEARN_SECONDS, MAX_SUBJECTS, LiveFilter, LiveHub, Speakers, Watcher
from aggregator.log import Entry, LogReadError, Record, topic_of
from aggregator.log_sqlite import SqliteLog
from schemas.batch import Block, Envelope
from schemas.codec import encode_batch, encode_body
from schemas.verbosity import Level, RowClass


def envelope(publisher: str, row_class: RowClass = RowClass.TELEMETRY) -> Envelope:
    return Envelope(publisher, "e1", row_class, Level.STANDARD, 0, 1, 0)


def block(subject: str, measurement: str = "oracle") -> Block:
    return Block(measurement, subject, [], [[""]], [0], 1_800_000_000_000_000_000, [0], ints={"number": [1]})


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("row_class", [RowClass.TELEMETRY, RowClass.LOG])
def test_a_stream_of_which_nothing_is_known_may_concern_everybody(row_class: RowClass) -> None:
    speakers, stream = Speakers(Clock()), envelope("relay", row_class)
    assert speakers.may_concern(stream, "n1")
    speakers.learn(stream, [block("n1"), block("n2")])

    assert [True, True, False, True] == [speakers.may_concern(stream, one) for one in ("n1", "n?", "m*", "relay")]


@pytest.mark.parametrize("row_class", [RowClass.EVENT, RowClass.CAPABILITY])
def test_events_and_documents_are_always_opened(row_class: RowClass) -> None:
    speakers, stream = Speakers(Clock()), envelope("relay", row_class)
    speakers.learn(stream, [block("n1")])
    assert speakers.may_concern(stream, "other")


def test_what_was_learned_is_checked_again_and_added_to() -> None:
    clock = Clock()
    speakers, stream = Speakers(clock), envelope("relay")
    speakers.learn(stream, [block("n1")])
    clock.now += LEARN_SECONDS - 1
    assert not speakers.may_concern(stream, "n2")
    clock.now += 1
    assert speakers.may_concern(stream, "n2")
    speakers.learn(stream, [block("n2")])
    assert [True, True, False] == [speakers.may_concern(stream, one) for one in ("n1", "n2", "n3")]


def test_who_speaks_for_many_may_speak_for_any() -> None:
    speakers = Speakers(Clock())
    speakers.learn(envelope("relay"), [block(f"n{number}") for number in range(MAX_SUBJECTS * 5)])
    assert speakers.may_concern(envelope("relay"), "other")


class Watched:
    """A hub over a log of its own."""

    def __init__(self, log: SqliteLog) -> None:
        self.log = log
        self.hub = LiveHub(log)

    async def append(self, publisher: str, subject: str) -> None:
        """Append one batch."""
        value = encode_batch(envelope(publisher), encode_body([block(subject)]))
        await self.log.append([Entry(topic_of(RowClass.TELEMETRY), 0, value)])


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    log = SqliteLog(tmp_path / "log.db", partitions=1)
    rig = Watched(log)
    task = asyncio.create_task(rig.hub.run())
    yield rig
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await log.close()


async def next_of(watcher: Watcher) -> tuple[str, str]:
    """Give publisher and subject of what passes next."""
    seen = await asyncio.wait_for(watcher.queue.get(), 60)
    assert seen is not None
    return seen.publisher, seen.block.subject


async def test_a_node_is_seen_whoever_speaks_for_it(watched: Watched) -> None:
    with watched.hub.watch(LiveFilter(node="n1")) as watcher:
        await asyncio.sleep(0.05)  # it begins at the log's end
        for publisher, subject in (("other", "other"), ("relay", "n1"), ("other", "n1"), ("n1", "n1"), ("relay", "n1")):
            await watched.append(publisher, subject)
        found = [await next_of(watcher) for _ in range(3)]

    # `other` spoke for itself alone so far, and was not opened again so soon
    assert [("relay", "n1"), ("n1", "n1"), ("relay", "n1")] == found


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (LiveFilter(), True),
        (LiveFilter(node="n?"), True),
        (LiveFilter(node="rel*"), True),
        (LiveFilter(node="N1"), False),
        (LiveFilter(measurement="orac*"), True),
        (LiveFilter(measurement="host_*"), False),
    ],
)
def test_a_filter_takes_what_its_patterns_stand_for(wanted: LiveFilter, expected: bool) -> None:
    assert expected == wanted.takes(envelope("relay"), block("n1"))


class FailingLog(SqliteLog):
    """A log whose disk fails for a moment."""

    failures = 0

    async def read(self, topic: str, partition: int, offset: int, max_bytes: int) -> list[Record]:
        if self.failures:
            self.failures -= 1
            raise LogReadError("the log cannot be read: disk I/O error")
        return await super().read(topic, partition, offset, max_bytes)


async def test_a_log_that_cannot_be_read_for_a_moment_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RETRY_SECONDS", 0.01)
    log = FailingLog(tmp_path / "log.db", partitions=1)
    log.failures = 3
    rig = Watched(log)
    with rig.hub.watch(LiveFilter()) as watcher:  # before it runs: it begins at the log's end all the same
        task = asyncio.create_task(rig.hub.run())
        async with asyncio.timeout(60):
            while log.failures:  # noqa: ASYNC110 - it is in another hand
                await asyncio.sleep(0.005)
        await rig.append("n1", "n1")
        assert await next_of(watcher) == ("n1", "n1")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await log.close()

"""What every implementation of `aggregator.log.Log` does: the claims that consumers and ingest rely on.

A test module subclasses `LogConformance`, gives it a fixture `place`, and inherits the claims (R001-15):

    class TestSqliteLog(LogConformance):
        @pytest.fixture
        def place(self, tmp_path): return SqlitePlace(tmp_path / "log.sqlite")
"""

import asyncio
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from aggregator.log import TOPICS, Entry, Log, OffsetOutOfRangeError, Record
from tests.contract.log_appender import value_of

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


class Place(Protocol):
    """Where one log lives, empty at first; how it is opened, and opened again."""

    opener: str
    """`module:callable`, which opens the log in another process."""
    argument: str
    """What that callable is given."""

    def open(self) -> Log:
        """Open the log. The one opened before is closed or its process is dead."""


async def read_all(log: Log, topic: str, partition: int, begin: int | None = None) -> list[Record]:
    """Read a partition from its begin (or `begin`) to its end."""
    offset = await log.begin(topic, partition) if begin is None else begin
    records: list[Record] = []
    while more := await log.read(topic, partition, offset, MIB):
        records += more
        offset = more[-1].offset + 1
    return records


def entries(topic: str, partition: int, *values: bytes) -> list[Entry]:
    """Give one entry a value."""
    return [Entry(topic, partition, value) for value in values]


class LogConformance:
    """The claims. A subclass has a fixture `place`."""

    async def test_offsets_start_at_zero_and_grow_by_one_per_partition(self, place: Place) -> None:
        log = place.open()
        assert [0, 1] == await log.append(entries("event", 1, b"a", b"b"))
        assert [0] == await log.append(entries("event", 2, b"c"))
        assert [2] == await log.append(entries("event", 1, b"d"))
        assert [0] == await log.append(entries("log", 1, b"e"))
        assert (0, 3) == (await log.begin("event", 1), await log.end("event", 1))
        await log.close()

    async def test_one_call_may_go_to_many_partitions_and_is_answered_in_its_order(self, place: Place) -> None:
        log = place.open()
        mixed = [Entry("log", 0, b"a"), Entry("event", 3, b"b"), Entry("log", 0, b"c"), Entry("event", 0, b"d")]
        assert [0, 0, 1, 0] == await log.append(mixed)
        assert [b"a", b"c"] == [record.value for record in await read_all(log, "log", 0)]
        await log.close()

    async def test_appending_nothing_gives_nothing(self, place: Place) -> None:
        log = place.open()
        assert [] == await log.append([])
        await log.close()

    async def test_every_topic_has_every_partition(self, place: Place) -> None:
        log = place.open()
        for topic in TOPICS:
            for partition in range(log.partitions):
                assert 0 == await log.end(topic, partition)
        assert frozenset(range(log.partitions)) == await log.owned()
        await log.close()

    async def test_a_partition_that_is_not_there_is_an_error(self, place: Place) -> None:
        log = place.open()
        for topic, partition in (("event", log.partitions), ("event", -1), ("nonsense", 0)):
            with pytest.raises(ValueError, match="not a partition"):
                await log.append([Entry("event", 0, b"x"), Entry(topic, partition, b"x")])
        assert 0 == await log.end("event", 0)  # nothing of the call was kept
        await log.close()

    async def test_values_come_back_as_they_were_empty_and_large_ones_too(self, place: Place) -> None:
        log = place.open()
        values = [b"", b"\0\xff", bytes(range(256)) * 2000, b"x"]
        await log.append(entries("telemetry", 0, *values))
        assert values == [record.value for record in await read_all(log, "telemetry", 0)]
        await log.close()
        log = place.open()
        assert values == [record.value for record in await read_all(log, "telemetry", 0)]
        await log.close()

    async def test_reading_gives_at_least_one_record_and_then_up_to_the_limit(self, place: Place) -> None:
        log = place.open()
        await log.append(entries("telemetry", 0, *(b"x" * 1000 for _ in range(10))))
        for reopened in (False, True):
            if reopened:  # what is no longer in memory obeys the same limits
                await log.close()
                log = place.open()
            for limit, count in ((0, 1), (999, 1), (1999, 1), (2000, 2), (5500, 5), (10_000, 10), (MIB, 10)):
                assert count == len(await log.read("telemetry", 0, 0, limit)), (limit, reopened)
            assert [9] == [record.offset for record in await log.read("telemetry", 0, 9, MIB)]
        await log.close()

    async def test_reading_at_the_end_gives_nothing(self, place: Place) -> None:
        log = place.open()
        assert [] == await log.read("event", 0, 0, MIB)
        await log.append(entries("event", 0, b"x"))
        assert [] == await log.read("event", 0, 1, MIB)
        await log.close()

    @pytest.mark.parametrize("offset", [1, 5, 9])
    async def test_reading_outside_says_what_there_is(self, place: Place, offset: int) -> None:
        log = place.open()
        await log.append(entries("event", 0, *[b"x"] * 4))
        await log.trim("event", 0, 2)
        if offset == 1:
            with pytest.raises(OffsetOutOfRangeError) as before:
                await log.read("event", 0, offset, MIB)
            assert (2, 4) == (before.value.begin, before.value.end)
        else:
            with pytest.raises(OffsetOutOfRangeError) as behind:
                await log.read("event", 0, offset, MIB)
            assert (2, 4) == (behind.value.begin, behind.value.end)
        await log.close()

    async def test_trimming_moves_the_begin_and_nothing_else(self, place: Place) -> None:
        log = place.open()
        await log.append(entries("event", 0, *(b"%d" % number for number in range(2000))))
        await log.append(entries("event", 1, b"other"))
        await log.trim("event", 0, 1500)
        await log.trim("event", 0, 700)  # below the begin: nothing
        assert (1500, 2000) == (await log.begin("event", 0), await log.end("event", 0))
        assert [b"%d" % number for number in range(1500, 2000)] == [r.value for r in await read_all(log, "event", 0)]
        assert [b"other"] == [record.value for record in await read_all(log, "event", 1)]
        await log.close()

    async def test_trimming_behind_the_end_is_an_error(self, place: Place) -> None:
        log = place.open()
        await log.append(entries("event", 0, b"x"))
        with pytest.raises(OffsetOutOfRangeError):
            await log.trim("event", 0, 2)
        assert 0 == await log.begin("event", 0)
        await log.close()

    async def test_offsets_are_never_used_again_even_when_all_was_trimmed(self, place: Place) -> None:
        log = place.open()
        await log.append(entries("event", 0, b"a", b"b", b"c"))
        await log.trim("event", 0, 3)
        await log.close()
        log = place.open()
        assert (3, 3) == (await log.begin("event", 0), await log.end("event", 0))
        assert [3] == await log.append(entries("event", 0, b"d"))
        await log.close()

    async def test_opening_again_keeps_id_partitions_and_records(self, place: Place) -> None:
        log = place.open()
        await log.append(entries("event", 0, *(b"%d" % number for number in range(100))))
        before = (log.id, log.partitions, await read_all(log, "event", 0))
        await log.close()
        log = place.open()
        assert before == (log.id, log.partitions, await read_all(log, "event", 0))
        await log.close()

    async def test_closing_twice_is_safe(self, place: Place) -> None:
        log = place.open()
        await log.close()
        await log.close()

    async def test_appended_times_do_not_decrease_and_are_about_now(self, place: Place) -> None:
        log = place.open()
        started = time.time_ns()
        for _ in range(5):
            await log.append(entries("event", 0, b"a", b"b"))
        times = [record.appended_ns for record in await read_all(log, "event", 0)]
        assert sorted(times) == times
        assert abs(times[0] - started) < 60 * 10**9
        await log.close()

    async def test_concurrent_calls_interleave_whole_and_without_gaps(self, place: Place) -> None:
        log = place.open()

        async def caller(name: int) -> list[list[int]]:
            values = (b"%d %d" % (name, index) for index in range(3))
            batch = entries("event", 0, *values)
            return [await log.append(batch) for _ in range(10)]

        answers = await asyncio.gather(*(caller(name) for name in range(50)))
        records = await read_all(log, "event", 0)
        assert list(range(50 * 10 * 3)) == [record.offset for record in records]
        for name, calls in enumerate(answers):
            for offsets in calls:
                assert list(range(offsets[0], offsets[0] + 3)) == offsets  # nobody else's record in between
                assert [b"%d %d" % (name, index) for index in range(3)] == [records[o].value for o in offsets]
        await log.close()

    async def test_a_read_after_the_acknowledgement_sees_the_record(self, place: Place) -> None:
        log = place.open()
        for number in range(20):
            (offset,) = await log.append(entries("event", 0, b"%d" % number))
            assert [b"%d" % number] == [record.value for record in await log.read("event", 0, offset, 1)]
        await log.close()

    async def test_waiting_ends_when_something_is_appended(self, place: Place) -> None:
        log = place.open()
        since = await log.wait(0, 0.05)
        waiting = [asyncio.create_task(log.wait(since, 30)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        await log.append(entries("event", 0, b"x"))
        counts = await asyncio.wait_for(asyncio.gather(*waiting), 60)
        assert all(count != since for count in counts)
        await log.close()

    async def test_waiting_for_a_moment_already_past_returns_at_once(self, place: Place) -> None:
        log = place.open()
        since = await log.wait(0, 0.05)
        await log.append(entries("event", 0, b"x"))
        assert since != await asyncio.wait_for(log.wait(since, 300), 60)
        await log.close()

    async def test_waiting_ends_late_when_nothing_comes(self, place: Place) -> None:
        log = place.open()
        since = await log.wait(0, 0.05)
        started = time.monotonic()
        assert since == await log.wait(since, 0.2)
        assert 0.15 < time.monotonic() - started < 5
        await log.close()

    async def test_a_caller_that_gives_up_harms_nobody(self, place: Place) -> None:
        log = place.open()
        doomed = asyncio.create_task(log.append(entries("event", 0, b"a")))
        await asyncio.sleep(0)
        doomed.cancel()
        with suppress(asyncio.CancelledError):
            await doomed
        (offset,) = await log.append(entries("event", 0, b"b"))
        records = await read_all(log, "event", 0)
        assert [b"a", b"b"][-1 - offset :] == [record.value for record in records]  # kept whole or not at all
        await log.close()

    async def test_what_was_acknowledged_survives_a_killed_process(self, place: Place) -> None:
        """Promise 1, SIGKILL; `tests/vm` proves it against power loss."""
        log = place.open()
        identity = log.id
        await log.close()
        acknowledged: dict[tuple[str, int], int] = {}
        for _ in range(3):
            for line in _killed_appender(place, lines=150):
                name, number, _, last = line.split()
                acknowledged[name, int(number)] = int(last)
            log = place.open()
            assert identity == log.id
            for (topic, partition), end in acknowledged.items():
                records = await read_all(log, topic, partition)
                assert len(records) >= end
                assert all(record.value == value_of(record.offset) for record in records)
                assert list(range(len(records))) == [record.offset for record in records]
            await log.close()


def _killed_appender(place: Place, *, lines: int) -> list[str]:
    """Let another process append, kill it after so many lines, and give all whole lines that it wrote."""
    command = [sys.executable, "-m", "tests.contract.log_appender", place.opener, place.argument]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    whole = [line for line in said if line.endswith("\n")]
    assert len(whole) >= lines, "the appender died by itself"
    return whole

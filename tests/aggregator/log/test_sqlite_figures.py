"""What the embedded log says of itself, and what retention asks it."""

import asyncio
from pathlib import Path

import pytest

from aggregator.log import Entry, LogReadError, OffsetOutOfRangeError, Record
from aggregator.log_sqlite import SqliteLog, Standing

SECOND = 10**9


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now


async def _spread(log: SqliteLog, clock: Clock) -> None:
    """One record of 100 bytes a second for 20 s: even seconds in partition 0, odd ones in 1."""
    for second in range(20):
        clock.now = (1000 + second) * SECOND
        await log.append([Entry("log", second % 2, bytes(100))])


@pytest.mark.parametrize("tail_bytes", [0, 16 << 20])
async def test_cutting_by_age_finds_the_first_record_that_is_young_enough(tmp_path: Path, tail_bytes: int) -> None:
    clock = Clock()
    log = SqliteLog(tmp_path / "log.sqlite", clock=clock, tail_bytes=tail_bytes)
    await _spread(log, clock)
    assert {} == await log.cut_by_age("log", 1000 * SECOND)
    assert {0: 1} == await log.cut_by_age("log", 1001 * SECOND)
    assert {0: 3, 1: 2} == await log.cut_by_age("log", 1005 * SECOND)
    assert {0: 10, 1: 10} == await log.cut_by_age("log", 2000 * SECOND)
    await log.trim("log", 0, 8)
    assert {1: 2} == await log.cut_by_age("log", 1005 * SECOND)
    assert {} == await log.cut_by_age("event", 2000 * SECOND)
    await log.close()


async def test_cutting_by_size_takes_the_oldest_of_all_partitions_first(tmp_path: Path) -> None:
    clock = Clock()
    log = SqliteLog(tmp_path / "log.sqlite", clock=clock)
    await _spread(log, clock)
    assert {} == await log.cut_by_bytes("log", 2000)
    assert {0: 1} == await log.cut_by_bytes("log", 1999)
    assert {0: 3, 1: 2} == await log.cut_by_bytes("log", 1500)
    assert {0: 10, 1: 10} == await log.cut_by_bytes("log", 0)
    await log.trim("log", 1, 9)
    assert {0: 2} == await log.cut_by_bytes("log", 900)
    await log.close()


@pytest.mark.parametrize("tail_bytes", [0, 16 << 20])
async def test_the_oldest_record_is_known_by_its_time_and_none_by_none(tmp_path: Path, tail_bytes: int) -> None:
    clock = Clock()
    log = SqliteLog(tmp_path / "log.sqlite", clock=clock, tail_bytes=tail_bytes)
    assert await log.oldest("log", 0) is None
    await _spread(log, clock)
    assert 1001 * SECOND == await log.oldest("log", 1)
    await log.trim("log", 1, 4)
    assert 1009 * SECOND == await log.oldest("log", 1)
    await log.trim("log", 1, 10)
    assert await log.oldest("log", 1) is None
    await log.close()


async def test_a_clock_set_back_does_not_turn_the_times_of_a_partition_back(tmp_path: Path) -> None:
    clock = Clock()
    log = SqliteLog(tmp_path / "log.sqlite", clock=clock)
    await log.append([Entry("log", 0, b"a")])
    await log.trim("log", 0, 1)
    await log.close()
    clock.now -= 500 * SECOND
    log = SqliteLog(tmp_path / "log.sqlite", clock=clock)
    await log.append([Entry("log", 0, b"b"), Entry("log", 1, b"c")])
    assert [1000 * SECOND] == [record.appended_ns for record in await log.read("log", 0, 1, 10)]
    assert [500 * SECOND] == [record.appended_ns for record in await log.read("log", 1, 0, 10)]
    await log.close()


async def test_the_standing_counts_records_and_bytes_through_trimming_and_reopening(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", partitions=2)
    await log.append([Entry("event", 1, bytes(size)) for size in (10, 20, 30)])
    await log.trim("event", 1, 1)
    for reopened in (False, True):
        if reopened:
            await log.close()
            log = SqliteLog(tmp_path / "log.sqlite")
        standings = log.standings()
        assert 12 == len(standings)  # six topics of two partitions
        assert [Standing("event", 1, 1, 3, 50)] == [standing for standing in standings if standing.bytes]
        assert 2 == sum(standing.records for standing in standings)
    before = log.size_bytes()
    await log.append([Entry("event", 1, bytes(500_000))])
    assert log.size_bytes() > before + 400_000
    await log.close()


async def test_a_hundred_waiting_calls_share_few_commits(tmp_path: Path) -> None:
    """`wait` counts commits that brought something."""
    log = SqliteLog(tmp_path / "log.sqlite")
    before = await log.wait(0, 0)
    await asyncio.gather(*(log.append([Entry("log", 0, b"x")]) for _ in range(100)))
    assert 1 <= await log.wait(before, 0) - before <= 10
    await log.close()


async def test_reading_what_is_trimmed_meanwhile_gives_a_typed_error_or_all_of_it(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", tail_bytes=0, min_free_bytes=0)
    await log.append([Entry("log", 0, bytes(2000)) for _ in range(5000)])
    trimming = asyncio.create_task(log.trim("log", 0, 5000))
    while not trimming.done():
        await asyncio.sleep(0)
        begin = await log.begin("log", 0)
        if begin == 5000:
            continue  # trimmed to the end; the task is about to notice
        records: list[Record] = []
        later = begin + 1
        try:
            records = await log.read("log", 0, begin, 100_000)
        except OffsetOutOfRangeError as error:
            later = error.begin
        assert later > begin
        assert [begin + index for index in range(len(records))] == [record.offset for record in records]
    with pytest.raises(OffsetOutOfRangeError):
        await log.read("log", 0, 0, 1)
    await log.close()


async def test_catching_up_from_memory_leaves_room_for_others(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    await log.append([Entry("log", 0, b"x") for _ in range(50)])
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for offset in range(50):
        await log.read("log", 0, offset, 1)
    task.cancel()
    assert turns >= 50
    await log.close()


async def test_a_closed_log_is_not_read(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", tail_bytes=0)
    await log.append([Entry("log", 0, b"x")])
    await log.close()
    with pytest.raises(LogReadError, match="closed"):
        await log.read("log", 0, 0, 1)


def test_two_event_loops_at_once_are_refused(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(log.append([Entry("log", 0, b"x")]))
    with pytest.raises(RuntimeError, match="another one does already"):
        second.run_until_complete(log.append([Entry("log", 0, b"x")]))
    first.run_until_complete(log.close())
    first.close()
    second.close()

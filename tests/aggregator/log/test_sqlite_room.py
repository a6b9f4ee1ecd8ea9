"""Room: what happens on a full disk, under too much work, and to the space that trimming frees."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.log import Entry, LogFullError
from aggregator.log_sqlite import SqliteLog
from tests.contract.log_conformance import read_all
from tests.needs import unmet

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real ext4 file system of 16 MB."""
    if os.geteuid():
        unmet("mounting a file system needs root")
    image, mount = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    mount.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, mount], check=False, capture_output=True, text=True)
    if mounted.returncode:
        unmet(f"no loop mounts here: {mounted.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


async def _fill(log: SqliteLog, size: int) -> int:
    """Append until the log refuses; give how many appends it took."""
    taken = 0
    while taken < 1000:
        try:
            await log.append([Entry("telemetry", 0, b"%08d" % taken + os.urandom(size))])
        except LogFullError:
            return taken
        taken += 1
    raise AssertionError("the disk did not become full")


async def test_a_full_disk_refuses_and_keeps_nothing_of_it_until_there_is_room(small_disk: Path) -> None:
    """A real ENOSPC, with the guard off: refused, whole, and the log goes on when somebody makes room."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(6 * MIB))
    log = SqliteLog(small_disk / "log.sqlite", min_free_bytes=0)
    taken = await _fill(log, 100_000)
    assert taken > 20
    assert "SQLITE_FULL" in log.last_failure
    assert taken == await log.end("telemetry", 0)
    with pytest.raises(LogFullError, match="nothing was kept"):
        await log.append([Entry("event", 0, b"first"), Entry("telemetry", 0, bytes(300_000))])
    assert 0 == await log.end("event", 0)
    assert log.failures >= 2
    ballast.unlink()
    assert [0, taken] == await log.append([Entry("event", 0, b"first"), Entry("telemetry", 0, b"%08d" % taken)])
    assert "" == log.last_failure
    await log.close()
    log = SqliteLog(small_disk / "log.sqlite", min_free_bytes=0)
    assert list(range(taken + 1)) == [int(record.value[:8]) for record in await read_all(log, "telemetry", 0)]
    await log.close()


async def test_retention_can_free_a_log_that_filled_its_disk(small_disk: Path) -> None:
    """Trimming writes before it frees, so appending stops while there is still room for that."""
    log = SqliteLog(small_disk / "log.sqlite", min_free_bytes=6 * MIB, tail_bytes=0)
    taken = await _fill(log, 100_000)
    assert "nearly full" in log.last_failure
    for _ in range(3):  # freed pages are used again: the same room serves round after round
        begin = await log.begin("telemetry", 0)
        end = await log.end("telemetry", 0)
        await log.trim("telemetry", 0, end - 5)
        for number in range(end - 5 - begin):
            await log.append([Entry("telemetry", 0, b"%08d" % (end + number) + os.urandom(100_000))])
            if number * 100_000 > 2 * MIB:
                break
    assert await log.end("telemetry", 0) > taken
    records = await read_all(log, "telemetry", 0)
    assert all(record.offset == int(record.value[:8]) for record in records)
    await log.close()


async def test_freed_pages_are_used_again(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", min_free_bytes=0, synchronous="OFF")
    sizes = []
    for _ in range(6):
        for _ in range(16):
            await log.append([Entry("telemetry", 0, bytes(256 * 1024))])
        await log.trim("telemetry", 0, await log.end("telemetry", 0))
        sizes.append((tmp_path / "log.sqlite").stat().st_size)
    assert sizes[-1] <= 16 * MIB, sizes
    await log.close()


async def test_the_write_ahead_log_stays_small_while_readers_never_rest(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", tail_bytes=0, min_free_bytes=0, synchronous="OFF")
    await log.append([Entry("telemetry", 0, bytes(1000)) for _ in range(2000)])
    stop = False

    async def reader() -> None:
        while not stop:
            await log.read("telemetry", 0, 0, 2 * MIB)

    readers = [asyncio.create_task(reader()) for _ in range(2)]
    largest = 0
    for _ in range(250):
        await log.append([Entry("telemetry", 1, bytes(256 * 1024))])
        largest = max(largest, (tmp_path / "log.sqlite-wal").stat().st_size)
    stop = True
    await asyncio.gather(*readers)
    assert largest < 28 * MIB, largest  # of 64 MiB written
    await log.close()


async def test_too_much_waiting_is_refused_at_once_and_the_rest_is_kept(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", max_waiting_bytes=1_000_000)
    calls = [log.append([Entry("log", 0, b"%03d" % number + bytes(100_000))]) for number in range(100)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, LogFullError)]
    assert 90 <= len(refused) <= 91  # the first goes in whatever its size, then up to the limit
    assert "wait to be written already" in str(refused[0])
    assert 100 - len(refused) == await log.end("log", 0)
    assert 0 == log.waiting_bytes
    await log.append([Entry("log", 0, bytes(2_000_000))])  # larger than the limit, but alone
    await log.close()


async def test_appends_go_on_while_much_is_trimmed(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", tail_bytes=0, min_free_bytes=0)
    for _ in range(40):
        await log.append([Entry("telemetry", 0, bytes(1000)) for _ in range(1000)])
    trimming = asyncio.create_task(log.trim("telemetry", 0, 39_999))
    during = 0
    while not trimming.done():
        await log.append([Entry("event", 0, b"x")])
        during += 1
    assert during > 20  # 40 MB go in pieces of half a megabyte, an append between any two
    assert (39_999, 40_000) == (await log.begin("telemetry", 0), await log.end("telemetry", 0))
    await log.close()

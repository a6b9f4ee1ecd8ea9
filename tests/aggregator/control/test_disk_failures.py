"""A full or failing disk: a typed error to whoever asked, and the process goes on (promise 5)."""

import asyncio
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import OperationalError

from aggregator.control import ControlError, ControlFullError, ControlOpenError
from aggregator.control_sqlite import SqliteControl
from aggregator.tables import COUNTER, QUARANTINE, advance
from tests.contract.control_conformance import put, value_of
from tests.needs import unmet


@contextmanager
def opened(path: Path) -> Iterator[SqliteControl]:
    control = SqliteControl(path)
    control.open()
    yield control


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


def large(size: int) -> Callable[[Connection], None]:
    def transaction(connection: Connection) -> None:
        connection.execute(
            insert(QUARANTINE).values(
                publisher=f"p{size}", epoch="e", row_class=0, level=0, first_row=0, row_count=1, stage="s", digest="",
                code="c", reason="r", size=size, kept=size, body=b"x" * size, times=1, first_ns=1, last_ns=1,
            )
        )  # fmt: skip

    return transaction


def on_a_full_disk(transaction: Callable[[Connection], object]) -> Callable[[Connection], object]:
    """SQLite's own limit of pages gives SQLITE_FULL, as the file system's ENOSPC does."""

    def limited(connection: Connection) -> object:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        return transaction(connection)

    return limited


async def test_a_full_disk_fails_the_one_that_asked_and_keeps_its_neighbours(tmp_path: Path) -> None:
    with opened(tmp_path / "c.db") as control:
        told = await asyncio.gather(
            control.write(put("a", 1)),
            control.write(on_a_full_disk(large(200_000))),
            control.write(put("b", 2)),
            return_exceptions=True,
        )
        assert [1, ControlFullError, 2] == [told[0], type(told[1]), told[2]]
        assert "SQLITE_FULL" in str(told[1])
        await control.write(large(200_000))  # there is room again
        assert await control.read(value_of) == {"a": 1, "b": 2}
        await control.close()


async def test_neighbours_of_one_that_failed_for_room_run_once_as_far_as_anybody_can_see(tmp_path: Path) -> None:
    with opened(tmp_path / "c.db") as control:
        told = await asyncio.gather(
            control.write(lambda connection: advance(connection, "n")),
            control.write(on_a_full_disk(large(200_000))),
            control.write(lambda connection: advance(connection, "n")),
            return_exceptions=True,
        )
        assert [told[0], told[2]] == [1, 2]
        await control.close()


async def test_a_transaction_that_hides_the_full_disk_fails_all_the_same(tmp_path: Path) -> None:
    def hides(connection: Connection) -> None:
        try:
            on_a_full_disk(large(200_000))(connection)
        except OperationalError:
            return

    with opened(tmp_path / "c.db") as control:
        told = await asyncio.gather(control.write(put("a", 1)), control.write(hides), return_exceptions=True)
        assert told[0] == 1
        assert isinstance(told[1], ControlError)
        await control.close()


async def test_a_failing_write_of_the_file_is_a_typed_error_and_passes(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse to let the write-ahead log grow: EFBIG, SQLITE_IOERR_WRITE."""
    with opened(tmp_path / "c.db") as control:
        await control.write(put("before", 1))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(ControlError, match="SQLITE_IOERR"):
                await control.write(large(500_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await control.write(put("after", 2))
        assert await control.read(value_of) == {"before": 1, "after": 2}
        await control.close()


async def test_another_process_that_holds_the_file_is_waited_for(tmp_path: Path) -> None:
    with opened(tmp_path / "c.db") as control:
        other = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(control.write(put("a", 1)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        other.execute("ROLLBACK")
        other.close()
        assert await waiting == 1
        await control.close()


@pytest.mark.parametrize("content", [b"this is not a database " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(content)
    control = SqliteControl(path)
    with pytest.raises(ControlOpenError, match=r"c\.db"):
        control.open()
    await control.close()
    assert content == path.read_bytes()


async def test_a_folder_that_cannot_be_written_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    control = SqliteControl(tmp_path / "file" / "c.db")
    with pytest.raises(ControlOpenError, match=r"file/c\.db"):
        control.open()
    await control.close()


async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    """R001-18: hashes of tokens and quarantined bytes are nobody else's business."""
    with opened(tmp_path / "c.db") as control:
        await control.write(put("a", 1))
        assert modes(tmp_path) == {"c.db": "0o600", "c.db-wal": "0o600", "c.db-shm": "0o600"}
        await control.close()


async def test_the_promise_of_durability_is_what_sqlite_runs_with(tmp_path: Path) -> None:
    """Promise 1: WAL with synchronous=FULL (2)."""
    with opened(tmp_path / "c.db") as control:

        def pragmas(connection: Connection) -> tuple[object, object]:
            return tuple(
                connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
            )  # type: ignore[return-value]

        assert await control.write(pragmas) == ("wal", 2)
        assert await control.read(lambda connection: connection.execute(select(COUNTER)).all()) == []
        await control.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        unmet(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_real_disk_that_fills_up_and_is_freed(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with opened(small_disk / "c.db") as control:
        await control.write(put("before", 1))
        free = shutil.disk_usage(small_disk).free
        await asyncio.to_thread(ballast.write_bytes, b"x" * (free - 64 * 1024))
        told = await asyncio.gather(
            *(control.write(large(100_000 + n)) for n in range(4)),
            control.write(put("small", 2)),
            return_exceptions=True,
        )
        assert [ControlFullError] * 4 == [type(result) for result in told[:4]]
        await asyncio.to_thread(ballast.unlink)
        await control.write(large(100_000))
        await control.write(put("after", 3))
        there = await control.read(value_of)
        assert {"before": 1, "after": 3}.items() <= there.items()
        assert ("small" in there) == (told[4] == 2)
        await control.close()
    again = SqliteControl(small_disk / "c.db")
    again.open()
    assert there == await again.read(value_of)
    await again.close()

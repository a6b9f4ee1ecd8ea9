"""A backup is the state of one moment, whole or not there; a restored ledger never gives an epoch twice."""

import asyncio
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.backup import BackupError, make_backup, read_manifest, restore_backup
from aggregator.control_sqlite import SqliteControl
from aggregator.ledger.entries import RatioSet
from aggregator.ledger.words import Reach
from tests.aggregator.ledger.rig import opened, settle, write


async def _fill(folder: Path) -> str:
    control = SqliteControl(folder / "control.db")
    control.open()
    await control.close()
    async with opened(folder / "ledger.db") as ledger:
        await settle(ledger)
        return ledger.peek().digest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old" / "aggregator").mkdir(parents=True)
    asyncio.run(_fill(tmp_path / "old" / "aggregator"))
    return tmp_path / "old" / "aggregator"


async def _look(folder: Path) -> tuple[int, int, set[Reach]]:
    async with opened(folder / "ledger.db") as ledger:
        state = ledger.peek()
        return state.sequence, state.generation, {state.reach(device) for device in state.devices.values()}


def test_restored_ledger_begins_a_generation_with_every_device_unverified(folder: Path, tmp_path: Path) -> None:
    before = asyncio.run(_look(folder))
    made = make_backup(folder, tmp_path / "b.tar")
    restore_backup(tmp_path / "b.tar", tmp_path / "new", wall_ns=lambda: 7_000_000_000)
    assert ["control.db", "ledger.db"] == sorted(path.name for path in (tmp_path / "new").iterdir())
    assert (before[0] + 1, 7, {Reach.UNVERIFIED}) == asyncio.run(_look(tmp_path / "new"))
    assert before[0] == made.sequence
    assert 0o600 == (tmp_path / "b.tar").stat().st_mode & 0o777


def test_same_backup_restored_again_begins_yet_another_generation(folder: Path, tmp_path: Path) -> None:
    """Above the one before, whatever the clock says; named by the clock, where nothing is left of the one before."""
    make_backup(folder, tmp_path / "b.tar")
    for seconds, generation in ((0, 2), (0, 3), (9, 9), (8, 10), (9, 11)):
        restore_backup(tmp_path / "b.tar", folder, force=True, wall_ns=lambda now=seconds: now * 10**9)  # type: ignore[misc]
        assert generation == asyncio.run(_look(folder))[1]
    assert list(folder.glob("before-restore-*/ledger.db"))


def test_live_data_is_not_replaced_unless_told(folder: Path, tmp_path: Path) -> None:
    make_backup(folder, tmp_path / "b.tar")
    before = (folder / "ledger.db").read_bytes()
    with pytest.raises(BackupError, match="--force"):
        restore_backup(tmp_path / "b.tar", folder)
    assert before == (folder / "ledger.db").read_bytes()


async def test_backup_beside_a_writer_is_of_one_moment(folder: Path, tmp_path: Path) -> None:
    async with opened(folder / "ledger.db") as ledger:
        stop, begun = asyncio.Event(), ledger.durable

        async def keep_writing() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await write(ledger, RatioSet("vcpus", 1.0 + number), RatioSet("disk_bytes", 1.0 + number))

        writing = asyncio.create_task(keep_writing())
        for number in range(3):
            made = await asyncio.to_thread(make_backup, folder, tmp_path / f"{number}.tar")
            assert 0 == (made.sequence - begun) % 2  # commits are of two
        stop.set()
        await writing
    for number in range(3):
        await asyncio.to_thread(restore_backup, tmp_path / f"{number}.tar", tmp_path / f"new{number}")
        assert read_manifest(tmp_path / f"{number}.tar").sequence + 1 == (await _look(tmp_path / f"new{number}"))[0]


@pytest.mark.parametrize("cut", [0, 600, 5000, -20_000])
def test_damaged_archive_is_refused_and_nothing_is_changed(folder: Path, tmp_path: Path, cut: int) -> None:
    make_backup(folder, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "c.tar").write_bytes(whole[:cut])
    with pytest.raises(BackupError):
        restore_backup(tmp_path / "c.tar", folder, force=True)
    assert 1 == asyncio.run(_look(folder))[1]
    assert [] == [path.name for path in folder.iterdir() if path.name.startswith((".", "before"))]


def test_changed_database_is_refused(folder: Path, tmp_path: Path) -> None:
    make_backup(folder, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        tar.extractall(tmp_path / "open", filter="data")
    with closing(sqlite3.connect(tmp_path / "open" / "ledger.db")) as raw, raw:
        raw.execute("UPDATE ledger_head SET sequence = 1")
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        for name in ("manifest.json", "control.db", "ledger.db"):
            tar.add(tmp_path / "open" / name, name)
    with pytest.raises(BackupError, match="not what was saved"):
        restore_backup(tmp_path / "c.tar", tmp_path / "new")
    assert [] == list((tmp_path / "new").iterdir())


def test_backup_is_never_written_over_a_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(BackupError, match="already"):
        make_backup(folder, tmp_path / "b.tar")
    assert "mine" == (tmp_path / "b.tar").read_text()


def test_nothing_to_save_is_said(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="data folder"):
        make_backup(tmp_path, tmp_path / "b.tar")

"""`muster backup` and `restore`: on the folder of this machine's aggregator, and never over anything unless told."""

import asyncio
import json
from pathlib import Path

import pytest

from aggregator.cli import main
from aggregator.control_sqlite import SqliteControl
from aggregator.service import lock_folder
from tests.aggregator.ledger.rig import opened, settle


async def _fill(folder: Path) -> None:
    control = SqliteControl(folder / "control.db")
    control.open()
    await control.close()
    async with opened(folder / "ledger.db") as ledger:
        await settle(ledger)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An aggregator's folder, with a ledger in it."""
    found = tmp_path / "data" / "aggregator"
    found.mkdir(parents=True)
    asyncio.run(_fill(found))
    monkeypatch.setenv("MUSTER_DATA_DIR", str(tmp_path / "data"))
    return found


def test_a_backup_says_what_it_holds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["backup", str(tmp_path / "b.tar")])
    assert "MB, the ledger up to sequence" in capsys.readouterr().out
    assert 0 == main(["backup", str(tmp_path / "c.tar"), "-o", "json"])
    made = json.loads(capsys.readouterr().out)
    assert ["control.db", "ledger.db"] == [file["name"] for file in made["files"]]
    assert made["sequence"] > 0
    assert folder.is_dir()


def test_no_file_is_written_over(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.tar").write_text("mine")
    assert 1 == main(["backup", str(tmp_path / "b.tar")])
    assert "is there already" in capsys.readouterr().err
    assert "mine" == (tmp_path / "b.tar").read_text()
    assert folder.is_dir()


def test_without_an_aggregators_folder_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_DATA_DIR", str(tmp_path))
    assert 1 == main(["backup", str(tmp_path / "b.tar")])
    assert "name the aggregator's data folder" in capsys.readouterr().err
    assert not (tmp_path / "b.tar").exists()


def test_a_restore_takes_the_place_of_what_is_there_only_when_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["backup", str(tmp_path / "b.tar")])
    before = (folder / "ledger.db").read_bytes()
    assert 1 == main(["restore", str(tmp_path / "b.tar")])
    assert "--force" in capsys.readouterr().err
    assert before == (folder / "ledger.db").read_bytes()
    assert 0 == main(["restore", "--force", str(tmp_path / "b.tar")])
    out = capsys.readouterr().out
    assert "restored the backup that was made" in out
    assert "the ledger up to sequence" in out
    assert "What was decided since is gone" in out
    assert list(folder.glob("before-restore-*/ledger.db"))


def test_into_an_empty_folder_it_needs_no_force(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["backup", str(tmp_path / "b.tar")])
    monkeypatch.setenv("MUSTER_DATA_DIR", str(tmp_path / "new"))
    assert 0 == main(["restore", str(tmp_path / "b.tar"), "-o", "json"])
    assert '"sequence"' in capsys.readouterr().out
    assert (tmp_path / "new" / "aggregator" / "ledger.db").is_file()
    assert folder.is_dir()


def test_a_folder_that_an_aggregator_has_open_is_left_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["backup", str(tmp_path / "b.tar")])
    before = (folder / "ledger.db").read_bytes()
    lock = lock_folder(folder)
    try:
        assert 78 == main(["restore", "--force", str(tmp_path / "b.tar")])
    finally:
        lock.close()
    assert "another aggregator has this folder open" in capsys.readouterr().err
    assert before == (folder / "ledger.db").read_bytes()


def test_what_is_no_backup_changes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.tar").write_bytes(b"not a tar file")
    before = (folder / "ledger.db").read_bytes()
    assert 1 == main(["restore", "--force", str(tmp_path / "b.tar")])
    assert "b.tar" in capsys.readouterr().err
    assert before == (folder / "ledger.db").read_bytes()

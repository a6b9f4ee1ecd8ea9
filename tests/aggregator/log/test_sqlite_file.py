"""What may be opened as a log, and what the message says when it may not."""

import sqlite3
from pathlib import Path

import pytest

from aggregator.log import Entry, LogFullError, LogOpenError
from aggregator.log_sqlite import SqliteLog


async def _made(path: Path, **options: int) -> None:
    log = SqliteLog(path, **options)  # type: ignore[arg-type]
    await log.append([Entry("event", 0, b"x")])
    await log.close()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_log_that_is_open_is_refused_a_second_time(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    with pytest.raises(LogOpenError, match="open already"):
        SqliteLog(tmp_path / "log.sqlite")
    await log.close()
    await _made(tmp_path / "log.sqlite")  # closing lets go


async def test_a_log_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    await _made(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=2")
    connection.close()
    for _ in range(2):  # refusing lets go of the lock
        with pytest.raises(LogOpenError, match=r"newer Muster \(log schema 2; this program knows up to 1\)"):
            SqliteLog(path)


async def test_another_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(LogOpenError, match="not a log of Muster"):
        SqliteLog(path)
    with sqlite3.connect(path) as connection:
        assert [("theirs",)] == connection.execute("SELECT name FROM sqlite_schema").fetchall()
    connection.close()


async def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database at all\n" * 400)
    with pytest.raises(LogOpenError, match="cannot be opened as a log"):
        SqliteLog(path)


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogOpenError, match="No such file"):
        SqliteLog(tmp_path / "nowhere" / "log.sqlite")


async def test_a_log_whose_records_and_marks_disagree_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    await _made(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM record")
    connection.close()
    with pytest.raises(LogOpenError, match="is damaged: a partition should hold 0 to 1 and holds 1 to 1"):
        SqliteLog(path)


async def test_a_file_in_which_nothing_was_laid_out_yet_becomes_a_log(tmp_path: Path) -> None:
    """A crash between making the file and laying it out."""
    (tmp_path / "log.sqlite").touch()
    await _made(tmp_path / "log.sqlite")


async def test_the_number_of_partitions_stays_what_it_was_when_the_log_was_made(tmp_path: Path) -> None:
    await _made(tmp_path / "log.sqlite", partitions=3)
    log = SqliteLog(tmp_path / "log.sqlite", partitions=5)
    assert 3 == log.partitions
    await log.close()


async def test_topics_keep_their_numbers_when_their_order_changes(tmp_path: Path) -> None:
    """A later version may add or reorder topics: the file says which number is whose."""
    path = tmp_path / "log.sqlite"
    await _made(path)
    with sqlite3.connect(path) as connection:  # as a version would have left it whose second topic was `event`
        connection.execute("DELETE FROM topic WHERE name IN ('log', 'inventory')")
    connection.close()
    log = SqliteLog(path)
    assert [b"x"] == [record.value for record in await log.read("event", 0, 0, 10)]
    assert 0 == await log.end("log", 0)
    assert 0 == await log.end("inventory", 0)
    await log.close()


async def test_two_logs_have_two_ids(tmp_path: Path) -> None:
    logs = [SqliteLog(tmp_path / name) for name in ("a", "b")]
    assert logs[0].id != logs[1].id
    assert 32 == len(logs[0].id)
    for log in logs:
        await log.close()


async def test_closing_leaves_one_file_without_a_write_ahead_log(tmp_path: Path) -> None:
    await _made(tmp_path / "log.sqlite")
    assert ["log.sqlite", "log.sqlite.lock"] == _names(tmp_path)


async def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    await log.close()
    with pytest.raises(LogFullError, match="closed"):
        await log.append([Entry("event", 0, b"x")])
    with pytest.raises(LogFullError, match="closed"):
        await log.trim("event", 0, 0)


@pytest.mark.parametrize(("option", "value"), [("synchronous", "SOMETIMES"), ("partitions", 0), ("partitions", 2000)])
def test_nonsense_is_refused_before_anything_is_made(tmp_path: Path, option: str, value: object) -> None:
    with pytest.raises(ValueError):
        SqliteLog(tmp_path / "log.sqlite", **{option: value})  # type: ignore[arg-type]
    assert [] == list(tmp_path.iterdir())

"""The disk itself is full: the least important rows that are held make way for more important ones (promise 4)."""

from pathlib import Path

import pytest

from collectors.spool import NewBatch, Spool
from collectors.spool_reserve import Reserve
from schemas.errors import SpoolError
from schemas.verbosity import Level, RowClass

SIZE = 5000
SOURCE = {("kmsg", "log"): "7"}


class FullDisk(Reserve):
    """The reserve on a disk where there is never room for a new one."""

    def renew(self) -> bool:
        return False


def batch(level: Level, row_class: RowClass = RowClass.TELEMETRY, size: int = SIZE) -> NewBatch:
    return NewBatch(row_class, level, 10, b"x" * size)


def full(folder: Path, *levels: Level) -> Spool:
    """Give a spool whose file takes no further page; it holds five batches of each level."""
    spool = Spool.open(folder / "spool.db", "node", "boot", synchronous="OFF")
    for level in levels:
        for _ in range(5):
            spool.commit([batch(level)])
    spool._file._reserve = FullDisk(folder / "spool.db")
    db = spool._file.db
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SpoolError):  # nothing is less important than this, and it can wait
        spool.commit([batch(Level.DEBUG)], positions=SOURCE)
    return spool


def held(spool: Spool) -> list[tuple[Level, int]]:
    return [(one.level, one.first) for one in spool.pending()]


def dropped(spool: Spool) -> dict[Level, list[tuple[str, list[tuple[int, int]]]]]:
    [live] = spool.account().epochs
    return {one.level: [(gone.reason, gone.intervals) for gone in one.dropped] for one in live.streams if one.dropped}


def test_the_least_important_make_way_oldest_first_and_are_counted(tmp_path: Path) -> None:
    spool = full(tmp_path, Level.DEBUG, Level.STANDARD)
    spool.commit([batch(Level.ESSENTIAL)])
    assert {Level.DEBUG: [("spool_full", [(0, 20)])]} == dropped(spool)
    for _ in range(20):
        spool.commit([batch(Level.ESSENTIAL)])
    assert {level for level, _ in held(spool)} == {Level.ESSENTIAL}
    spool.close()
    again = Spool.open(tmp_path / "spool.db", "node", "boot", synchronous="OFF")
    [stream] = [one for one in again.account().epochs[1].streams if one.level is Level.ESSENTIAL]
    gone = sum(end - first for one in stream.dropped for first, end in one.intervals)
    assert 210 == stream.numbered == gone + sum(end - first for first, end in stream.spooled)


def test_as_important_and_older_makes_way_for_rows_that_cannot_be_read_again(tmp_path: Path) -> None:
    spool = full(tmp_path, Level.STANDARD)
    spool.commit([batch(Level.STANDARD)])
    assert [(Level.STANDARD, first) for first in (20, 30, 40, 50)] == held(spool)


def test_rows_of_a_source_with_a_position_wait_for_what_is_as_important(tmp_path: Path) -> None:
    spool = full(tmp_path, Level.STANDARD)
    before = held(spool)
    with pytest.raises(SpoolError):
        spool.commit([batch(Level.STANDARD)], positions=SOURCE)
    assert before == held(spool)
    assert {} == dropped(spool)
    assert {} == spool.positions("kmsg")


def test_rows_of_a_source_with_a_position_take_the_place_of_less_important_ones(tmp_path: Path) -> None:
    spool = full(tmp_path, Level.DEBUG, Level.STANDARD)
    spool.commit([batch(Level.STANDARD)], positions=SOURCE)
    assert {Level.DEBUG: [("spool_full", [(0, 20)])]} == dropped(spool)
    assert {"log": "7"} == spool.positions("kmsg")


@pytest.mark.parametrize("new", [Level.DETAILED, Level.DEBUG])
def test_less_important_rows_take_no_more_important_ones_place(tmp_path: Path, new: Level) -> None:
    spool = full(tmp_path, Level.STANDARD)
    before = held(spool)
    with pytest.raises(SpoolError):
        spool.commit([batch(new)])
    assert before == held(spool)


def test_nothing_is_given_up_where_it_would_not_be_enough(tmp_path: Path) -> None:
    spool = full(tmp_path, Level.DEBUG, Level.ESSENTIAL)
    before = held(spool)
    with pytest.raises(SpoolError):
        spool.commit([batch(Level.STANDARD, size=10 * SIZE)])
    assert before == held(spool)


def test_with_room_again_the_file_grows_again(tmp_path: Path) -> None:
    spool = full(tmp_path, Level.DEBUG)
    spool.commit([batch(Level.ESSENTIAL)])
    spool._file._reserve = Reserve(tmp_path / "spool.db")
    left = len(spool)
    for _ in range(20):
        spool.commit([batch(Level.ESSENTIAL)])
    assert left + 20 == len(spool)


def test_events_are_not_given_up_for_telemetry(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool.db", "node", "boot", synchronous="OFF")
    for _ in range(5):
        spool.commit([batch(Level.ESSENTIAL, RowClass.EVENT)])
    db = spool._file.db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(SpoolError):
        for _ in range(3):
            spool.commit([batch(Level.ESSENTIAL)])
    assert 5 == sum(one.row_class is RowClass.EVENT for one in spool.pending())

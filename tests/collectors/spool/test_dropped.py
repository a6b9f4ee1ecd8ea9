"""What a spool remembers of rows that it gave up: intervals, not a line for each batch."""

from pathlib import Path

from collectors.spool import NewBatch, Spool
from schemas.verbosity import Level, RowClass


def open_spool(folder: Path) -> Spool:
    return Spool.open(folder / "spool.db", "node", "boot", max_bytes=64 << 10, synchronous="OFF")


def rows_of(spool: Spool) -> list[tuple[int, int]]:
    return spool._file.db.execute("SELECT first, end FROM dropped ORDER BY first").fetchall()


def keep(spool: Spool, size: int = 500) -> None:
    spool.commit([NewBatch(RowClass.TELEMETRY, Level.STANDARD, 10, b"x" * size)])


def test_a_long_outage_leaves_one_interval_and_a_file_of_bounded_size(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for _ in range(2000):
        keep(spool)
    first = spool.pending()[0].first
    assert [(0, first)] == rows_of(spool)
    spool.close()
    assert (tmp_path / "spool.db").stat().st_size < 150_000


def test_intervals_that_touch_become_one_in_any_order(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for _ in range(6):
        keep(spool)
    ids = [held.id for held in spool.pending()]
    for at, expected in (
        (1, [(10, 20)]),
        (3, [(10, 20), (30, 40)]),
        (4, [(10, 20), (30, 50)]),
        (2, [(10, 50)]),
        (0, [(0, 50)]),
    ):
        spool.drop([ids[at]], "refused")
        assert expected == rows_of(spool)
    spool.drop([ids[5]], "corrupt")
    assert [(0, 50), (50, 60)] == rows_of(spool)  # another reason


def test_what_was_told_is_forgotten_and_what_came_since_is_kept(tmp_path: Path) -> None:
    """An interval that grew while its word was under way shrinks by what was told, in the file too."""
    spool = open_spool(tmp_path)
    for _ in range(5):
        keep(spool)
    ids = [held.id for held in spool.pending()]
    spool.drop(ids[1:3], "refused")
    word = spool.account()
    spool.drop([ids[0], ids[3]], "refused")
    assert [(0, 40)] == rows_of(spool)

    spool.acknowledge(word)

    assert [(0, 10), (30, 40)] == rows_of(spool)
    epoch = spool.epoch
    spool.close()
    [before] = [one for one in open_spool(tmp_path).account().epochs if one.epoch == epoch]
    assert [(0, 10), (30, 40)] == before.streams[0].dropped[0].intervals


def test_a_file_with_a_line_for_each_batch_is_tidied_when_it_is_opened(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    keep(spool)
    with spool._file.db as db:
        db.executemany(
            "INSERT INTO dropped VALUES ('node', ?, 0, ?, 'spool_full', ?, ?)",
            [(spool.epoch, int(Level.STANDARD), at * 10, at * 10 + 10) for at in range(100) if at != 50],
        )
    spool.close()

    assert [(0, 500), (510, 1000)] == rows_of(open_spool(tmp_path))

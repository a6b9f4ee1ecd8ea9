"""What is saved of a damaged spool: all that lies on sound pages, byte for byte, and nothing that was never put in."""

import random
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from collectors.spool import NewBatch, Spool
from collectors.spool_pages import Pages
from schemas.verbosity import Level, RowClass
from tests.collectors.spool.layout import PAGE_BYTES, body, overwrite, pages_of_batches

ROWS = 10


def open_spool(folder: Path) -> Spool:
    return Spool.open(folder / "spool.db", "node", "boot", max_bytes=64 << 20, synchronous="OFF")


def bodies(count: int, seed: int = 0, sizes: tuple[int, ...] = (0,)) -> dict[int, bytes]:
    """Give bodies by batch id, none like another, with a payload that no compression makes smaller."""
    chance = random.Random(seed)
    return {
        number + 1: body(number, ROWS, chance.randbytes(chance.choice(sizes) // 2).hex()) for number in range(count)
    }


def fill(folder: Path, put: dict[int, bytes], forgotten: Iterable[int] = ()) -> str:
    """Put bodies into a spool and forget some; give its epoch."""
    spool = open_spool(folder)
    spool.commit([NewBatch(RowClass.LOG, Level.STANDARD, ROWS, one) for one in put.values()])
    spool.forget(forgotten)
    spool.close()
    return spool.epoch


def saved(folder: Path, epoch: str) -> tuple[dict[int, bytes], int, int]:
    """Open the spool again; give the bodies that it holds, and how many rows it tells as numbered and as dropped."""
    spool = open_spool(folder)
    held = {one.id: spool.body(one) or b"" for one in spool.pending()}
    assert all((ROWS * (one.id - 1), ROWS) == (one.first, one.rows) for one in spool.pending())
    streams = [stream for one in spool.account().epochs if one.epoch == epoch for stream in one.streams]
    numbered = sum(stream.numbered for stream in streams)
    dropped = sum(end - first for stream in streams for gone in stream.dropped for first, end in gone.intervals)
    spool.close()
    return held, numbered, dropped


def interior_pages(folder: Path) -> list[int]:
    """Give the pages of the table of batches that hold no rows; the root is the first."""
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        found = db.execute("SELECT pageno FROM dbstat WHERE name = 'batch' AND pagetype = 'internal' ORDER BY path")
        return [page for (page,) in found]


@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(1, 120),
    sizes=st.sampled_from([(0,), (0, 900), (3900, 4200), (0, 900, 9000, 40_000)]),
    holes=st.integers(0, 4),
    ranges=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 12)), min_size=1, max_size=4),
    content=st.sampled_from(["a5", "zeros", "noise", "another page"]),
)
def test_rows_on_sound_pages_come_back_as_they_were_and_no_others(
    seed: int, count: int, sizes: tuple[int, ...], holes: int, ranges: list[tuple[float, int]], content: str
) -> None:
    chance = random.Random(seed)
    put = bodies(count, seed, sizes)
    forgotten = {number for number in put if holes and chance.randrange(5) < holes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        epoch = fill(folder, put, forgotten)
        path = folder / "spool.db"
        places = pages_of_batches(path)
        pages = path.stat().st_size // PAGE_BYTES
        hit = {page for at, length in ranges for page in range(1 + int(at * (pages - 1)), pages + 1)[:length]}
        of_kind = {
            "a5": b"\xa5" * PAGE_BYTES,
            "zeros": bytes(PAGE_BYTES),
            "noise": chance.randbytes(PAGE_BYTES),
            "another page": path.read_bytes()[-PAGE_BYTES:],
        }
        overwrite(path, hit, of_kind[content])

        held, numbered, dropped = saved(folder, epoch)

    sound = {batch_id for batch_id, its in places.items() if its.isdisjoint(hit)}
    assert sound <= held.keys()
    assert all(put[batch_id] == one for batch_id, one in held.items())
    if places.keys() - held.keys():  # else nothing of it was needed
        assert numbered == dropped + ROWS * len(held)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_leaves_below_an_interior_page_that_is_gone_are_found(tmp_path: Path, which: int) -> None:
    """The root of the table, or another page that only leads to rows: every row is still there."""
    put = bodies(1500, sizes=(3000,))
    epoch = fill(tmp_path, put)
    interior = interior_pages(tmp_path)
    assert len(interior) >= 3
    overwrite(tmp_path / "spool.db", [interior[which]])

    assert (put, ROWS * len(put), 0) == saved(tmp_path, epoch)


def test_without_its_first_page_the_file_is_set_aside_and_gives_all_its_rows(tmp_path: Path) -> None:
    """The schema is on it, and that of every spool is the same."""
    put = bodies(50, sizes=(0, 5000))
    epoch = fill(tmp_path, put)
    overwrite(tmp_path / "spool.db", [1])
    damaged = (tmp_path / "spool.db").read_bytes()

    assert (put, ROWS * len(put), 0) == saved(tmp_path, epoch)
    assert [damaged] == [file.read_bytes() for file in tmp_path.glob("spool.db.damaged-*")]


def test_what_was_forgotten_does_not_come_back_while_the_list_of_free_pages_is_sound(tmp_path: Path) -> None:
    put = bodies(300, sizes=(3000,))
    forgotten = set(range(50, 200))
    epoch = fill(tmp_path, put, forgotten)
    overwrite(tmp_path / "spool.db", interior_pages(tmp_path)[:1])

    held, numbered, dropped = saved(tmp_path, epoch)

    assert put.keys() - forgotten == held.keys()
    assert (ROWS * len(put), ROWS * len(forgotten)) == (numbered, dropped)


def test_a_body_whose_last_page_is_zeros_is_not_taken_for_sound(tmp_path: Path) -> None:
    """SQLite reads it without complaint; the other page is there for it to complain about."""
    put = bodies(20, sizes=(9000,))
    epoch = fill(tmp_path, put)
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        chains = "SELECT pageno FROM dbstat WHERE pagetype = 'overflow' ORDER BY path DESC"
        last = db.execute(chains).fetchone()[0]
    [batch_id] = [one for one, pages in pages_of_batches(tmp_path / "spool.db").items() if last in pages]
    overwrite(tmp_path / "spool.db", [last, 2], bytes(PAGE_BYTES))

    held, numbered, dropped = saved(tmp_path, epoch)

    assert put.keys() - {batch_id} == held.keys()
    assert (ROWS * len(put), ROWS) == (numbered, dropped)


def test_pages_in_a_circle_are_read_once(tmp_path: Path) -> None:
    put = bodies(1500, sizes=(3000,))
    fill(tmp_path, put)
    root, below, *_ = interior_pages(tmp_path)
    path = tmp_path / "spool.db"
    overwrite(path, [below], path.read_bytes()[(root - 1) * PAGE_BYTES : root * PAGE_BYTES])

    with Pages(path) as pages:
        found = {row[0] for row in pages.rows(root, has_row_ids=True)}

    assert put.keys() == found


def test_a_large_spool_is_salvaged_in_time_that_grows_with_its_size(tmp_path: Path) -> None:
    """An eighth of it gone, in many places: each page is looked at once."""
    put = bodies(6000, sizes=(3000,))
    epoch = fill(tmp_path, put)
    path = tmp_path / "spool.db"
    places = pages_of_batches(path)
    hit = set(range(10, path.stat().st_size // PAGE_BYTES, 8))
    overwrite(path, hit)
    began = time.process_time()

    held, numbered, dropped = saved(tmp_path, epoch)

    assert time.process_time() - began < 10.0
    assert {batch_id for batch_id, its in places.items() if its.isdisjoint(hit)} == held.keys()
    assert numbered == dropped + ROWS * len(held)

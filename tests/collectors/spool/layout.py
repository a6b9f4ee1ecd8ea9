"""On which pages of a spool file each batch lies, as SQLite itself tells (`dbstat`), and how pages are damaged."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from schemas.batch import Block
from schemas.codec import encode_body
from tests.needs import unmet

PAGE_BYTES = 4096


def body(number: int, rows: int = 10, payload: str = "") -> bytes:
    """Give the body of a batch that is like no other, as it travels."""
    columns = {"payload": [payload or None, *[None] * (rows - 1)]}
    steps = [0] + [1] * (rows - 1)
    block = Block("oracle", "node", [], [[f"device-{number}"]], [0] * rows, number * rows, steps, strings=columns)
    return encode_body([block])


def pages_of_batches(path: Path) -> dict[int, set[int]]:
    """Give the pages, from 1, that hold a batch, by its id: the leaf, and those that its body overflows to.

    What is in the write-ahead log must have been written back.
    """
    leaves: dict[str, tuple[int, int]] = {}
    overflow: dict[tuple[str, int], set[int]] = defaultdict(set)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        ids = [batch_id for (batch_id,) in db.execute("SELECT id FROM batch ORDER BY id")]
        try:
            pages = db.execute("SELECT path, pageno, pagetype, ncell FROM dbstat WHERE name = 'batch'").fetchall()
        except sqlite3.OperationalError as error:
            unmet(f"this SQLite cannot tell where rows lie: {error}")
    for place, page, kind, cells in pages:
        if kind == "leaf":
            leaves[place] = page, cells
        elif kind == "overflow":  # /000/001+000000: the first such page of the second cell of the leaf /000/
            leaf, _, cell = place.partition("+")[0].rpartition("/")
            overflow[f"{leaf}/", int(cell, 16)].add(page)
    order = [(leaf, cell) for leaf in sorted(leaves) for cell in range(leaves[leaf][1])]
    return {batch_id: {leaves[leaf][0]} | overflow[leaf, cell]
            for batch_id, (leaf, cell) in zip(ids, order, strict=True)}  # fmt: skip


def free_pages(path: Path) -> int:
    """Give how many pages are on the list of free ones."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute("PRAGMA freelist_count").fetchone()[0])


def overwrite(path: Path, pages: Iterable[int], content: bytes = b"\xa5" * PAGE_BYTES) -> None:
    """Damage pages, numbered from 1."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE_BYTES)
            file.write(content[:PAGE_BYTES])

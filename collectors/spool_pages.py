"""Reads the rows of a damaged SQLite file page by page: what lies on sound pages is read, whatever is beside it.

SQLite itself gives up at the first page that it cannot read, and some of its plans take that for the end of the table.
A table is a tree of pages: here each page is judged by itself, and one that is not sound costs its own rows. Below an
interior page that is gone nothing can be reached any more; such leaves of a table with row ids are found by looking at
every page of the file.

Source: "Database File Format", https://www.sqlite.org/fileformat2.html, parts 1.3, 1.5, 1.6, 2.1.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PAGE_BYTES: Final = 4096
"""SQLite's default, with which every spool is made."""
MAX_RECORD_BYTES: Final = 8 << 20
"""No row of a spool is larger: a batch has at most half of it."""
MAX_DEPTH: Final = 20
"""No tree is deeper."""
Row = tuple[object, ...]
_TABLE_INTERIOR, _TABLE_LEAF, _INDEX_INTERIOR, _INDEX_LEAF = 5, 13, 2, 10
_INT_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class _UnsoundError(Exception):
    """This page, or this row, is not what SQLite writes."""


class Pages:
    """The pages of one file. Nothing here raises for what is damaged; OSError where the disk does not read."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._count = os.fstat(self._descriptor).st_size // PAGE_BYTES
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def rows(self, root: int, *, has_row_ids: bool) -> Iterator[Row]:
        """Yield the rows of a table in the order of its key, the row id in place of a first column that is NULL.

        A row that is not sound is left out. Of a table with row ids, leaves that no interior page leads to any more
        follow at the end, in the order of the file, and with them rows of other such tables, if there are any.
        """
        self._seen.clear()
        yield from self._walk(root, 0)
        if has_row_ids:
            yield from self._scan()

    # --- trees -------------------------------------------------------------------------------------------------------

    def _walk(self, number: int, depth: int) -> Iterator[Row]:
        if number in self._seen or depth > MAX_DEPTH:
            return
        try:
            page = self._page(number)
            kind, cells = _cells_of(page)
        except _UnsoundError:
            return
        self._seen.add(number)
        interior = kind in (_TABLE_INTERIOR, _INDEX_INTERIOR)
        for cell in cells:
            if interior:
                yield from self._walk(int.from_bytes(page[cell : cell + 4]), depth + 1)
            if kind != _TABLE_INTERIOR:  # in an index, interior pages hold rows too
                yield from self._row(page, kind, cell)
        if interior:
            yield from self._walk(int.from_bytes(page[8:12]), depth + 1)

    def _scan(self) -> Iterator[Row]:
        """Yield the rows of leaves that were not reached. Pages known to be free are passed over: their rows are gone.

        Where the list of free pages is damaged, rows may come back that had been acknowledged and forgotten.
        """
        free = self._free()
        for number in range(2, self._count + 1):
            if number in self._seen or number in free:
                continue
            try:
                page = self._page(number)
                kind, cells = _cells_of(page)
            except _UnsoundError:
                continue
            if kind == _TABLE_LEAF:
                for cell in cells:
                    yield from self._row(page, kind, cell)

    def _free(self) -> set[int]:
        """Give the pages on the list of free ones, as far as it can be followed."""
        free: set[int] = set()
        try:
            trunk = int.from_bytes(self._page(1)[32:36])
            while trunk and trunk not in free:
                page = self._page(trunk)
                free.add(trunk)
                count = min(int.from_bytes(page[4:8]), PAGE_BYTES // 4 - 2)
                free.update(int.from_bytes(page[at : at + 4]) for at in range(8, 8 + 4 * count, 4))
                trunk = int.from_bytes(page[:4])
        except _UnsoundError:
            pass
        return free

    def _page(self, number: int) -> bytes:
        if not 1 <= number <= self._count:
            raise _UnsoundError
        return os.pread(self._descriptor, PAGE_BYTES, (number - 1) * PAGE_BYTES)

    # --- rows --------------------------------------------------------------------------------------------------------

    def _row(self, page: bytes, kind: int, cell: int) -> Iterator[Row]:
        """Yield the row of a cell, or nothing."""
        try:
            if kind == _INDEX_INTERIOR:
                cell += 4
            size, at = _varint(page, cell)
            rowid: int | None = None
            if kind == _TABLE_LEAF:
                rowid, at = _varint(page, at)
            first, *rest = _values(self._payload(page, at, size, kind))
        except (_UnsoundError, UnicodeDecodeError, ValueError):
            return
        yield (rowid if first is None else first, *rest)

    def _payload(self, page: bytes, at: int, size: int, kind: int) -> bytes:
        if not 0 < size <= MAX_RECORD_BYTES:
            raise _UnsoundError
        local = _local_bytes(size, kind)
        if at + local + (4 if local < size else 0) > PAGE_BYTES:
            raise _UnsoundError
        if local == size:
            return page[at : at + size]
        parts, left, chain = [page[at : at + local]], size - local, []
        following = int.from_bytes(page[at + local : at + local + 4])
        while left > 0:
            page = self._page(following)  # 0 while there is more to come is no page
            chain.append(following)
            following = int.from_bytes(page[:4])
            parts.append(page[4 : 4 + left])
            left -= len(parts[-1])
        if following:
            raise _UnsoundError  # the last page of a chain names no other
        self._seen.update(chain)
        return b"".join(parts)


def _cells_of(page: bytes) -> tuple[int, list[int]]:
    """Give a page's kind and where its cells begin, in the order of their keys. Not of page 1."""
    kind = page[0]
    if kind not in (_TABLE_INTERIOR, _TABLE_LEAF, _INDEX_INTERIOR, _INDEX_LEAF):
        raise _UnsoundError
    header = 12 if kind in (_TABLE_INTERIOR, _INDEX_INTERIOR) else 8
    end = header + 2 * int.from_bytes(page[3:5])
    if end > PAGE_BYTES:
        raise _UnsoundError
    cells = [int.from_bytes(page[at : at + 2]) for at in range(header, end, 2)]
    if any(not end <= cell <= PAGE_BYTES - 4 for cell in cells):
        raise _UnsoundError
    return kind, cells


def _local_bytes(size: int, kind: int) -> int:
    """Give how much of a payload lies on the page itself."""
    most = PAGE_BYTES - 35 if kind == _TABLE_LEAF else (PAGE_BYTES - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (PAGE_BYTES - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE_BYTES - 4)
    return local if local <= most else least


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an integer of 1 to 9 bytes; give it and where the next thing begins."""
    value = 0
    for count in range(9):
        if at >= len(data):
            raise _UnsoundError
        byte = data[at]
        at += 1
        if count == 8:
            return (value << 8) | byte, at
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            break
    return value, at


def _values(record: bytes) -> list[object]:
    """Take a record apart. Raises _UnsoundError unless it is as long as its header says."""
    end, at = _varint(record, 0)
    kinds = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    if at != end or not kinds:
        raise _UnsoundError
    values: list[object] = []
    for kind in kinds:
        size = _INT_BYTES.get(kind, 0) if kind < 12 else (kind - 12) // 2
        data = record[at : at + size]
        at += size
        if kind in _INT_BYTES:
            values.append(int.from_bytes(data, signed=True))
        elif kind == 0:
            values.append(None)
        elif kind in (8, 9):
            values.append(kind - 8)
        elif kind >= 12:
            values.append(data if kind % 2 == 0 else data.decode())
        else:
            raise _UnsoundError  # no column here holds a float, and kinds 10 and 11 are SQLite's own
    if at != len(record):
        raise _UnsoundError
    return values

"""How blocks grow together into batches, and come apart again where they are too large or hold what cannot travel."""

from collections.abc import Iterator
from typing import Any, Final

from schemas.batch import MAX_COLUMNS, Block
from schemas.codec import MAX_BATCH_BYTES, encode_body
from schemas.errors import MalformedError, TooLargeError

MAX_ROWS: Final = 4096
"""Rows of one batch, so that no batch of ordinary rows comes near the limits of the codec."""
MAX_BODY_BYTES: Final = MAX_BATCH_BYTES - (256 << 10)
"""Bytes of one body as it travels: what is left of a batch goes to its envelope."""
_Columns = dict[str, list[Any]]
"""Columns of one type by name."""


def merge_block(into: Block, block: Block) -> bool:
    """Append `block`'s rows to `into` in place when that is the same table going on in time; tell whether it was."""
    gap = block.start - into.end
    had, more = len(into.rows), len(block.rows)
    if gap < 1 or had + more > MAX_ROWS:
        return False
    columns = _columns_of(into), _columns_of(block)
    same = all(ours.keys() == theirs.keys() for ours, theirs in zip(*columns, strict=True))  # nearly always
    if not same and not _columns_agree(*columns):
        return False
    if into.keys == block.keys:
        into.rows.extend(block.rows)
    else:
        into.rows.extend(_moved_rows(into, block))
    into.steps.append(gap)
    into.steps.extend(block.steps[1:])
    for ours, theirs in zip(*columns, strict=True):
        for name, column in theirs.items():
            if name not in ours:
                ours[name] = [None] * had
            ours[name].extend(column)
        if not same:
            for name in ours.keys() - theirs.keys():
                ours[name].extend([None] * more)
    return True


def _moved_rows(into: Block, block: Block) -> list[int]:
    """Give the rows of `block` by the keys of `into`, which gets those that it lacks."""
    index = {tuple(key): number for number, key in enumerate(into.keys)}
    moved = []
    for key in block.keys:
        number = index.setdefault(tuple(key), len(into.keys))
        if number == len(into.keys):
            into.keys.append(key)
        moved.append(number)
    return [moved[row] for row in block.rows]


def _columns_of(block: Block) -> tuple[_Columns, ...]:
    """Give the columns of each type."""
    return block.floats, block.ints, block.bools, block.strings


def _columns_agree(ours: tuple[_Columns, ...], theirs: tuple[_Columns, ...]) -> bool:
    """Whether no column has two types, and there are not too many of them in one block."""
    named = {(name, kind) for groups in (ours, theirs) for kind, columns in enumerate(groups) for name in columns}
    return len({name for name, _ in named}) == len(named) <= MAX_COLUMNS


def parts_of(blocks: list[Block]) -> list[list[Block]]:
    """Divide blocks so that no part has more than MAX_ROWS rows (a single larger block stays whole)."""
    parts: list[list[Block]] = []
    rows = MAX_ROWS + 1
    for block in blocks:
        if rows + len(block.rows) > MAX_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(block)
        rows += len(block.rows)
    return parts


def bodies_of(blocks: list[Block]) -> Iterator[tuple[int, bytes | None, str]]:
    """Encode blocks into bodies that can travel, with their rows in order.

    Yields:
        The rows of each body, the body, and "". Where a single row cannot travel (it alone is too large, or holds a
        value that msgpack cannot), 1, None and why: its neighbours are not harmed.
    """
    for part in parts_of(blocks):
        yield from _bodies(part)


def _bodies(blocks: list[Block]) -> Iterator[tuple[int, bytes | None, str]]:
    rows = sum(len(block.rows) for block in blocks)
    try:
        body = encode_body(blocks)
        if len(body) > MAX_BODY_BYTES:
            raise TooLargeError(f"a body of {len(body)} bytes exceeds {MAX_BODY_BYTES}")
    except (MalformedError, TooLargeError) as error:
        if rows <= 1:
            yield rows, None, str(error)
            return
    else:
        yield rows, body, ""
        return
    if len(blocks) > 1:
        half = len(blocks) // 2
        yield from _bodies(blocks[:half])
        yield from _bodies(blocks[half:])
        return
    half = rows // 2
    yield from _bodies([rows_of(blocks[0], 0, half)])
    yield from _bodies([rows_of(blocks[0], half, rows)])


def rows_of(block: Block, first: int, end: int) -> Block:
    """Give a block of the rows `[first, end)` of another, at least one, with the same columns and times."""
    used = sorted(set(block.rows[first:end]))
    moved = {number: at for at, number in enumerate(used)}
    return Block(
        block.measurement,
        block.subject,
        block.attributes,
        [block.keys[number] for number in used],
        [moved[number] for number in block.rows[first:end]],
        block.start + sum(block.steps[: first + 1]),
        [0, *block.steps[first + 1 : end]],
        {name: column[first:end] for name, column in block.floats.items()},
        {name: column[first:end] for name, column in block.ints.items()},
        {name: column[first:end] for name, column in block.bools.items()},
        {name: column[first:end] for name, column in block.strings.items()},
    )

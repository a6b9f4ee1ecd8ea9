"""How blocks grow together into batches, and come apart again where they are too large or hold what cannot travel."""

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from schemas.batch import MAX_COLUMNS, Block
from schemas.codec import MAX_BATCH_BYTES, encode_body
from schemas.errors import MalformedError, TooLargeError

MAX_ROWS: Final = 4096
"""Rows of one batch, so that no batch of ordinary rows comes near the limits of the codec."""
MAX_BODY_BYTES: Final = MAX_BATCH_BYTES - (256 << 10)
"""Bytes of one body as it travels: what is left of a batch goes to its envelope."""
T = TypeVar("T")


def merge_block(into: Block, block: Block) -> bool:
    """Append `block`'s rows to `into` in place when that is the same table going on in time; tell whether it was."""
    gap = block.start - into.end
    if gap < 1 or len(into.rows) + len(block.rows) > MAX_ROWS or not _columns_agree(into, block):
        return False
    index = {tuple(key): number for number, key in enumerate(into.keys)}
    moved = []
    for key in block.keys:
        number = index.setdefault(tuple(key), len(into.keys))
        if number == len(into.keys):
            into.keys.append(key)
        moved.append(number)
    had, more = len(into.rows), len(block.rows)
    into.rows.extend(moved[row] for row in block.rows)
    into.steps.append(gap)
    into.steps.extend(block.steps[1:])
    _merge_columns(into.floats, block.floats, had, more)
    _merge_columns(into.ints, block.ints, had, more)
    _merge_columns(into.bools, block.bools, had, more)
    _merge_columns(into.strings, block.strings, had, more)
    return True


def _columns_agree(one: Block, other: Block) -> bool:
    """Whether no column has two types, and there are not too many of them in one block."""
    ours: list[dict[str, object]] = [one.floats, one.ints, one.bools, one.strings]  # type: ignore[list-item]
    theirs: list[dict[str, object]] = [other.floats, other.ints, other.bools, other.strings]  # type: ignore[list-item]
    if all(mine.keys() == yours.keys() for mine, yours in zip(ours, theirs, strict=True)):
        return True  # nearly always
    named = {(name, kind) for blocks in (ours, theirs) for kind, columns in enumerate(blocks) for name in columns}
    return len({name for name, _ in named}) == len(named) <= MAX_COLUMNS


def _merge_columns(into: dict[str, list[T | None]], more: Mapping[str, list[T | None]], had: int, count: int) -> None:
    for name, column in more.items():
        if name not in into:
            into[name] = [None] * had
        into[name].extend(column)
    for name, column in into.items():
        if name not in more:
            column.extend([None] * count)


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

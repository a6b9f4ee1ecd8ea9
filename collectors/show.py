"""Rows one by one, as people read them: for `--test` and for watching what passes. Not for the hot path."""

from collections.abc import Iterator
from typing import Any

from schemas.batch import Block
from schemas.rows import Parcel
from schemas.verbosity import Level, RowClass


def rows_of_block(block: Block, row_class: RowClass, level: Level) -> Iterator[dict[str, Any]]:
    """Give each row of a block with its time, keys and values; what was not reported is left out."""
    groups: tuple[dict[str, list[Any]], ...] = (block.floats, block.ints, block.bools, block.strings)
    columns = [item for group in groups for item in group.items()]
    now = block.start
    for at, step in enumerate(block.steps):
        now += step
        key = block.keys[block.rows[at]]
        row: dict[str, Any] = {
            "time": now,
            "node": block.subject,
            "measurement": block.measurement,
            "class": row_class.word,
            "level": level.word,
        }
        if key[0]:
            row["device"] = key[0]
        row.update(zip(block.attributes, key[1:], strict=True))
        row.update((name, values[at]) for name, values in columns if values[at] is not None)
        yield row


def rows_of_parcel(parcel: Parcel) -> Iterator[dict[str, Any]]:
    """Give each row of a parcel."""
    return rows_of_block(parcel.block, parcel.row_class, parcel.level)

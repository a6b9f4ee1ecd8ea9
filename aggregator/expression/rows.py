"""A block's columns as an expression names them."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, Final

import msgspec

from aggregator.expression.compiled import Column, Expression, Mask
from schemas.batch import Block
from schemas.rows import EVENT

_DETAIL: Final = f"{EVENT}.detail"
_facts = msgspec.json.Decoder(dict[str, Any])


def block_predicate(expression: Expression) -> Callable[[Block], Mask]:
    """Give the function that evaluates an expression over `rows_environment` on each row of a block.

    What the block does not hold is absent: another measurement, a field that was not sent, what is known of a device
    elsewhere.
    """
    evaluate, names = expression.on_columns(), expression.names

    def run(block: Block) -> Mask:
        columns = {name: column for name in names if (column := block_column(block, name)) is not None}
        return evaluate(len(block.rows), columns)

    return run


def block_column(block: Block, name: str) -> Column | None:
    """Give the column of a block with a dotted name, None where there is none in it."""
    root, _, field = name.partition(".")
    if name == "device.id":
        return _of_keys(block, 0)
    if name == "node.id":
        return [block.subject] * len(block.rows)
    if root != block.measurement:
        return None
    if field == "time":
        return [block.start + step for step in accumulate(block.steps)]
    if field in block.attributes:
        return _of_keys(block, 1 + block.attributes.index(field))
    kinds: tuple[dict[str, Any], ...] = (block.floats, block.ints, block.bools, block.strings)
    column: Column | None = next((kind[field] for kind in kinds if field in kind), None)
    return [_decoded(text) for text in column] if name == _DETAIL and column is not None else column


def _of_keys(block: Block, place: int) -> Column:
    """Give a part of each row's key; "" is absent."""
    parts = [key[place] or None for key in block.keys]
    return [parts[row] for row in block.rows]


def _decoded(text: str | None) -> dict[str, Any] | None:
    """Read the facts of an event; what is no JSON object is absent."""
    if text is None:
        return None
    try:
        return _facts.decode(text)
    except msgspec.MsgspecError:
        return None

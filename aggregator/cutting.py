"""Cutting batches: what to keep of one of which some rows are known already."""

import itertools

from schemas.batch import Block
from schemas.intervals import Interval


def cut_blocks(blocks: list[Block], first: int, wanted: list[Interval]) -> list[Block]:
    """Give only the rows whose numbers are in `wanted`; the rows of a batch are numbered in the order of its blocks."""
    result = []
    number = first
    for block in blocks:
        count = len(block.rows)
        picks = [at for at in range(count) if any(low <= number + at < high for low, high in wanted)]
        number += count
        if len(picks) == count:
            result.append(block)
        elif picks:
            result.append(_pick(block, picks))
    return result


def _pick(block: Block, picks: list[int]) -> Block:
    times, now = [], block.start
    for step in block.steps:
        now += step
        times.append(now)
    chosen = [times[at] for at in picks]
    return Block(
        block.measurement,
        block.subject,
        block.attributes,
        block.keys,
        [block.rows[at] for at in picks],
        chosen[0],
        [0, *(later - earlier for earlier, later in itertools.pairwise(chosen))],
        {name: [column[at] for at in picks] for name, column in block.floats.items()},
        {name: [column[at] for at in picks] for name, column in block.ints.items()},
        {name: [column[at] for at in picks] for name, column in block.bools.items()},
        {name: [column[at] for at in picks] for name, column in block.strings.items()},
    )

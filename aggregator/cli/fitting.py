"""How a table becomes narrow enough for a terminal.

In this order, and no further than it must: columns that hold nothing go, texts fold, then the columns go that matter
least. What is left is whole: an id that is cut off names nothing.
"""

import sys
import textwrap
from collections.abc import Sequence
from typing import Final

GAP: Final = 2
"""Spaces between two columns."""
ABSENT: Final = "-"
"""A cell that holds nothing."""
_ROOMY: Final = 20
"""Texts are folded to no less as long as another column can go instead."""
_NARROW: Final = 12
"""Texts are never folded to less."""


def fit(
    columns: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str], width: int
) -> tuple[list[int], list[int]]:
    """Give the places of the columns to show, and how wide each of them is.

    `spare` names columns that can be missed, the first to go first. What does not fit without them either is not
    folded: it is read by scrolling.
    """
    every = list(range(len(columns)))
    widths = [max(len(row[at]) for row in [columns, *rows]) for at in every]
    if _total(widths) <= width:
        return every, widths
    kept = [at for at in every if any(row[at] != ABSENT for row in rows)]
    going = [columns.index(name) for name in spare if name in columns]
    texts = [any(" " in row[at] for row in rows) for at in every]
    left = kept
    for many, least in [*((many, _ROOMY) for many in range(len(going) + 1)), (len(going), _NARROW)]:
        left = [at for at in kept if at not in going[:many]]
        limits = [max(least, len(columns[at])) if texts[at] else sys.maxsize for at in left]
        folded = _folded([widths[at] for at in left], limits, width)
        if _total(folded) <= width:
            return left, folded
    return left, [widths[at] for at in left]


def fold(cell: str, width: int) -> list[str]:
    """Give the lines of a cell, at least one; a word that is too long by itself is broken."""
    return textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]


def _folded(widths: list[int], limits: list[int], width: int) -> list[int]:
    """Take from whatever is widest and above its limit, until all fits or nothing is."""
    found = list(widths)
    while _total(found) > width:
        able = [at for at in range(len(found)) if found[at] > limits[at]]
        if not able:
            break
        found[max(able, key=lambda at: found[at])] -= 1
    return found


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(0, len(widths) - 1)

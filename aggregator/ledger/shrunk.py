"""A node that has less than claims hold of it: nothing new goes there, until what they hold fits again.

A fact may make a node smaller than what was given of it: memory that failed, a disk that was taken out. No claim loses
anything by that. The mark is the ledger's, and goes by itself: when a claim ends, when the node has more again, or when
its policy of over-commit allows it.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from aggregator.ledger.entries import Entry, Tainted, Untainted
from aggregator.ledger.model import Node, Taint
from aggregator.ledger.state import State
from aggregator.ledger.words import SHRUNK, Effect

_LEDGER: Final = "ledger"
_FITS: Final = "what claims hold fits again"


def of_totals(state: State, node: Node, totals: dict[str, int]) -> Iterator[Entry]:
    """Yield the mark that follows when a node tells what there is of it now, or the mark's end."""
    over = _over(state, msgspec.structs.replace(node, totals=totals))
    before = _mark(node)
    if over:
        since_ns = state.time_ns if before is None else before.since_ns
        mark = Taint(SHRUNK, Effect.NO_SCHEDULE, over, _LEDGER, since_ns)
        if mark != before and (before is not None or SHRUNK not in node.taints):
            yield Tainted(node.id, "", mark)
    elif before is not None:
        yield Untainted(node.id, "", SHRUNK, _FITS)


def fits_again(state: State, node: str) -> bool:
    """Tell whether a node is marked, and what claims hold of it fits."""
    found = state.nodes.get(node)
    return found is not None and _mark(found) is not None and not _over(state, found)


def end(state: State, nodes: Iterable[str]) -> tuple[list[Entry], None]:
    """Take the mark off those nodes where what claims hold fits again."""
    return [Untainted(node, "", SHRUNK, _FITS) for node in nodes if fits_again(state, node)], None


def _mark(node: Node) -> Taint | None:
    """Give the ledger's own mark; a person's of the same name is theirs to take off."""
    mark = node.taints.get(SHRUNK)
    return mark if mark is not None and mark.who == _LEDGER else None


def _over(state: State, node: Node) -> str:
    """Say of which amounts claims hold more than there is to give; "" for none."""
    found = []
    for amount, used in sorted(node.used.items()):
        capacity = state.capacity(node, amount)
        if capacity is not None and used > capacity:
            found.append(f"claims hold {used} {amount}, and the node has {capacity} to give")
    return "; ".join(found)

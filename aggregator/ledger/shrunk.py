"""A node that has less to give than claims hold of it: nothing new goes there, until what they hold fits again.

A fact may make a node smaller than what was given of it: memory that failed, a disk that was taken out. So may an
operator who lowers the policy of over-commit, or a ledger that was lost and learns of claims. No claim loses anything
by that. The mark is the ledger's, and goes by itself: when claims end, when the node has more again, or when its policy
allows it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from aggregator.ledger.entries import Entry, Tainted, Untainted
from aggregator.ledger.model import Node, Taint
from aggregator.ledger.state import State
from aggregator.ledger.words import SHRUNK, Effect

_LEDGER: Final = "ledger"
_HELD: Final = re.compile(r"(?<=claims hold )\d+")
FITS: Final = "what claims hold fits again"
"""Why the ledger takes its mark off."""


def of_totals(state: State, node: Node, totals: dict[str, int]) -> Iterator[Entry]:
    """Yield the mark that follows when a node tells what there is of it now, or the mark's end."""
    return _follow(state, msgspec.structs.replace(node, totals=totals))


def _follow(state: State, node: Node) -> Iterator[Entry]:
    over, before = _over(state, node), _mark(node)
    if over:
        since_ns = state.time_ns if before is None else before.since_ns
        news = SHRUNK not in node.taints if before is None else _to_give(over) != _to_give(before.evidence)
        if news:
            yield Tainted(node.id, "", Taint(SHRUNK, Effect.NO_SCHEDULE, over, _LEDGER, since_ns))
    elif before is not None:
        yield Untainted(node.id, "", SHRUNK, FITS)


def _to_give(evidence: str) -> str:
    """Give of an evidence what there is to give: that claims hold a little less now, and still too much, is no news."""
    return _HELD.sub("", evidence)


def is_due(state: State, node: str) -> bool:
    """Tell whether a node is not marked as what claims hold of it asks for."""
    return any(_of_node(state, node))


def settle(state: State, nodes: Iterable[str]) -> tuple[list[Entry], None]:
    """Mark those nodes of which claims hold more than there is to give, and take the mark off where it fits again."""
    return [entry for node in nodes for entry in _of_node(state, node)], None


def is_own(mark: Taint) -> bool:
    """Tell whether a mark of a node is the ledger's own; a person's of the same name is theirs to take off."""
    return mark.rule == SHRUNK and mark.who == _LEDGER


def _of_node(state: State, node: str) -> Iterator[Entry]:
    found = state.nodes.get(node)
    return iter(()) if found is None else _follow(state, found)


def _mark(node: Node) -> Taint | None:
    mark = node.taints.get(SHRUNK)
    return mark if mark is not None and is_own(mark) else None


def _over(state: State, node: Node) -> str:
    """Say of which amounts claims hold more than there is to give; "" for none."""
    found = []
    for amount, used in sorted(node.used.items()):
        capacity = state.capacity(node, amount)
        if capacity is not None and used > capacity:
            found.append(f"claims hold {used} {amount}, and the node has {capacity} to give")
    return "; ".join(found)

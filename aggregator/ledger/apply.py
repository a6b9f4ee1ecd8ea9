"""What the entries do to the state. A pure function: the same entries, in the same order, give the same state.

What an entry may do was decided before it was written (`claims`, `facts`, `orders`); here it is only done, and refused
when the table of transitions does not have it, which would be a defect.
"""

from collections.abc import Callable
from typing import Any, Final

from aggregator.ledger.apply_claims import CLAIMS
from aggregator.ledger.apply_facts import FACTS
from aggregator.ledger.apply_orders import ORDERS
from aggregator.ledger.apply_views import VIEWS
from aggregator.ledger.entries import Entry
from aggregator.ledger.state import State
from schemas.errors import MusterError


class LedgerGapError(MusterError):
    """An entry does not follow the one before it: entries are missing, or out of order."""

    code = "ledger.gap"


Apply = Callable[[State, Any], None]
_APPLY: Final[dict[type[Any], Apply]] = {**FACTS, **CLAIMS, **ORDERS, **VIEWS}


def apply(state: State, sequence: int, time_ns: int, entry: Entry) -> None:
    """Do what an entry says. Raises LedgerGapError, or TransitionError for what can only be a defect.

    After an error the state is worth nothing: build it again.
    """
    if sequence != state.sequence + 1:
        raise LedgerGapError(f"entry {sequence} does not follow entry {state.sequence}; restore a backup")
    state.sequence, state.time_ns = sequence, time_ns
    _APPLY[type(entry)](state, entry)


def known_entries() -> frozenset[type[Any]]:
    """Give the types of entries that `apply` knows."""
    return frozenset(_APPLY)

"""When the nodes of a fleet describe their devices: changes at once, whole sets one node after the other.

A fleet that starts has everything to say at the same moment. It says it as fast as an aggregator takes it in, so that
a change of a device that is known is not behind the first words of a thousand nodes for long.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from collectors.fleet_node import FleetNode
from collectors.spool import NewBatch

DOCUMENTS_PER_SECOND: Final = 1000.0
"""Of a large fleet, capability documents are sent so fast at most."""


class Describing:
    """Whose documents are due. At first every node's are."""

    def __init__(self, nodes: Iterable[FleetNode], now: float) -> None:
        self._waiting: deque[FleetNode] = deque(nodes)
        self._allowance = DOCUMENTS_PER_SECOND
        self._allowed_at = now

    def due(self, now: float, touched: Iterable[FleetNode]) -> Iterator[tuple[FleetNode, list[NewBatch]]]:
        """Yield the documents that are due, `now` by the monotonic clock; `touched`: nodes that were stepped."""
        more = (now - self._allowed_at) * DOCUMENTS_PER_SECOND
        self._allowance = min(self._allowance + more, DOCUMENTS_PER_SECOND)
        self._allowed_at = now
        for one in touched:
            if one.all_documents_due:
                if not one.queued:
                    one.queued = True
                    self._waiting.append(one)
            elif one.documents_due:
                yield one, one.describe()
        while self._waiting and self._allowance > 0:
            one = self._waiting[0]
            if not one.runs:
                break  # it speaks first
            self._waiting.popleft()
            one.queued = False
            batches = one.describe()
            self._allowance -= len(batches)
            yield one, batches

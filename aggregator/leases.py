"""When leases run out: by this process's monotonic clock, which no step of the wall clock moves.

Whoever takes the lead gives each live claim a new term: nobody knows how much of the old one was left, and a claim that
lives a little longer harms nobody.
"""

import heapq
import time
from collections.abc import Callable, Iterable
from typing import Final

from aggregator.ledger.model import Claim
from aggregator.ledger.words import ClaimState

_FEW: Final = 1024
_LEASED: Final = frozenset({ClaimState.RESERVED, ClaimState.PROVISIONING, ClaimState.ACTIVE})


class Leases:
    """The deadlines of all claims that have one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadlines: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def begin(self, claims: Iterable[Claim]) -> None:
        """Forget everything, and give each of these a full term."""
        self._deadlines.clear()
        self._heap.clear()
        for claim in claims:
            self.follow(claim)

    def follow(self, claim: Claim) -> None:
        """Take note of a claim: one without a term has a full one from now on; one that is over has none."""
        if claim.state not in _LEASED:
            self.end(claim.id)
        elif claim.id not in self._deadlines:
            self.begin_term(claim.id, claim.lease_seconds)

    def begin_term(self, claim: str, seconds: float) -> None:
        """Let a claim's lease begin now. Called in the very decision that says so: nothing can come between."""
        deadline = self._clock() + seconds
        self._deadlines[claim] = deadline
        heapq.heappush(self._heap, (deadline, claim))
        if len(self._heap) > 2 * len(self._deadlines) + _FEW:  # most are of terms that ended before their time
            self._heap = [(ends, name) for name, ends in self._deadlines.items()]
            heapq.heapify(self._heap)

    def end(self, claim: str) -> None:
        """Let it never be due. Safe twice."""
        self._deadlines.pop(claim, None)

    def left(self, claim: str) -> float | None:
        """Give the seconds that a lease has left; None without one."""
        deadline = self._deadlines.get(claim)
        return None if deadline is None else max(0.0, deadline - self._clock())

    @property
    def kept(self) -> int:
        """How many deadlines are remembered, those of terms that are over included."""
        return len(self._heap)

    def due(self) -> list[str]:
        """Take out the claims whose lease has run out."""
        now = self._clock()
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            deadline, claim = heapq.heappop(self._heap)
            if self._deadlines.get(claim) == deadline:  # else it was renewed, or is over
                del self._deadlines[claim]
                found.append(claim)
        return found

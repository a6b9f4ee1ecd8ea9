"""What BMCs told of parts that their machines had not described yet: it is asked for again once they may have.

Nothing is kept of it but who told it. What comes again changes nothing where it is known.
"""

from collections.abc import Callable
from typing import Final

from aggregator.inventory_facts import Said
from aggregator.ledger.state import State

PAUSE_SECONDS: Final = 5.0
"""A node describes many devices in a row."""
AGAIN_SECONDS: Final = 60.0
"""The same publisher is asked again so long after at the soonest."""


class Waiting:
    """Whose documents wait for devices. For one event loop."""

    def __init__(self, resend: Callable[[str], object], clock: Callable[[], float]) -> None:
        """`resend` asks a publisher for all of its documents; `clock`: monotonic seconds."""
        self._resend = resend
        self._clock = clock
        self._waiting: set[str] = set()
        """Publishers that told of what nobody described."""
        self._due: float | None = None
        self._asked: dict[str, float] = {}

    def note(self, said: Said, state: State, *, new: bool) -> None:
        """Take note of a document. `new`: with it a device was seen first."""
        if said.is_waiting(state):
            self._waiting.add(said.envelope.publisher)
        elif new and self._waiting and self._due is None:
            self._due = self._clock() + PAUSE_SECONDS

    def ask(self) -> None:
        """Ask whoever waits, if it is time."""
        now = self._clock()
        if self._due is None or now < self._due:
            return
        self._due = None
        for publisher in sorted(self._waiting):
            if now - self._asked.get(publisher, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                self._asked[publisher] = now
                self._waiting.discard(publisher)
                self._resend(publisher)
            else:
                self._due = self._asked[publisher] + AGAIN_SECONDS

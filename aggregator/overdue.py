"""What must not last for ever: told in the order in which it began, so that nobody goes through all that waits."""

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
_FEW: Final = 1024
"""So many are kept of which nobody knows whether they wait still."""


class Overdue(Generic[K]):
    """Things that may each wait for the same time. What waits no more is dropped by and by, and without being told."""

    def __init__(self, seconds: float, waits: Callable[[K], bool]) -> None:
        """`waits`: tells whether a thing waits still."""
        self.seconds = seconds
        self._waits = waits
        self._since: dict[K, float] = {}
        self._most = _FEW

    def begin(self, key: K, now: float) -> None:
        """Let it wait from now on, by a monotonic clock; what waits already goes on."""
        if key in self._since:
            return
        self._since[key] = now
        if len(self._since) > self._most:
            self._since = {one: since for one, since in self._since.items() if self._waits(one)}
            self._most = max(_FEW, 2 * len(self._since))

    def due(self, now: float) -> list[K]:
        """Give what waits for too long, the longest first, until it waits no more."""
        found: list[K] = []
        over: list[K] = []
        for key, since in self._since.items():
            if not self._waits(key):
                over.append(key)
            elif now - since >= self.seconds:
                found.append(key)
            else:
                break
        for key in over:
            del self._since[key]
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._since.clear()
        self._most = _FEW

    def __len__(self) -> int:
        return len(self._since)

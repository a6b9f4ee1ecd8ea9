"""How much may come of something: some at once, and from then on so much a second."""

import threading
import time
from collections.abc import Callable


class Ration:
    """What may be taken: it grows all the time, up to what may come at once. For many threads.

    Within any time no more is taken than `at_once` and `per_second` for each of its seconds together, but for what is
    owed; and whoever takes less than `per_second` is never refused.
    """

    __slots__ = ("_at", "_at_once", "_clock", "_left", "_lock", "_per_second")

    def __init__(self, per_second: float, at_once: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`at_once`: as many as have been saved up after a while without any, and at the beginning."""
        self._per_second, self._at_once, self._clock = per_second, float(at_once), clock
        self._lock = threading.Lock()
        self._left, self._at = self._at_once, clock()

    def take(self) -> bool:
        """Take one; False when it is one too many."""
        with self._lock:
            if self._grown() < 1:
                return False
            self._left -= 1
            return True

    def owe(self) -> None:
        """Take one though it may be one too many: as many later ones have to wait."""
        with self._lock:
            self._grown()
            self._left -= 1

    def ready(self) -> bool:
        """Tell whether one more may be taken."""
        with self._lock:
            return self._grown() >= 1

    def _grown(self) -> float:
        """Let it grow by the time since it was last asked, whatever is left: what is full meanwhile grows no more."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._per_second, self._at_once)
        self._at = now
        return self._left

"""How fast all BMCs together are asked, and how much one of them may tell by itself."""

import threading
import time
from collections.abc import Callable


class Pace:
    """Lets so many requests go in a second, a quarter of a second's worth at once. For many threads."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._each = 1.0 / per_second
        self._slack = 0.25
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = float("-inf")

    def __call__(self) -> None:
        """Come back when one more may be sent."""
        with self._lock:
            now = self._clock()
            turn = max(self._next, now - self._slack)
            self._next = turn + self._each
        if turn > now:
            self._sleep(turn - now)


class Ration:
    """How many may come: some at once, and from then on so many a second. For many threads."""

    def __init__(self, per_second: float, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`at_once`: as many as have been saved up after a while without any."""
        self._per_second, self._at_once, self._clock = per_second, float(at_once), clock
        self._lock = threading.Lock()
        self._left, self._at = self._at_once, clock()

    def take(self) -> bool:
        """Take one; False when it is one too many."""
        with self._lock:
            now = self._clock()
            self._left = min(self._left + (now - self._at) * self._per_second, self._at_once)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True

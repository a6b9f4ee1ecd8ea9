"""How fast all BMCs together are asked."""

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

"""What was read and waits to be handed on: by any BMC's thread, each item as soon as it is read.

Events go at once; all else waits a moment for more, so that the host is not given rows one by one. Where nobody takes
anything, whoever reads waits: what waits is bounded.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from schemas.rows import Event, Item

TOGETHER: Final = 4000
"""Items that are handed on together; the host takes no more than some thousands at once."""
WAITING: Final = 4 * TOGETHER
"""Items that wait; then BMCs wait too."""
LINGER: Final = 0.25
"""Seconds that a row waits for others, at most."""
_LOOK: Final = 0.5
"""Seconds; the longest wait before the end is seen."""


class Outbox:
    """Items in the order in which they were put. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._items: deque[Item] = deque()
        self._since = 0.0
        """When the oldest of them was put, or what was left of a full load was left."""
        self._urgent = False
        self._closed = False
        self._there, self._room = threading.Condition(), threading.Condition()

    def put(self, items: Sequence[Item]) -> bool:
        """Put items; waits while too many wait. False when it is the end, and they are dropped."""
        if not items or (len(self._items) >= WAITING and not self._waited()):
            return not self._closed
        with self._there:
            wakes = not self._items
            if wakes:
                self._since = self._clock()
            self._items.extend(items)
            if not self._urgent and (len(self._items) >= TOGETHER or any(isinstance(one, Event) for one in items)):
                self._urgent = wakes = True
            if wakes:
                self._there.notify_all()
        return not self._closed

    def take(self, seconds: float) -> list[Item]:
        """Give what waits, not too much at a time; [] when nothing has come after so long."""
        end = self._clock() + seconds
        with self._there:
            while not self._items:
                left = end - self._clock()
                if left <= 0 or self._closed:
                    return []
                self._there.wait(left)
            ripe = self._since + LINGER
            while not (self._urgent or self._closed) and (left := ripe - self._clock()) > 0:
                self._there.wait(left)
            taken = list(islice(self._items, TOGETHER))
            for _ in taken:
                self._items.popleft()
            self._urgent = bool(self._items)
        with self._room:
            self._room.notify_all()
        return taken

    def close(self) -> None:
        """Take nothing more: whoever waits to put something waits no longer. Safe twice."""
        self._closed = True
        for condition in (self._there, self._room):
            with condition:
                condition.notify_all()

    def _waited(self) -> bool:
        """Wait for room; False when it is the end."""
        with self._room:
            while len(self._items) >= WAITING and not self._closed:
                self._room.wait(_LOOK)
        return not self._closed

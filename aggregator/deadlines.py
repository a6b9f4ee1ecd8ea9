"""Deadlines for calls that take no timeout of their own, but can be interrupted from another thread.

One thread watches all of them, for starting one a call costs as much as a small query, and waits for the interpreter.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Deadlines:
    """Interrupts what takes longer than `seconds`.

    All have the same time: none that begins later is due before one that is watched already. So the watching thread
    sleeps until the first of them, or for the whole time, and nobody ever has to wake it. It ends when it finds nothing
    to watch, and is a daemon: it holds up neither the end of the process nor its owner's.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        """What is watched, in the order in which it is due."""
        self._watching = False

    @contextlib.contextmanager
    def watch(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt` in another thread if what is inside takes too long; never once it is left."""
        own = object()
        with self._lock:
            self._due[own] = (time.monotonic() + self._seconds, interrupt)
            starting, self._watching = not self._watching, True
        try:
            if starting:
                self._start()
            yield
        finally:
            with self._lock:
                self._due.pop(own, None)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._watch, name="deadlines", daemon=True).start()
        except BaseException:
            with self._lock:
                self._watching = False  # the next one tries again
            raise

    def _watch(self) -> None:
        while (seconds := self._interrupt_overdue()) is not None:
            time.sleep(seconds)

    def _interrupt_overdue(self) -> float | None:
        """Interrupt what is due; give the seconds to the next that may be, None when there is nothing to watch."""
        with self._lock:
            while self._due:
                own, (due, interrupt) = next(iter(self._due.items()))
                left = due - time.monotonic()
                if left > 0:
                    return left
                del self._due[own]
                interrupt()
            self._watching = False
            return None

"""The one thread that reads every listener: wait, read a portion of each that is ready, emit, and again."""

import contextlib
import selectors
import time
from collections.abc import Callable

from collectors.contract import Emit
from collectors.syslog_listener import Listener, Ready
from collectors.syslog_rows import Rows

_WAIT = 0.25
"""How soon a request to stop is noticed, in seconds."""
_TICK = 1.0
_LAST_READ = 0.4
"""How long, at the end, what the kernel already holds is still read."""
_BUSY_ROWS = 250
_BUSY_BYTES = 24 << 10
"""A turn that brought so much is followed by the next at once: more is waiting."""

Failed = Callable[[str, OSError, Rows], None]
"""Told the name of a listener whose socket or device is of no use any more; it has been detached."""


class Loop:
    """Reads listeners and emits units. Everything but the constructor runs in the thread that reads."""

    def __init__(self, rows: Rows, emit: Emit, gather_seconds: float, failed: Failed) -> None:
        self.rows = rows
        """The unit at hand."""
        self._emit = emit
        self._gather = gather_seconds
        self._failed = failed
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[str, Listener] = {}
        self._next_tick = 0.0
        self._emit_at = 0.0

    def attach(self, name: str, listener: Listener) -> None:
        """Read `listener` from now on."""
        self._listeners[name] = listener
        listener.attach(_Registrar(self._selector, name))

    def detach(self, name: str) -> None:
        """Read it no more; whatever it has registered is forgotten."""
        self._listeners.pop(name, None)
        for key in [key for key in self._selector.get_map().values() if key.data[1] == name]:
            self._selector.unregister(key.fd)

    def turn(self, wait: float = _WAIT) -> bool:
        """Wait for something to read, read a portion of each, emit it; give whether there was anything.

        What comes shortly after an emission is gathered. By default the reading itself waits, which costs least; where
        that would keep a sender waiting, only the emission does.
        """
        if wait and self.rows.pending:
            wait = min(wait, max(self._emit_at - time.monotonic(), 0.0))
        ready = self._selector.select(wait)
        busy = hurried = False
        for key, _ in ready:
            read, name = key.data
            listener = self._listeners.get(name)
            if listener is None:  # detached by a reader before it in this turn
                continue
            try:
                read(self.rows)
            except OSError as error:
                self._give_up(name, error)
            hurried = hurried or listener.hurried
            busy = busy or self.rows.number >= _BUSY_ROWS or self.rows.bytes >= _BUSY_BYTES
            if self.rows.full:
                self.emit()
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            self._tick(now)
        if now >= self._emit_at:
            self.emit()
        if ready and wait and not (busy or hurried):
            time.sleep(self._gather)
        return bool(ready)

    def emit(self) -> None:
        """Emit the unit at hand, if there is anything in it. Blocks while the host is behind, and then nobody reads."""
        items = self.rows.take()
        if items:
            self._emit(items)
            self._emit_at = time.monotonic() + self._gather

    def finish(self) -> None:
        """Take what the kernel already holds, for a bounded time, and what was read but is not complete."""
        until = time.monotonic() + _LAST_READ
        while time.monotonic() < until and self.turn(0):
            pass
        for listener in self._listeners.values():
            listener.finish(self.rows)
            if self.rows.full:
                self.emit()
        self.emit()

    def close(self) -> None:
        """Give the selector back; the listeners are not touched. Safe twice."""
        self._selector.close()

    def _tick(self, now: float) -> None:
        for name, listener in list(self._listeners.items()):
            try:
                listener.tick(now, self.rows)
            except OSError as error:
                self._give_up(name, error)

    def _give_up(self, name: str, error: OSError) -> None:
        listener = self._listeners.get(name)
        if listener is not None:
            listener.finish(self.rows)
        self.detach(name)
        self._failed(name, error, self.rows)


class _Registrar:
    """Registers descriptors for one listener."""

    def __init__(self, selector: selectors.BaseSelector, name: str) -> None:
        self._selector = selector
        self._name = name

    def add(self, descriptor: int, ready: Ready) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, (ready, self._name))

    def writable(self, descriptor: int, *, wanted: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(descriptor, events, self._selector.get_key(descriptor).data)

    def remove(self, descriptor: int) -> None:
        with contextlib.suppress(KeyError, ValueError):  # not registered now (accepting pauses), or the loop has ended
            self._selector.unregister(descriptor)

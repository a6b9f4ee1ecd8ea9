"""Events that were found and not handed on yet, in a file: what a process that ended did not tell, the next one tells.

It is written before what later looks are compared with: else a change would be known, and never told.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from collectors._durable import SmallFile
from schemas.rows import Event, Item

_FILE: Final = "untold.json"
_MOST: Final = 1000
"""Events that wait; beyond, the oldest are let go."""


class Untold:
    """The events of one collector that wait to be handed on; any thread may add to them.

    An event is told twice where the process ended after it was handed on and before that was written down; the second
    then says as `source_time_ns` when it was found, as does each that an earlier process found.
    """

    def __init__(self, folder: Path | None, wall_ns: Callable[[], int] = time.time_ns) -> None:
        """Prepare; nothing is read. `folder`: None where nothing outlives the process."""
        self._file = SmallFile(None if folder is None else folder / _FILE, b"[]")
        self._wall_ns = wall_ns
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Event]] = deque(maxlen=_MOST)
        self._loaded = False

    def load(self) -> None:
        """Take what the process before did not tell. A second time nothing: this process has it already."""
        if self._file.path is None or self._loaded:
            return
        self._loaded = True
        try:
            data = self._file.path.read_bytes()
            found = msgspec.json.decode(data, type=list[tuple[int, Event]])
        except (OSError, msgspec.MsgspecError):
            return
        with self._lock:
            self._file.written = data
            self._waiting.extendleft((at, _found_at(event, at)) for at, event in reversed(found))

    def extend(self, events: Iterable[Event]) -> None:
        """Add events that were found now."""
        found = [(self._wall_ns(), event) for event in events]
        with self._lock:
            self._waiting.extend(found)

    def append(self, event: Event) -> None:
        """Add an event that was found now."""
        self.extend((event,))

    def save(self) -> bool:
        """Write what waits, where it is other than what was written; False when the disk takes nothing."""
        with self._lock:
            return self._file.write(msgspec.json.encode(list(self._waiting)))

    def hand_on(self, emit: Callable[[list[Item]], None]) -> None:
        """Emit what waits, if anything does, and then forget it. What `emit` raises is raised, and all of it waits."""
        with self._lock:
            found = list(self._waiting)
        if not found:
            return
        self.save()  # `emit` may have to wait
        emit([event for _, event in found])
        self._forget(found)
        self.save()

    def take(self) -> list[Event]:
        """Give what waits, and forget it; the file does so at the next `save`."""
        with self._lock:
            found = list(self._waiting)
        self._forget(found)
        return [event for _, event in found]

    def _forget(self, found: list[tuple[int, Event]]) -> None:
        told = {id(one) for one in found}  # more may have come meanwhile, and the oldest may be gone
        with self._lock:
            self._waiting = deque((one for one in self._waiting if id(one) not in told), maxlen=_MOST)


def _found_at(event: Event, at_ns: int) -> Event:
    return event if event.source_time_ns is not None else msgspec.structs.replace(event, source_time_ns=at_ns)

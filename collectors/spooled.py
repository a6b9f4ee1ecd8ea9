"""What is in a spool: batches, what is counted beside them, and the order in which they are given up or sent."""

import heapq
import time
from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from schemas.verbosity import Level, RowClass

Key = tuple[RowClass, Level]
"""A stream of one epoch."""
_SLACK: Final = 64


class NewBatch(msgspec.Struct):
    """Rows to be kept as one batch."""

    row_class: RowClass
    level: Level
    rows: int
    body: bytes
    grant: str = ""
    document: str = ""
    """For a capability document: which device it is of. A later one supersedes it."""


class Counts(msgspec.Struct):
    """What happened to a stream's rows besides being numbered, since the last commit."""

    filtered: int = 0
    folded: int = 0


class Held(msgspec.Struct):
    """A batch in the spool, its body on disk."""

    id: int
    """Grows with time over all epochs, and over all publishers of one file."""
    epoch: str
    row_class: RowClass
    level: Level
    first: int
    rows: int
    order: int
    size: int
    grant: str
    document: str
    born_boottime_ns: int
    born_wall_ns: int
    boot: str

    def age_ns(self, boot: str) -> int:
        """How long ago it was committed: by the clock that no `date` can set, across a reboot by the wall clock."""
        if self.boot == boot:
            return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.born_boottime_ns)
        return max(0, time.time_ns() - self.born_wall_ns)


class _Queue:
    """The ids of one class and level in order. What was released stays in it until it is at an end, or half of it."""

    __slots__ = ("ids", "live", "size")

    def __init__(self) -> None:
        self.ids: deque[int] = deque()
        self.live = 0
        self.size = 0


class Waiting:
    """The batches that a spool holds, by class and level, each in order.

    Whoever looks for the next few batches to send or to give up pays for those, not for all that are held. The
    iterators must be used up, or dropped, before anything is added or released.
    """

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._queues: dict[Key, _Queue] = {}
        self._latest: dict[str, int] = {}
        self._superseded: list[int] = []
        self._tidied = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, batch_id: int) -> bool:
        return batch_id in self._held

    def get(self, batch_id: int) -> Held | None:
        """Give a batch; None when it is not held (any more)."""
        return self._held.get(batch_id)

    def add(self, held: Held) -> None:
        """Take in a batch, younger than all that are held."""
        self._held[held.id] = held
        queue = self._queues.setdefault((held.row_class, held.level), _Queue())
        queue.ids.append(held.id)
        queue.live += 1
        queue.size += held.size
        if held.document:
            before = self._latest.get(held.document)
            if before is not None and before in self._held:
                insort(self._superseded, before)
                if len(self._superseded) > 2 * self._tidied + _SLACK:
                    self._tidy()
            self._latest[held.document] = held.id

    def release(self, held: Held) -> None:
        """Let go of a batch that is held."""
        del self._held[held.id]
        queue = self._queues[held.row_class, held.level]
        queue.live -= 1
        queue.size -= held.size
        ids = queue.ids
        while ids and ids[0] not in self._held:
            ids.popleft()
        while ids and ids[-1] not in self._held:
            ids.pop()
        if len(ids) > 2 * queue.live + _SLACK:
            queue.ids = deque(batch_id for batch_id in ids if batch_id in self._held)
        if held.document and self._latest.get(held.document) == held.id:
            del self._latest[held.document]

    def oldest(self, *classes: RowClass, level: Level | None = None) -> Iterator[Held]:
        """Yield batches of classes (and a level), oldest first."""
        return self._merged(classes, level, newest=False)

    def newest(self, *classes: RowClass) -> Iterator[Held]:
        """Yield batches of classes, newest first."""
        return self._merged(classes, None, newest=True)

    def superseded(self) -> Iterator[Held]:
        """Yield the documents after which a later one of the same device came, oldest first."""
        ids, held = self._superseded, self._held
        gone = next((at for at, batch_id in enumerate(ids) if batch_id in held), len(ids))
        del ids[:gone]
        return (held[batch_id] for batch_id in ids if batch_id in held)

    def size(self, *classes: RowClass) -> int:
        """Give the bytes of bodies of classes; of all without any."""
        return sum(queue.size for (row_class, _), queue in self._queues.items() if not classes or row_class in classes)

    def _tidy(self) -> None:
        self._superseded = [batch_id for batch_id in self._superseded if batch_id in self._held]
        self._tidied = len(self._superseded)

    def _merged(self, classes: tuple[RowClass, ...], level: Level | None, *, newest: bool) -> Iterator[Held]:
        queues = [
            self._live_ids(reversed(queue.ids) if newest else queue.ids)
            for (row_class, one), queue in self._queues.items()
            if queue.live and row_class in classes and (level is None or one is level)
        ]
        merged = heapq.merge(*queues, reverse=newest) if len(queues) > 1 else iter(queues[0] if queues else ())
        return (self._held[batch_id] for batch_id in merged)

    def _live_ids(self, ids: Iterable[int]) -> Iterator[int]:
        return (batch_id for batch_id in ids if batch_id in self._held)

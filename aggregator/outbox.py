"""What was decided and is yet to be told: an event is kept in the transaction of its decision, then put into the log.

So a process that ends between the two loses no event: the next one tells what is left. It tells it at least once: one
that ends between the log and the deletion leaves an event that is told again.
"""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select

from aggregator.announcer import Announcer
from aggregator.control import Control
from aggregator.tables import OUTBOX
from schemas.errors import MusterError
from schemas.rows import Event

_log = logging.getLogger("muster.outbox")
_AT_ONCE: Final = 256


def put(connection: Connection, events: Iterable[Event], now_ns: int) -> None:
    """Keep events until they are told. `now_ns`: when they happened, nanoseconds since 1970, unless they say so."""
    rows = []
    for event in events:
        when = now_ns if event.source_time_ns is None else event.source_time_ns
        rows.append({"event": msgspec.json.encode(msgspec.structs.replace(event, source_time_ns=when)).decode()})
    if rows:
        connection.execute(insert(OUTBOX), rows)


def oldest(connection: Connection, limit: int = _AT_ONCE) -> list[tuple[int, Event]]:
    """Give the events that wait, with their ids, oldest first."""
    rows = connection.execute(select(OUTBOX).order_by(OUTBOX.c.id).limit(limit))
    return [(row.id, msgspec.json.decode(row.event, type=Event)) for row in rows]


def remove(connection: Connection, ids: Iterable[int]) -> None:
    """Forget events that were told."""
    connection.execute(delete(OUTBOX).where(OUTBOX.c.id.in_(list(ids))))


class Outbox:
    """Tells what waits. For one event loop."""

    def __init__(self, control: Control, announcer: Announcer) -> None:
        self._control = control
        self._announcer = announcer
        self._lock = asyncio.Lock()
        self._asked = 0
        self._served = 0
        self._failure = ""
        self._left = True  # whatever the process before left
        self._running: set[asyncio.Task[None]] = set()

    @property
    def left(self) -> bool:
        """Whether something may wait that could not be told yet: `drain` should be called again."""
        return self._left

    async def drain(self) -> None:
        """Tell everything that was put before this call. Never raises: what cannot be told now stays.

        A caller that is cancelled does not stop it, or what the log has might be told again.
        """
        self._asked += 1
        task = asyncio.get_running_loop().create_task(self._drain(self._asked))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)

    async def _drain(self, turn: int) -> None:
        async with self._lock:
            if self._served >= turn:
                return  # one that began after the call has told it with its own
            self._served = self._asked
            self._left = True
            try:
                await self._tell()
            except (MusterError, msgspec.MsgspecError) as error:
                if str(error) != self._failure:  # it is tried every second: said once
                    self._failure = str(error)
                    _log.error("outbox_not_drained; it is tried again; error=%s", error)
                return
            self._left, self._failure = False, ""

    async def _tell(self) -> None:
        while waiting := await self._control.read(oldest):
            await self._announcer.take([event for _, event in waiting])
            await self._control.write(partial(remove, ids=[id_ for id_, _ in waiting]))

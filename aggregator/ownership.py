"""Who owns a partition, and how far each consumer is in it: the fence that a late owner runs into.

One instance owns partition p of every topic: all of them when the log is embedded, by group membership when it is
Kafka. Whoever takes a partition takes its next epoch; every transaction that moves a position checks that epoch, so an
owner that was replaced and does not know it yet can no longer move anything. Epochs and positions are never forgotten.
"""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from sqlalchemy import Connection, case, insert, select, update

from aggregator.control import Control
from aggregator.log import Log
from aggregator.store import Progress
from aggregator.tables import OWNERSHIP, POSITIONS
from schemas.errors import MusterError

_log = logging.getLogger("muster.ownership")
INSTANCE: Final = f"{socket.gethostname()[:200]}-{secrets.token_hex(4)}"
"""This process, for people who ask who owns a partition. Another one at every start."""


class FencedError(MusterError):
    """Another instance took the partition since; let go of it, what it was to keep was not kept."""

    code = "control.fenced"

    def __init__(self, partition: int, epoch: int, current: int | None, instance: str = "another instance") -> None:
        now = "nobody ever took it" if current is None else f"{instance} has it under epoch {current}"
        super().__init__(f"partition {partition} is not owned under epoch {epoch}: {now}")
        self.partition = partition
        self.epoch = epoch
        self.current = current


def take(
    connection: Connection,
    partitions: Iterable[int],
    instance: str,
    now_ns: int,
    above: Mapping[int, int] | None = None,
) -> dict[int, int]:
    """Take partitions from whoever has them; give the epoch of each: 1 at first, one more than the last from then on.

    `now_ns`: nanoseconds since 1970, for people. Of two that take at once, each gets an epoch of its own. `above`: the
    highest epochs that are known elsewhere, by partition; a control database put back from an older copy knows less.
    """
    epochs: dict[int, int] = {}
    floors = above or {}
    for partition in sorted(set(partitions)):  # in order: two that take the same ones must not wait for each other
        mine = OWNERSHIP.c.partition == partition
        names = {"instance": instance, "taken_ns": now_ns}
        floor = floors.get(partition, 0)
        last = case((OWNERSHIP.c.epoch < floor, floor), else_=OWNERSHIP.c.epoch)
        taken = update(OWNERSHIP).where(mine).values(epoch=last + 1, **names)
        if not connection.execute(taken).rowcount:
            connection.execute(insert(OWNERSHIP).values(partition=partition, epoch=floor + 1, **names))
        epochs[partition] = int(connection.execute(select(OWNERSHIP.c.epoch).where(mine)).scalar_one())
    return epochs


def check(connection: Connection, partition: int, epoch: int) -> None:
    """Make sure that `epoch` owns the partition until this transaction has ended. Raises FencedError.

    For use inside any transaction that only the owner may make.
    """
    columns = (OWNERSHIP.c.epoch, OWNERSHIP.c.instance)
    # on PostgreSQL the row is locked, so that nobody takes it before the commit; SQLite has one writer
    question = select(*columns).where(OWNERSHIP.c.partition == partition).with_for_update(read=True)
    row = connection.execute(question).first()
    if row is None:
        raise FencedError(partition, epoch, None)
    if row.epoch != epoch:
        raise FencedError(partition, epoch, row.epoch, row.instance)


def move(
    connection: Connection, consumer: str, log_id: str, topic: str, partition: int, offset: int, *, epoch: int
) -> None:
    """Keep that a consumer is done with everything below `offset`. Raises FencedError; then nothing was kept.

    `epoch` is the owner's, as `take` gave it.
    """
    check(connection, partition, epoch)
    key = {"consumer": consumer, "log_id": log_id, "topic": topic, "partition": partition}
    this = [POSITIONS.c[name] == value for name, value in key.items()]
    now = {"offset": offset, "owner_epoch": epoch}
    if not connection.execute(update(POSITIONS).where(*this).values(**now)).rowcount:
        connection.execute(insert(POSITIONS).values(**key, **now))


def load(connection: Connection, consumer: str, log_id: str) -> dict[tuple[str, int], int]:
    """Give the next offset of a consumer by (topic, partition); {} for a log that it never read: begin at its begin."""
    mine = (POSITIONS.c.consumer == consumer) & (POSITIONS.c.log_id == log_id)
    columns = (POSITIONS.c.topic, POSITIONS.c.partition, POSITIONS.c.offset)
    return {(row.topic, row.partition): row.offset for row in connection.execute(select(*columns).where(mine))}


def taken_over(held: Mapping[int, int], progress: Progress) -> dict[int, int]:
    """Give the partitions, with their epochs, that a sink's transaction takes from the owners that the sink knows.

    `held`: by partition, the highest epoch that the sink has seen. Raises FencedError when it is above what the
    transaction has for a partition: then nothing of the transaction may stay. For sinks that keep epochs themselves.
    """
    moved = {one.partition: 0 for one in progress.positions}
    for partition, epoch in sorted({**moved, **progress.owners}.items()):
        if epoch < held.get(partition, 0):
            raise FencedError(partition, epoch, held[partition])
    return {partition: epoch for partition, epoch in progress.owners.items() if epoch > held.get(partition, 0)}


class Owner:
    """The partitions of this process, and the epochs that its consumers write under."""

    def __init__(self, control: Control, log: Log, instance: str = INSTANCE) -> None:
        self._control = control
        self._log = log
        self._instance = instance
        self._epochs: dict[int, int] = {}
        self._taking = asyncio.Lock()

    async def hold(self, above: Mapping[int, int] | None = None) -> dict[int, int]:
        """Give the epoch of each partition that the log says is ours now, and take those that we have none for.

        `above`: the highest epochs that a consumer's sink knows, by partition. Where one is above ours, somebody took
        the partition since; while the log says that it is ours, it is taken back. Raises ControlError when the control
        database cannot keep it now (disk full): then no position can be moved, and everything else goes on.
        """
        known = above or {}
        async with self._taking:  # consumers of one process have one epoch, or they would fence each other
            owned = await self._log.owned()
            mine = {partition: epoch for partition, epoch in self._epochs.items() if partition in owned}
            late = [partition for partition in owned if mine.get(partition, 0) < max(1, known.get(partition, 0))]
            if late:
                taking = partial(take, partitions=late, instance=self._instance, now_ns=time.time_ns(), above=known)
                mine |= await self._control.write(taking)
                _log.info("owned instance=%s epochs=%s", self._instance, mine)
            self._epochs = mine
            return dict(mine)

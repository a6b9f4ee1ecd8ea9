"""Who owns a partition, and how far each consumer is in it: the fence that a late owner runs into.

One instance owns partition p of every topic: all of them when the log is embedded, by group membership when it is
Kafka. Whoever takes a partition takes its next epoch; every transaction that moves a position checks that epoch, so an
owner that was replaced and does not know it yet can no longer move anything. Epochs and positions are never forgotten.
"""

import logging
import secrets
import socket
import time
from collections.abc import Iterable
from functools import partial
from typing import Final

from sqlalchemy import Connection, insert, select, update

from aggregator.control import Control, ControlError
from aggregator.log import Log
from aggregator.tables import OWNERSHIP, POSITIONS
from schemas.errors import MusterError

_log = logging.getLogger("muster.ownership")
INSTANCE: Final = f"{socket.gethostname()[:200]}-{secrets.token_hex(4)}"
"""This process, for people who ask who owns a partition. Another one at every start."""


class FencedError(MusterError):
    """Another instance took the partition since; let go of it, what it was to keep was not kept."""

    code = "control.fenced"

    def __init__(self, partition: int, epoch: int, current: int | None, instance: str = "") -> None:
        now = "nobody ever took it" if current is None else f"{instance} has it under epoch {current}"
        super().__init__(f"partition {partition} is not owned under epoch {epoch}: {now}")
        self.partition = partition
        self.epoch = epoch
        self.current = current


def take(connection: Connection, partitions: Iterable[int], instance: str, now_ns: int) -> dict[int, int]:
    """Take partitions from whoever has them; give the epoch of each: 1 at first, one more than the last from then on.

    `now_ns`: nanoseconds since 1970, for people. Of two that take at once, each gets an epoch of its own.
    """
    epochs: dict[int, int] = {}
    for partition in sorted(set(partitions)):  # in order: two that take the same ones must not wait for each other
        mine = OWNERSHIP.c.partition == partition
        names = {"instance": instance, "taken_ns": now_ns}
        taken = update(OWNERSHIP).where(mine).values(epoch=OWNERSHIP.c.epoch + 1, **names)
        if not connection.execute(taken).rowcount:
            connection.execute(insert(OWNERSHIP).values(partition=partition, epoch=1, **names))
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


async def own(control: Control, log: Log) -> dict[int, int]:
    """Take what the log says is ours; give the epochs. {} when the control database cannot keep it now (disk full).

    Without an epoch no position can be moved, and everything else goes on.
    """
    partitions = await log.owned()
    try:
        epochs = await control.write(partial(take, partitions=partitions, instance=INSTANCE, now_ns=time.time_ns()))
    except ControlError as error:
        _log.error("not_owned partitions=%s error=%s", sorted(partitions), error)
        return {}
    _log.info("owned instance=%s epochs=%s", INSTANCE, epochs)
    return epochs

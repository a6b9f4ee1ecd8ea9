"""The embedded log in the guest: opened in two ways for the appender, and read out.

`python3.11 -m tests.vm.guest.logs PATH` prints a line a partition that holds something: topic, partition, begin, end,
and how many records are not what the appender puts at their offset.
"""

import asyncio
import sys
from pathlib import Path

from aggregator.log_sqlite import SqliteLog
from tests.contract.log_appender import value_of


def durable(path: str) -> SqliteLog:
    """Open the log as Muster does."""
    return SqliteLog(Path(path), min_free_bytes=0)


def careless(path: str) -> SqliteLog:
    """Open the log without its promise: nothing waits for the disk."""
    return SqliteLog(Path(path), min_free_bytes=0, synchronous="OFF")


async def _read_out(path: str) -> None:
    log = durable(path)
    for standing in log.standings():
        offset, wrong = standing.begin, 0
        while records := await log.read(standing.topic, standing.partition, offset, 1 << 20):
            wrong += sum(record.value != value_of(record.offset) for record in records)
            offset = records[-1].offset + 1
        if standing.records:
            sys.stdout.write(f"{standing.topic} {standing.partition} {standing.begin} {offset} {wrong}\n")
    await log.close()


if __name__ == "__main__":
    asyncio.run(_read_out(sys.argv[1]))

"""A process that appends and says what was acknowledged, until it is killed. Started by the conformance suite.

    python -m tests.contract.log_appender MODULE:CALLABLE ARGUMENT

`CALLABLE(ARGUMENT)` gives the open log. One line a call: `topic partition first end`, written after the append
returned. Record `offset` of a partition holds the number `offset`, and some padding.
"""

import asyncio
import sys
from importlib import import_module

from aggregator.log import TOPICS, Entry, Log

CALLERS = 8


def value_of(offset: int) -> bytes:
    """Give what the appender puts at an offset: at times long enough to need overflow pages."""
    return str(offset).encode() + b" " * (offset % 7 * 1500)


async def _caller(log: Log, number: int) -> None:
    """Append to a partition that is this caller's alone, so that it knows its offsets beforehand."""
    topic, partition = TOPICS[number % len(TOPICS)], number % log.partitions
    offset = await log.end(topic, partition)
    while True:
        values = [value_of(offset + index) for index in range(1 + offset % 3)]
        offsets = await log.append([Entry(topic, partition, value) for value in values])
        assert offsets == list(range(offset, offset + len(values)))
        sys.stdout.write(f"{topic} {partition} {offset} {offset + len(values)}\n")
        sys.stdout.flush()
        offset += len(values)


async def _main(spec: str, argument: str) -> None:
    module, _, name = spec.partition(":")
    log: Log = getattr(import_module(module), name)(argument)
    await asyncio.gather(*(_caller(log, number) for number in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

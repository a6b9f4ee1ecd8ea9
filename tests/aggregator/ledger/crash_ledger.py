"""Decides, keeps and thins snapshots, and joins rows as fast as it can, and tells every sequence once it is durable.

python -m tests.aggregator.ledger.crash_ledger PATH SECONDS

After so many seconds it ends itself, by SIGALRM: the point at which it was to die was never reached.
"""

import asyncio
import itertools
import signal
import sys
from pathlib import Path

from aggregator.ledger.entries import RatioSet
from aggregator.ledger.keeping import Keeping
from tests.aggregator.ledger.rig import opened, settle, write


async def main(path: Path) -> None:
    """Write until killed."""
    async with opened(path) as ledger:
        if not ledger.durable:
            await settle(ledger)
        keeping = Keeping(ledger, least=7, join=16, recent_ns=0)
        for number in itertools.count():
            await write(ledger, RatioSet("vcpus", 1.0 + number), RatioSet("disk_bytes", float(ledger.durable)))
            sys.stdout.write(f"{ledger.durable}\n")
            sys.stdout.flush()
            await keeping.tend()


if __name__ == "__main__":
    signal.alarm(int(sys.argv[2]))
    asyncio.run(main(Path(sys.argv[1])))

"""A process to be killed: writes from many tasks at once, and says a number only once told that it is kept."""

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

from aggregator.control_sqlite import SqliteControl
from tests.contract.control_conformance import put


async def main(path: Path, start: int) -> None:
    """Write until killed."""
    control = SqliteControl(path)
    control.open()
    numbers = count(start)

    async def write() -> None:
        while True:
            number = next(numbers)
            await control.write(put(str(number), number))
            os.write(1, f"{number}\n".encode())

    await asyncio.gather(*(write() for _ in range(16)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

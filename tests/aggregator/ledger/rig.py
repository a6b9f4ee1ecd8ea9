"""A ledger on disk with a small fleet in it."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger.entries import Entry
from aggregator.ledger.ledger import Ledger
from aggregator.migrate import LEDGER
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document


@contextlib.asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Ledger]:
    """Open the ledger in a file, and close it."""
    database = SqliteControl(path, schema=LEDGER)
    database.open()
    ledger = Ledger(database, "here", **options)
    try:
        await ledger.open()
        yield ledger
        await ledger.close()
    finally:
        await database.close()


async def write(ledger: Ledger, *entries: Entry) -> None:
    """Write entries as one decision."""
    await ledger.decide(lambda _: (list(entries), None))


async def settle(ledger: Ledger, nodes: int = 2, change: Callable[[Book], object] | None = None) -> list[str]:
    """Let nodes with three GPUs each be seen; give the devices' ids."""
    book = Book()
    for number in range(nodes):
        begin(book, f"n{number}")
        for slot in range(1, 4):
            book.see(
                document(DeviceKind.GPU, f"0000:0{slot}:00.0", serial=f"n{number}-{slot}", group=slot), f"n{number}"
            )
    if change is not None:
        change(book)
    await write(ledger, *[written.entry for written in book.written])
    return list(ledger.peek().devices)

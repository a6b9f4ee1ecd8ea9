"""The control database: all that must be decided once. The interface; `aggregator.control_sqlite` is the embedded one.

A transaction is a plain function of a SQLAlchemy connection. It may run more than once, so it changes nothing but the
database. On SQLite one writer thread a file merges the transactions that wait into one commit, a savepoint each; on
PostgreSQL the driver runs it. Nobody hears of a result before it is on disk.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Control(Protocol):
    """What everything that decides needs."""

    async def write(self, transaction: Callable[[Connection], T]) -> T:
        """Run `transaction` and commit it; return its result once it is on disk. What it raises undoes it alone."""

    async def read(self, question: Callable[[Connection], T]) -> T:
        """Run a function that only reads, on a snapshot, beside the writer."""

    async def close(self) -> None:
        """Finish what was begun and let go. Safe twice."""

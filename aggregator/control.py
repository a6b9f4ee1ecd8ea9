"""The control database: all that must be decided once. The interface; `aggregator.control_sqlite` is the embedded one.

A transaction is a plain function of a SQLAlchemy connection. It may run more than once, so it changes nothing but the
database. On SQLite one writer thread a file merges the transactions that wait into one commit, a savepoint each; on
PostgreSQL the driver runs it. Nobody hears of a result before it is on disk.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from schemas.errors import MusterError

T = TypeVar("T")


class ControlError(MusterError):
    """The control database cannot do it now (I/O error, locked, closed). Nothing was kept; try again later."""

    code = "control.failed"


class ControlFullError(ControlError):
    """There is no room on the disk. Nothing of the transaction was kept; free some, then try again."""

    code = "control.full"


class ControlOpenError(ControlError):
    """The control database cannot be used at all: damaged, not one, or made by a newer program. Says what to do."""

    code = "control.open"


class Control(Protocol):
    """What everything that decides needs."""

    async def write(self, transaction: Callable[[Connection], T]) -> T:
        """Run `transaction` and commit it; return its result once it is on disk. What it raises undoes it alone.

        Raises ControlError, or what the transaction raises; then nothing of it is kept. A caller that is cancelled
        while it waits does not know: the transaction may be kept.
        """

    async def read(self, question: Callable[[Connection], T]) -> T:
        """Run a function that only reads, on a snapshot, beside the writer. It sees every write told before.

        Raises ControlError, or what the function raises.
        """

    async def close(self) -> None:
        """Finish what was begun and let go. Safe twice."""

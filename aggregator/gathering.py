"""What one transaction of the store gathers, and when there is enough of it.

An insert into one table costs DuckDB 1 to 2 ms of CPU however few rows it has, as much as it takes for a few hundred
more. So a transaction is due with 4,000 rows over all streams, but not before there are 1,000 for each table that it
writes to: for batches of ten measurements that halves what inserting costs. Nothing waits longer for it than half a
second, which is what a row waits for at most when few come; and a transaction that holds an event, or rows that
somebody's grant let pass, does not wait for more than the 4,000.
"""

from typing import Final

import msgspec

from aggregator.log import Record
from aggregator.store import Rows, Stream
from schemas.batch import Envelope
from schemas.intervals import Interval
from schemas.verbosity import RowClass

COMMIT_ROWS: Final = 4_000
TABLE_ROWS: Final = 1_000
BEHIND_ROWS: Final = 16_000
"""So many when one round through the partitions finds more: a larger transaction costs less a row, but more memory."""


class Taken(msgspec.Struct, frozen=True):
    """One batch that is to be stored, and where it came from."""

    rows: Rows
    stream: Stream
    missing: list[Interval]
    """Of the batch's numbers those that `rows` has: the others were there before."""
    record: Record
    envelope: Envelope

    @property
    def fresh(self) -> int:
        """How many rows of the batch are to be stored."""
        return sum(end - first for first, end in self.missing)


class Gathered:
    """The batches of a transaction that is not committed yet."""

    def __init__(self) -> None:
        self.batches: list[Taken] = []
        self._rows = 0
        self._tables: set[str] = set()
        self._urgent = False

    def add(self, batch: Taken) -> None:
        """Take one more."""
        self.batches.append(batch)
        self._rows += batch.fresh
        self._tables.update(block.measurement for block in batch.rows.blocks)
        self._urgent |= batch.envelope.row_class is RowClass.EVENT or bool(batch.envelope.grant)

    @property
    def enough(self) -> bool:
        """Whether to commit once every partition was looked at."""
        return self._rows >= COMMIT_ROWS and (self._urgent or self._rows >= TABLE_ROWS * len(self._tables) or self.full)

    @property
    def full(self) -> bool:
        """Whether to commit before anything more is read."""
        return self._rows >= BEHIND_ROWS

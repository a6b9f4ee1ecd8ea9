"""Rows of one simulated node that wait for their flush: what the intake is for an agent, without its thread.

A node's parcels come stamped, in order, from one source that cannot be read again; so neither clock nor positions are
looked at here.
"""

from collectors.gathering import bodies_of, merge_block
from collectors.intake import FLUSH_SECONDS, WATCHED_SECONDS
from collectors.piles import FLUSH_ROWS
from collectors.spool import Counts, Key, NewBatch
from collectors.verbosity import LevelPolicy
from schemas.batch import Block
from schemas.rows import Parcel
from schemas.verbosity import RowClass

_Name = tuple[str, str, Key, str]


class _Pile:
    """Rows of one stream that one grant admits, or the configuration."""

    __slots__ = ("blocks", "rows", "since")

    def __init__(self, now: float) -> None:
        self.blocks: dict[tuple[str, str], list[Block]] = {}
        self.rows = 0
        self.since = now


class Piles:
    """Gathers the rows of one node until they are enough for a batch."""

    __slots__ = ("_counts", "_piles", "_policy", "_source", "rows")

    def __init__(self, policy: LevelPolicy, source: str) -> None:
        self._policy = policy
        self._source = source
        self._piles: dict[tuple[Key, str], _Pile] = {}
        self._counts: dict[Key, Counts] = {}
        self.rows = 0
        """How many wait."""

    def add(self, parcel: Parcel, now: float) -> None:
        """Take a parcel, or count it as filtered."""
        key = (parcel.row_class, parcel.level)
        rows = len(parcel.block.rows)
        grant = self._policy.admit(self._source, *key)
        if grant is None:
            self._counts.setdefault(key, Counts()).filtered += rows
            return
        pile = self._piles.get((key, grant))
        if pile is None:
            pile = self._piles[key, grant] = _Pile(now)
        blocks = pile.blocks.setdefault((parcel.block.measurement, parcel.block.subject), [])
        if not blocks or not merge_block(blocks[-1], parcel.block):
            blocks.append(parcel.block)
        pile.rows += rows
        self.rows += rows

    def take(self, now: float, horizon: float, begun: "set[Key] | None") -> tuple[list[NewBatch], dict[Key, Counts]]:
        """Give the batches that are due now or before `horizon` seconds from now, when it is looked again.

        `begun` are the streams that had a batch before: a first one goes at once. None: everything is due.
        """
        limit = (WATCHED_SECONDS if self._policy.watched else FLUSH_SECONDS) - horizon
        batches: list[NewBatch] = []
        for (key, grant), pile in list(self._piles.items()):
            waits = (
                begun is not None
                and key in begun
                and key[0] is not RowClass.EVENT
                and pile.rows < FLUSH_ROWS
                and now - pile.since < limit
            )
            if waits:
                continue
            del self._piles[key, grant]
            self.rows -= pile.rows
            blocks = [block for same in pile.blocks.values() for block in same]
            batches += [NewBatch(*key, rows, body, grant) for rows, body, _ in bodies_of(blocks) if body is not None]
        counts, self._counts = self._counts, {}
        return batches, counts

"""What the intake has gathered and not committed yet, and when each part of it is due.

A commit costs the same whether one stream or five are in it, so streams go together where they can: what is nearly due
goes along with what is due, and a busy stream does not have a commit for each of its deliveries.
"""

import math
from collections.abc import Callable
from typing import Final

import msgspec

from collectors.gathering import merge_block
from collectors.spooled import Counts, Key
from schemas.batch import Block
from schemas.verbosity import RowClass

FLUSH_ROWS: Final = 80
"""So many rows of a stream are due; telemetry unless there was a commit less than PACE_SECONDS ago."""
FULL_ROWS: Final = 400
"""So many rows of telemetry wait for nothing."""
PACE_SECONDS: Final = 1.0
"""The time from commit to commit of telemetry that always has enough rows."""
Positions = dict[tuple[str, str], str]
"""By collector and source."""


_Tables = dict[tuple[str, str, tuple[str, ...]], list[Block]]
"""By measurement, subject and attributes."""


class Flush(msgspec.Struct):
    """What is committed to the spool together."""

    piles: list[tuple[Key, str, list[Block]]] = []
    """Stream, grant, and the blocks, each table's together."""
    counts: dict[Key, Counts] = {}
    positions: Positions = {}
    documents: list[tuple[str, Block]] = []
    """Each with its device."""
    rows: int = 0
    """Of the piles."""
    asked: list[Callable[[], None]] = []
    """To be called once it is committed."""


class _Pile:
    """Rows of one stream under one grant that wait for their flush."""

    __slots__ = ("apart", "blocks", "rows", "since")

    def __init__(self, now: float) -> None:
        self.blocks: _Tables = {}
        self.apart: dict[tuple[str, str], _Tables] = {}
        """What travels in batches of its own, by for whom it speaks and by measurement; "" where all may share."""
        self.rows = 0
        self.since = now

    def groups(self) -> list[list[Block]]:
        """Give the blocks, each table's together, by what may travel in one batch."""
        tables = [one for one in (self.blocks, *self.apart.values()) if one]
        return [[block for blocks in one.values() for block in blocks] for one in tables]


class _Ticket(msgspec.Struct):
    """Deliveries with positions of the same sources: their streams are flushed together, or not at all."""

    keys: set[Key]
    positions: Positions
    since: float


class Piles:
    """Gathers rows by stream and grant. Not safe for several threads at once."""

    def __init__(self, is_new: Callable[[Key], bool]) -> None:
        """`is_new`: whether a stream has had no batch yet: its first one is due at once."""
        self._is_new = is_new
        self._piles: dict[tuple[Key, str], _Pile] = {}
        self._tickets: list[_Ticket] = []
        self._last_flush = -math.inf

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._piles or self._tickets)

    def add(self, key: Key, grant: str, block: Block, now: float, *, apart: bool = False, whose: str = "") -> None:
        """Put a block on its pile.

        `apart`: no other measurement shares its batches. `whose`: for whom it speaks, "" for the publisher itself: a
        batch is refused as a whole, so what needs another right travels in others.
        """
        pile = self._piles.get((key, grant))
        if pile is None:
            pile = self._piles[key, grant] = _Pile(now)
        rows = len(block.rows)
        group = (whose, block.measurement if apart else "")
        tables = pile.apart.setdefault(group, {}) if any(group) else pile.blocks
        blocks = tables.setdefault((block.measurement, block.subject, tuple(block.attributes)), [])
        if not blocks or not merge_block(blocks[-1], block):
            blocks.append(block)
        pile.rows += rows

    def tie(self, keys: set[Key], positions: Positions, now: float) -> None:
        """Have these streams flushed together with these positions, and with all that the same sources yielded before.

        Otherwise a later position could be committed while rows from before it are still in memory.
        """
        apart, since = [], now
        for ticket in self._tickets:
            if ticket.positions.keys().isdisjoint(positions):
                apart.append(ticket)
                continue
            keys = keys | ticket.keys
            positions = ticket.positions | positions
            since = min(since, ticket.since)
        self._tickets = [*apart, _Ticket(keys, positions, since)]

    def due_at(self, limit: float) -> float:
        """Give when something is due, by the clock that `add` is told; infinity for never. No pile waits longer."""
        due = [self._pile_due(key, pile, limit) for (key, _), pile in self._piles.items()]
        due += [ticket.since + limit for ticket in self._tickets if not ticket.keys]
        return min(due, default=math.inf)

    def _pile_due(self, key: Key, pile: _Pile, limit: float) -> float:
        paced = key[0] is RowClass.TELEMETRY  # log records may be large, and somebody may wait for one
        if key[0] is RowClass.EVENT or pile.rows >= (FULL_ROWS if paced else FLUSH_ROWS) or self._is_new(key):
            return pile.since
        by_age = pile.since + limit
        return by_age if pile.rows < FLUSH_ROWS else min(by_age, max(pile.since, self._last_flush + PACE_SECONDS))

    def take(self, now: float, limit: float, *, everything: bool) -> Flush:
        """Take out what goes into a commit that is made now: what is due or nearly so, and all that is tied to it."""
        keys = {
            key
            for (key, _), pile in self._piles.items()
            if everything
            or pile.rows >= FLUSH_ROWS // 2
            or now - pile.since >= limit / 2
            or self._pile_due(key, pile, limit) <= now
        }
        if everything:
            keys = keys.union(*(ticket.keys for ticket in self._tickets))
        grown = True
        while grown:
            grown = False
            for ticket in self._tickets:
                if ticket.keys & keys and not ticket.keys <= keys:
                    keys |= ticket.keys
                    grown = True
        flush = Flush()
        waiting: list[_Ticket] = []
        for ticket in self._tickets:
            if ticket.keys <= keys:
                flush.positions.update(ticket.positions)
            else:
                waiting.append(ticket)
        self._tickets = waiting
        for (key, grant), pile in [one for one in self._piles.items() if one[0][0] in keys]:
            del self._piles[key, grant]
            flush.piles += [(key, grant, blocks) for blocks in pile.groups()]
            flush.rows += pile.rows
        self._last_flush = now
        return flush

"""A publisher's account of its own rows: the half of the balance that only the sender can know.

For every stream: produced = filtered + folded + numbered. Of the numbered rows the publisher says which it still
has (`spooled`) and which it gave up, and why (`dropped`). What is neither must have arrived: the aggregator checks.
"""

import msgspec

from schemas.intervals import Interval
from schemas.verbosity import Level, RowClass


class Dropped(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Rows that the publisher gave up after numbering them."""

    reason: str
    """`spool_full`, `expired`, `superseded`, `corrupt` or `refused`."""
    intervals: list[Interval]
    """Their row numbers, half open."""


class StreamAccount(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The account of one stream: one class and level of one epoch."""

    row_class: RowClass
    level: Level
    produced: int
    """Rows that collectors yielded."""
    filtered: int
    """Of those, left out because the level in force was lower."""
    folded: int
    """Of those, merged into another row (copies of a storm)."""
    numbered: int
    """Of those, committed to the spool: their numbers are 0 to `numbered` - 1."""
    spooled: list[Interval]
    """Of the numbered, still in the spool."""
    dropped: list[Dropped]
    """Of the numbered, given up."""


class EpochAccount(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The account of one run of a publisher."""

    epoch: str
    boot: str
    """The boot id of the machine during that run."""
    streams: list[StreamAccount]


class Account(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A publisher's word: everything that it knows of its rows, as of sending."""

    word: int
    """Grows with every word of one epoch, so that the latest can be told from a repeated one."""
    epochs: list[EpochAccount]
    """The live epoch first, then those before it that still have rows in the spool or words not acknowledged."""

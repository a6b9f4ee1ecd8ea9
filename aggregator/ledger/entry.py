"""The form of what can be written into the ledger.

Entries travel and are kept as msgpack arrays that begin with their tag. A tag is never given a second meaning; new
fields come last, with a default. An entry says what changed and nothing that follows from what is there already, so
that a year of a fleet fits into a gigabyte, and it carries everything that time or chance decided, so that replaying it
gives the same state.
"""

import msgspec


class LedgerEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The base of all entries."""

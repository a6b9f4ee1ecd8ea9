"""The form of what can be written into the ledger.

Entries travel and are kept as msgpack arrays that begin with their tag. A tag is never given a second meaning; new
fields come last, with a default. An entry says what changed and nothing that follows from what is there already, so
that a year of a fleet fits into a gigabyte, and it carries everything that time or chance decided, so that replaying it
gives the same state.

A version that does not know a field refuses the entry, and what stands in it, as it refuses a tag that it does not
know: without that field it would reach another state. What documents and nodes say in forms of their own (`Slot`,
`Part`, `Made`) is read as it comes from newer agents; a field of theirs that the ledger goes by needs a new tag here,
or a step of its database, which older versions refuse.
"""

import msgspec


class LedgerEntry(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """The base of all entries."""

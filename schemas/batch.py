"""What travels: blocks of rows in batches, each under an envelope that can be read without opening the batch."""

from typing import Annotated, Final

import msgspec

from schemas.account import Account
from schemas.verbosity import Level, RowClass

WIRE_VERSION: Final = 1
"""The version that this program writes."""

UNDERSTOOD: Final = (1,)
"""The versions that this program reads; from version 2 on, the one before as well."""

MAX_ROWS: Final = 1 << 16
"""Rows of one batch."""
MAX_COLUMNS: Final = 512
"""Columns of one block."""
MAX_ATTRIBUTES: Final = 16
"""Attributes of one block."""

# The lengths are checked before a list is made, so that a few bytes cannot ask for much memory.
_PerRow = msgspec.Meta(max_length=MAX_ROWS)
_PerColumn = msgspec.Meta(max_length=MAX_COLUMNS)

FloatColumn = Annotated[list[float | None], _PerRow]
IntColumn = Annotated[list[int | None], _PerRow]
BoolColumn = Annotated[list[bool | None], _PerRow]
StrColumn = Annotated[list[str | None], _PerRow]
Key = Annotated[list[str], msgspec.Meta(min_length=1, max_length=1 + MAX_ATTRIBUTES)]
"""`[device, value of each attribute ...]`."""


class Block(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A small table: one measurement, one subject; rows are (key, time), columns are fields.

    A None in a column means that the value was not reported. It is never 0.
    """

    measurement: str
    """The table's name."""
    subject: str
    """What the rows speak about: the publisher itself, or what it polls, relays or simulates."""
    attributes: Annotated[list[str], msgspec.Meta(max_length=MAX_ATTRIBUTES)]
    """The names of what tells rows of one device apart."""
    keys: Annotated[list[Key], _PerRow]
    """Each `[device, value of each attribute ...]`; the device is "" for the subject itself."""
    rows: Annotated[list[int], _PerRow]
    """For each row the index of its key."""
    start: int
    """The time of the first row: nanoseconds since 1970, UTC."""
    steps: Annotated[list[int], _PerRow]
    """For each row the nanoseconds since the row before; 0 for the first row, at least 1 for every other."""
    floats: Annotated[dict[str, FloatColumn], _PerColumn] = {}
    ints: Annotated[dict[str, IntColumn], _PerColumn] = {}
    """Whole numbers, -2**63 to 2**64 - 1."""
    bools: Annotated[dict[str, BoolColumn], _PerColumn] = {}
    strings: Annotated[dict[str, StrColumn], _PerColumn] = {}

    @property
    def end(self) -> int:
        """The time of the last row: nanoseconds since 1970, UTC."""
        return self.start + sum(self.steps)


class Envelope(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What is known of a batch without opening it. Small, uncompressed, and enough to count it."""

    publisher: str
    """Who sends: the id of the node, or of a gateway that speaks for others."""
    epoch: str
    """The run of the publisher under which the rows were numbered."""
    row_class: RowClass
    level: Level
    first: int
    """The number of the first row in its stream."""
    rows: int
    """How many rows; 0 for a heartbeat."""
    order: int
    """The number of the batch over all streams of the epoch, in the order in which they were committed."""
    age_ns: int = 0
    """How old the oldest row was when the batch was sent, by the publisher's monotonic clock."""
    grant: str = ""
    """The verbosity grant that alone admitted these rows; "" when the configuration did."""
    account: Account | None = None
    """The publisher's word as of sending, when there is something new to say."""
    documents: str = ""
    """On heartbeats: the hash of the publisher's set of capability documents."""

    @property
    def end(self) -> int:
        """One more than the number of the last row."""
        return self.first + self.rows


class Batch(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """An envelope and its body: blocks, encoded and compressed; empty for a heartbeat."""

    wire: int
    envelope: Envelope
    body: bytes


def family(subject: str) -> str:
    """Give what subjects that need one right have in common: `bmc:` of `bmc:rack7-u12`; of any other, itself."""
    kind, colon, _ = subject.partition(":")
    return kind + colon if colon else subject

"""What travels: blocks of rows in batches, each under an envelope that can be read without opening the batch."""

from typing import Final

import msgspec

from schemas.account import Account
from schemas.verbosity import Level, RowClass

WIRE_VERSION: Final = 1
"""The version that this program writes."""

UNDERSTOOD: Final = (1,)
"""The versions that this program reads; from version 2 on, the one before as well."""

FloatColumn = list[float | None]
IntColumn = list[int | None]
BoolColumn = list[bool | None]
StrColumn = list[str | None]


class Block(msgspec.Struct, array_like=True):
    """A small table: one measurement, one subject; rows are (key, time), columns are fields.

    A None in a column means that the value was not reported. It is never 0.
    """

    measurement: str
    """The table's name."""
    subject: str
    """What the rows speak about: the publisher itself, or what it polls, relays or simulates."""
    attributes: list[str]
    """The names of what tells rows of one device apart."""
    keys: list[list[str]]
    """Each `[device, value of each attribute ...]`; the device is "" for the subject itself."""
    rows: list[int]
    """For each row the index of its key."""
    start: int
    """The time of the first row: nanoseconds since 1970, UTC."""
    steps: list[int]
    """For each row the nanoseconds since the row before; 0 for the first row, at least 1 for every other."""
    floats: dict[str, FloatColumn] = {}
    ints: dict[str, IntColumn] = {}
    """Whole numbers, -2**63 to 2**64 - 1."""
    bools: dict[str, BoolColumn] = {}
    strings: dict[str, StrColumn] = {}

    @property
    def end(self) -> int:
        """The time of the last row: nanoseconds since 1970, UTC."""
        return self.start + sum(self.steps)


class Envelope(msgspec.Struct, array_like=True, frozen=True):
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


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """An envelope and its body: blocks, encoded and compressed; empty for a heartbeat."""

    wire: int
    envelope: Envelope
    body: bytes

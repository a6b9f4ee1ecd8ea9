"""What a consumer of the log is handed beside the log and its sink, and what it says of itself."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from aggregator.progress import Tracker
from schemas.batch import Envelope
from schemas.rows import Event

Quarantine = Callable[[Envelope, bytes, str, str], Awaitable[None]]
"""Keeps a batch aside: envelope, its bytes, the stage (the consumer's name) and the reason; durable when it returns."""
Announce = Callable[[list[Event]], Awaitable[None]]
"""Tells events of the aggregator's own."""


Settle = Callable[[Tracker], Awaitable[None]]
"""Settles the runs that are over (`aggregator.settling`), in a tracker that has nothing to commit."""


Own = Callable[[Mapping[int, int]], Awaitable[Mapping[int, int]]]
"""Gives the epoch of each partition that is ours, not below those given: `aggregator.ownership.Owner.hold`."""


async def tell_nobody(_: list[Event]) -> None:
    """Announce nothing."""


async def own_nothing(_: Mapping[int, int]) -> Mapping[int, int]:
    """Write under no epoch: whoever has one comes first."""
    return {}


async def settle_nothing(_: Tracker) -> None:
    """Keep every run by its numbers."""


class ConsumerStatus(msgspec.Struct):
    """What the consumer can say of itself."""

    records: int = 0
    """This and the counts of rows are of what is committed: what is read again after a failure counts once."""
    rows_done: int = 0
    rows_filtered: int = 0
    rows_quarantined: int = 0
    rows_repeated: int = 0
    """Rows that came again and were known: not an error, but what at-least-once delivery costs."""
    commits: int = 0
    failures: int = 0
    last_error: str = ""
    """Empty while the store takes rows."""
    last_commit_ns: int = 0
    lateness_seconds: float = 0.0
    """Of the newest record read: age at sending plus time in the log."""


class Counts(msgspec.Struct):
    """What was read since the last commit, not yet in the status."""

    records: int = 0
    rows_filtered: int = 0
    rows_quarantined: int = 0
    rows_repeated: int = 0

"""Which snapshots are let go: of the old ones as many as no answer needs.

All of the last day are kept; of the four weeks before that the first of each day, of all before that the first of each
week. But what lies between two that are kept is never more entries than an answer may replay, so a busy fleet keeps
more; and one against which another was compressed stays as long as that one.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

DAY_NS: Final = 86_400 * 10**9
WEEK_NS: Final = 7 * DAY_NS
DAILY_NS: Final = 29 * DAY_NS
"""Of what is younger, the first of each day is kept."""
_NEWEST: Final = 2
"""So many stay in any case: were the newest damaged, a restart would go on from the one before."""


class Listed(msgspec.Struct, frozen=True):
    """A complete snapshot."""

    sequence: int
    time_ns: int
    """Of the last entry in it."""
    base: int
    """Sequence of the snapshot against which it was compressed; 0: none."""


def spare(listed: Sequence[Listed], now_ns: int, *, most: int, recent_ns: int = DAY_NS) -> list[int]:
    """Give the sequences of those that may go; `listed` is ordered by sequence.

    `most`: entries from one that stays to the next, where a snapshot in between could go. `recent_ns`: all younger ones
    stay.
    """
    bases = {one.base for one in listed}
    gone: list[int] = []
    last, period = 0, None
    for one, following in pairwise(listed):
        age_ns = now_ns - one.time_ns
        own = (age_ns < DAILY_NS, one.time_ns // (DAY_NS if age_ns < DAILY_NS else WEEK_NS))
        needed = age_ns < recent_ns or one.sequence in bases or one.sequence >= listed[-_NEWEST].sequence
        if needed or own != period or following.sequence - last > most:
            last, period = one.sequence, own
        else:
            gone.append(one.sequence)
    return gone

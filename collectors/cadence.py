"""When a collector runs: a fixed grid of time, spread over the fleet, and how long to wait after a failure."""

import math
from typing import Final

from schemas.digest import blake2b

_LATE_SHARE: Final = 0.25
"""A tick that could not run is made up for within this share of the interval, and skipped after it."""
_JITTER: Final = 0.25
"""A back-off is up to so much shorter or longer."""
_HURRY_SECONDS: Final = 1.0
"""The least time between two collections that events ask for."""
_HURRY_DESCRIBE_SECONDS: Final = (0.25, 5.0)
"""The least time between two descriptions that events ask for, where they are cheap, and where they are dear."""
_DESCRIBE_SHARE: Final = 0.05
"""The most of its time that a collector spends on descriptions that events ask for, within those bounds."""


def share(*words: str) -> float:
    """Give a number from 0 up to 1 that depends on the words alone, evenly spread."""
    digest = blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / (1 << 64)


def backoff(attempt: int, first: float, most: float, jitter: float) -> float:
    """Give the seconds to wait after the `attempt`-th failure in a row (1 is the first): doubling, bounded, jittered.

    `jitter` is a number from 0 to 1; 0.5 changes nothing.
    """
    plain = min(most, first * 2.0 ** min(attempt - 1, 30))
    return plain * (1.0 + _JITTER * (2.0 * jitter - 1.0))


class Cadence:
    """The ticks of one collector: `first + k * interval`, whatever the calls take. Times are monotonic seconds."""

    __slots__ = ("_first", "due", "interval")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._first: float | None = None
        self.due = math.inf
        """When the next tick is to run."""

    def begin(self, now: float, offset: float) -> None:
        """Lay the grid with its first tick `offset` seconds from now; run at once when it was laid before."""
        if self._first is None:
            self._first = self.due = now + offset
        else:
            self.due = now

    def end(self) -> None:
        """Have no ticks until the next `begin`; the grid stays where it is."""
        self.due = math.inf

    def missed(self, now: float) -> int:
        """Skip the ticks that it is too late for, and give how many they were."""
        if now - self.due <= self.interval * _LATE_SHARE:
            return 0
        whole = math.floor((now - self.due) / self.interval)
        latest = self.due + whole * self.interval
        if now - latest > self.interval * _LATE_SHARE:
            whole, latest = whole + 1, latest + self.interval
        self.due = latest
        return whole

    def ran(self, now: float) -> None:
        """Go on to the first tick of the grid after now and after the one that was due."""
        assert self._first is not None
        done = max(now, self.due)
        if math.isinf(done):
            done = now
        passed = math.floor((done - self._first) / self.interval + 1e-9)
        self.due = self._first + (passed + 1) * self.interval


class Agenda:
    """What a running collector is to do next, and when: ticks, descriptions, and what events ask for."""

    __slots__ = ("_collected_at", "_describe_at", "_describe_every", "_described_at", "_gap", "_hurry_at", "_ticks")

    def __init__(self, interval: float, describe_every: float) -> None:
        self._ticks = Cadence(interval)
        self._describe_every = describe_every
        self._describe_at = math.inf
        self._described_at = -math.inf
        self._gap = _HURRY_DESCRIBE_SECONDS[1]
        self._hurry_at = math.inf
        self._collected_at = -math.inf

    def begin(self, now: float, offset: float, *, describes: bool) -> None:
        """Start: the first tick ever comes `offset` seconds from now, a description at once."""
        self._ticks.begin(now, offset)
        if describes:
            self._describe_at = now

    def end(self) -> None:
        """Have nothing to do until the next `begin`."""
        self._ticks.end()
        self._describe_at = self._hurry_at = math.inf

    @property
    def due(self) -> float:
        """When there is something to do, monotonic seconds; infinity when there is nothing."""
        return min(self._ticks.due, self._describe_at, self._hurry_at)

    @property
    def next_tick(self) -> float:
        """When the next tick is due, monotonic seconds."""
        return self._ticks.due

    def missed(self, now: float) -> int:
        """Skip the ticks that it is too late for, and give how many they were."""
        return self._ticks.missed(now)

    def collect(self, now: float) -> float | None:
        """Give for when a collection was due, and count it as done; None when none is due."""
        due = min(self._ticks.due, self._hurry_at)
        if due > now:
            return None
        self._hurry_at = math.inf
        self._collected_at = now
        if self._ticks.due <= now:
            self._ticks.ran(now)
        return due

    def describe(self, now: float) -> bool:
        """Tell whether a description is due, and count it as done."""
        if self._describe_at > now:
            return False
        self._described_at = now
        self._describe_at = now + self._describe_every
        return True

    def took(self, seconds: float) -> None:
        """Take note of what a description costs: the dearer it is, the longer events wait for the next."""
        least, most = _HURRY_DESCRIBE_SECONDS
        self._gap = min(most, max(least, seconds / _DESCRIBE_SHARE))

    def described(self, now: float) -> bool:
        """Whether no description is due."""
        return self._describe_at > now

    def hurry(self, now: float, *, describes: bool) -> None:
        """Something happened to a device: read it again now, but not all the time."""
        self._hurry_at = min(self._hurry_at, max(now, self._collected_at + _HURRY_SECONDS))
        if describes:
            self._describe_at = min(self._describe_at, max(now, self._described_at + self._gap))

"""From counters to rates, by the newest two values of each: what a live view needs, at no cost to the store."""

from collections.abc import Hashable, Mapping

Counters = Mapping[str, float | None]
Rated = dict[str, float | None]


class Rates:
    """Keeps the last values of counters and gives their growth a second. For one thread."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[int, dict[str, float | None], Rated]] = {}
        self._seeds: dict[Hashable, Rated] = {}

    def seed(self, key: Hashable, rates: Rated) -> None:
        """Say what the rates were just now, for as long as only one value of the counters is known."""
        self._seeds[key] = rates

    def note(self, key: Hashable, time_ns: int, counters: Counters) -> Rated:
        """Take values of one series and give its rates by field; None where they cannot be told.

        A counter that went back was set to 0 at an unknown moment: its rate is None until it is seen twice again.
        """
        known = self._known.get(key)
        if known is not None and time_ns <= known[0]:
            return known[2]
        rates: Rated = dict(self._seeds.pop(key, {})) if known is None else {}
        if known is not None:
            seconds = (time_ns - known[0]) / 1e9
            rates = {field: _growth(known[1].get(field), value, seconds) for field, value in counters.items()}
        self._known[key] = (time_ns, dict(counters), rates)
        return rates


class Speed:
    """How fast a number grows, over the last seconds. For one thread."""

    def __init__(self, span_seconds: float = 15.0) -> None:
        self._span = span_seconds
        self._seen: list[tuple[float, float]] = []

    def note(self, now: float, value: float) -> float | None:
        """Take the value of now (monotonic seconds) and give the growth a second; None before there are two."""
        if self._seen and value < self._seen[-1][1]:
            self._seen = []
        self._seen.append((now, value))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._span:
            self._seen.pop(0)
        first, last = self._seen[0], self._seen[-1]
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else None


def _growth(before: float | None, now: float | None, seconds: float) -> float | None:
    if before is None or now is None or now < before:
        return None
    return (now - before) / seconds

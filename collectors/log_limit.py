"""A limit on how many records a second one host may send, so that one that is mad does not cost the others their room.

What is beyond is left out, and counted: as filtered in the balance, and by an event that says of whom and how many.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from collectors.log_row import Row
from schemas.events import EventSpec
from schemas.rows import Event, Severity

LIMITED: Final = EventSpec(
    "log.limited",
    "A host sent more records than `max_records_per_second` allows; those beyond were left out. Told at once, and then "
    "once a minute with how many it were since.",
    (Severity.WARNING,),
    ("source", "host", "records"),
)
_WINDOW: Final = 1.0
_AGAIN: Final = 60.0
_MOST: Final = 4096
"""Hosts that have a limit of their own; all others share one."""
_Sender = tuple[str, str | None]


class _Excess(msgspec.Struct):
    told_at: float
    """Monotonic seconds; negative before the first time."""
    records: int = 0
    """Left out and not told."""


class Limits:
    """Counts what each host sends. For one thread."""

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        """Let so many records of a host pass in each second of a monotonic clock."""
        self._limit = per_second
        self._clock = clock
        self._ends = clock() + _WINDOW
        self._counts: dict[_Sender, int] = {}
        self._excess: dict[_Sender, _Excess] = {}

    def sift(self, source: str, rows: list[Row]) -> list[Row]:
        """Give the rows that may go on; `rows` itself when all do."""
        now = self._clock()
        if now >= self._ends:
            self._ends = now + _WINDOW
            self._counts.clear()
        counts, limit = self._counts, self._limit
        kept: list[Row] | None = None
        for at, row in enumerate(rows):
            sender = (source, row[4])
            seen = counts.get(sender, 0)
            if not seen and len(counts) >= _MOST:
                sender = (source, None)
                seen = counts.get(sender, 0)
            if seen < limit:
                counts[sender] = seen + 1
                if kept is not None:
                    kept.append(row)
                continue
            if kept is None:
                kept = rows[:at]
            self._excess.setdefault(sender, _Excess(-1.0)).records += 1
        return rows if kept is None else kept

    def due(self, *, final: bool = False) -> list[Event]:
        """Give the events that are to be told now; in the end all that was not told."""
        if not self._excess:
            return []
        now, told = self._clock(), []
        for sender, excess in list(self._excess.items()):
            if not (final or excess.told_at < 0 or now - excess.told_at >= _AGAIN):
                continue
            if not excess.records:
                del self._excess[sender]
                continue
            told.append(self._event(sender, excess.records))
            excess.told_at, excess.records = now, 0
        return told

    def _event(self, sender: _Sender, records: int) -> Event:
        source, host = sender
        text = f"{host or 'a host that is not named'} sends more than {self._limit} records a second by {source}"
        return Event(
            LIMITED.type,
            f"{text}: {records} were left out",
            Severity.WARNING,
            detail={"source": source, "host": host, "records": records},
        )

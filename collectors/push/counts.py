"""What became of what was pushed: counts of each pusher, and the events that tell operators of what went wrong."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from collectors.push.refusal import RATE
from collectors.push.tables import Budget
from schemas.events import EventSpec
from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.rows import Event, FieldValue, Reading, Severity
from schemas.verbosity import Level

_FACTS: Final = ("pusher", "user", "reason", "lines", "example")
REFUSED: Final = EventSpec(
    "push.refused",
    "Lines of a pusher were not taken. Told at once, and then once an hour for each pusher and reason, with how many "
    "it were since.",
    (Severity.WARNING,),
    _FACTS,
)
LIMITED: Final = EventSpec(
    "push.limited",
    "A pusher sent more rows than `max_rows_per_second`, or more events than `max_events_per_second` allows; those "
    "beyond were left out. Told at once, and then once a minute with how many it were since.",
    (Severity.WARNING,),
    ("pusher", "user", "rows"),
)
EVENTS: Final = (REFUSED, LIMITED)
_REFUSED_AGAIN: Final = 3600.0
_LIMITED_AGAIN: Final = 60.0
_MOST: Final = 256
"""Pushers that are remembered; beyond, who was silent longest is forgotten, and counted anew when it comes again."""


def _metric(name: str, meaning: str, category: Category, **more: object) -> MetricSpec:
    fields: dict[str, object] = {
        "unit": Unit.COUNT,
        "kind": Kind.COUNTER,
        "type": ValueType.INT,
        "level": Level.STANDARD,
        "attributes": ("pusher", "user"),
    }
    return MetricSpec(name=name, meaning=meaning, category=category, source="Muster", **(fields | more))  # type: ignore[arg-type]


METRICS: Final = (
    _metric("push.rows_total", "Rows of metrics taken.", Category.USAGE),
    _metric("push.events_total", "Events taken.", Category.USAGE),
    _metric("push.received_bytes_total", "Bytes received.", Category.USAGE, unit=Unit.BYTES),
    _metric("push.refused_total", "Lines not taken, by `push_refused` for which reason.", Category.ERROR),
    _metric(
        "push.limited_total",
        "Rows and events left out because there were too many in a second; in the balance they are `filtered`.",
        Category.ERROR,
        level=Level.ESSENTIAL,
    ),
    _metric("push.connections", "Connections open now.", Category.LOAD, kind=Kind.GAUGE),
    _metric("push.series", "Series used within about an hour.", Category.LOAD, kind=Kind.GAUGE),
    _metric("push.devices", "Devices described now.", Category.USAGE, kind=Kind.GAUGE),
    _metric(
        "push_refused.lines_total",
        "Lines of a pusher that were not taken, by reason: `syntax`, `value`, `name`, `type`, `length`, `cardinality`.",
        Category.ERROR,
        attributes=("pusher", "user", "reason"),
    ),
)
"""Attributes: `pusher` is what its rows are filed under, `user` whose process it is."""


class _Bad:
    """Lines that were not taken for one reason."""

    __slots__ = ("example", "lines", "told_at", "untold")

    def __init__(self) -> None:
        self.lines = 0
        self.untold = 0
        self.told_at = float("-inf")
        self.example = ""


class Pusher:
    """One who pushes, over all its connections. Written by the thread that reads; any thread may tell the counts."""

    def __init__(self, name: str, user: str, budget: Budget) -> None:
        self.name = name
        self.user = user
        self.budget = budget
        self.rows = 0
        self.events = 0
        self.bytes = 0
        self.limited = 0
        self.connections = 0
        self._bad: dict[str, _Bad] = {}

    def refused(self, reason: str, example: str) -> None:
        """Count a line that was not taken."""
        bad = self._bad.setdefault(reason, _Bad())
        bad.lines += 1
        bad.untold += 1
        bad.example = bad.example or example

    def limit(self) -> None:
        """Count a row, or an event, that was one too many."""
        self.limited += 1
        bad = self._bad.setdefault(RATE, _Bad())
        bad.untold += 1

    def due(self, now: float, *, final: bool = False) -> Iterator[Event]:
        """Give the events that are to be told now; in the end all that was not told. `now`: monotonic seconds."""
        for reason, bad in self._bad.items():
            again = _LIMITED_AGAIN if reason == RATE else _REFUSED_AGAIN
            if bad.untold and (final or now - bad.told_at >= again):
                yield self._event(reason, bad)
                bad.untold, bad.told_at, bad.example = 0, now, ""

    def _event(self, reason: str, bad: _Bad) -> Event:
        facts: dict[str, FieldValue] = {"pusher": self.name, "user": self.user}
        if reason == RATE:
            text = f"{self.name} pushes more rows or events than it may: {bad.untold} were left out"
            return Event(LIMITED.type, text, Severity.WARNING, self.name, {**facts, "rows": bad.untold})
        text = f"{bad.untold} lines that {self.name} pushed were not taken ({reason}): {bad.example}"
        facts |= {"reason": reason, "lines": bad.untold, "example": bad.example}
        return Event(REFUSED.type, text, Severity.WARNING, self.name, facts)

    def readings(self, devices: int) -> Iterator[Reading]:
        """Give the counts."""
        who = {"pusher": self.name, "user": self.user}
        bad = {reason: one.lines for reason, one in list(self._bad.items()) if reason != RATE}
        counts = {
            "rows_total": self.rows,
            "events_total": self.events,
            "received_bytes_total": self.bytes,
            "refused_total": sum(bad.values()),
            "limited_total": self.limited,
            "connections": self.connections,
            "series": len(self.budget.series),
            "devices": devices,
        }
        yield Reading("push", counts, attributes=who)
        for reason, lines in bad.items():
            yield Reading("push_refused", {"lines_total": lines}, attributes={**who, "reason": reason})


class Pushers:
    """All who push."""

    def __init__(self, budget: Callable[[], Budget]) -> None:
        self._budget = budget
        self._all: OrderedDict[tuple[str, str], Pusher] = OrderedDict()

    def of(self, name: str, user: str) -> Pusher:
        """Give one of them, known or new."""
        pusher = self._all.get((name, user))
        if pusher is None:
            silent = next((one for one in self._all.values() if not one.connections), None)
            if len(self._all) >= _MOST and silent is not None:
                del self._all[silent.name, silent.user]
            pusher = self._all[name, user] = Pusher(name, user, self._budget())
        self._all.move_to_end((name, user))
        return pusher

    def due(self, now: float, *, final: bool = False) -> list[Event]:
        """Give the events of all of them that are to be told now."""
        return [event for one in self._all.values() for event in one.due(now, final=final)]

    def readings(self, devices: Callable[[str], int]) -> Iterator[Reading]:
        """Give the counts of all of them."""
        for one in list(self._all.values()):
            yield from one.readings(devices(one.name))

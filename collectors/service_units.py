"""What is known of each watched unit of systemd, and what each change of it means."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from collectors._names import NameFilter
from schemas.events import EventSpec
from schemas.rows import Event, FieldValue, Reading, Severity

_REMEMBERED: Final = 4096
"""Names of units that were seen, so that one that was unloaded and comes back is not told as new."""
_RESTARTS_AGAIN: Final = 60.0
"""Seconds after which a unit that goes on being restarted is told of again."""
RUNNING: Final = frozenset({"active", "reloading", "refreshing"})
WAITING: Final = "auto-restart"
"""What systemd calls a sub-state: it failed or ended, and systemd will start it again by itself."""

_UNIT: Final = ("unit", "active_state")
EVENTS: Final = (
    EventSpec("systemd.unit.up", "A unit that was down is up.", (Severity.NOTICE,), _UNIT),
    EventSpec("systemd.unit.down", "A unit is down.", (Severity.WARNING,), _UNIT),
    EventSpec(
        "systemd.unit.failed",
        "A unit failed.",
        (Severity.ERROR,),
        (*_UNIT, "result", "exit_code", "exit_status", "restarts"),
    ),
    EventSpec("systemd.unit.new", "A unit is new on this machine.", (Severity.NOTICE,), _UNIT),
    EventSpec(
        "systemd.unit.restarted",
        "A unit was started again: by systemd itself after it failed or ended (`restarts`: how often since somebody "
        "started it), or by somebody, too fast to see it down. Told at once, then once a minute with `times` since.",
        (Severity.WARNING, Severity.NOTICE),
        (*_UNIT, "restarts", "times"),
    ),
)


class Unit(msgspec.Struct):
    """One unit."""

    state: str
    """The active state, or `WAITING`."""
    up: bool
    """Whether it counts as up: it does while systemd starts it again by itself."""
    invocation: str = ""
    """Which run of it this is; "" when that is not known."""
    restarts: int | None = None
    """How often systemd has started it by itself since somebody did; None when that is not known."""
    begun: bool = False
    """Another run of it began, and nobody has said yet whether that was systemd's own doing."""
    untold: int = 0
    told_at: float = float("-inf")


class UnitStates:
    """All watched units. Written by one thread; others may read."""

    def __init__(self, wanted: NameFilter, clock: Callable[[], float]) -> None:
        self._wanted = wanted
        self._clock = clock
        self._units: dict[str, Unit] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._listed = False
        self._lock = threading.Lock()

    def listed(self, units: Iterable[tuple[str, str, str]]) -> Iterator[Event]:
        """Take the whole list of (name, active state, sub-state); the first one is where changes are counted from."""
        first, self._listed = not self._listed, True
        now = {name: (state, sub) for name, state, sub in units if self._wanted(name)}
        for name in self._units.keys() - now.keys():
            yield from self.removed(name)
        for name, (state, sub) in now.items():
            if first:
                waiting = sub == WAITING
                self._add(name, Unit(WAITING if waiting else state, up=waiting or state in RUNNING))
                self._see(name)
            else:
                yield from self.changed(name, state, sub)

    def changed(self, name: str, state: str, sub: str = "", invocation: str = "") -> Iterator[Event]:
        """Take one unit's active state and sub-state, and which run of it that is."""
        if not self._wanted(name):
            return
        is_new = name not in self._seen
        self._see(name)
        unit = self._units.get(name)
        if unit is None:
            unit = self._add(name, Unit("", up=False))
        if is_new:
            yield _event("new", name, f"{name} is new on this machine", state)
        before, unit.state = unit.state, WAITING if sub == WAITING else state
        same_run = not (invocation and unit.invocation) or invocation == unit.invocation
        unit.invocation = invocation or unit.invocation
        if unit.state == WAITING:
            return
        if state in RUNNING:
            if not unit.up:
                unit.up = True
                yield _event("up", name, f"{name} is up", state)
            elif before != WAITING or unit.restarts is None:
                unit.begun = unit.begun or not same_run or before == WAITING
        elif state == "failed" and before != "failed":
            unit.up = False
            yield _event("failed", name, f"{name} failed", state, Severity.ERROR)
        elif unit.up:
            unit.up = False
            yield _event("down", name, f"{name} is down", state, Severity.WARNING)

    def restarts(self, name: str, count: int) -> Iterator[Event]:
        """Take how often systemd has started a unit by itself."""
        unit = self._units.get(name)
        if unit is None:
            return
        before, unit.restarts = unit.restarts, count
        if before is not None and count > before:
            unit.begun = False
            yield from self._restarted(name, unit, count - before)

    def runs(self, name: str, invocation: str) -> None:
        """Take which run of a unit this is, where that is not known yet."""
        unit = self._units.get(name)
        if unit is not None and not unit.invocation:
            unit.invocation = invocation

    def due(self) -> Iterator[Event]:
        """Give what is to be told of restarts once all that has come was taken, and of those that go on."""
        for name, unit in self._units.items():
            if unit.begun:
                unit.begun = False
                unit.untold += 1
            if unit.untold and self._clock() - unit.told_at >= _RESTARTS_AGAIN:
                yield self._tell(name, unit)

    def _restarted(self, name: str, unit: Unit, times: int) -> Iterator[Event]:
        unit.untold += times
        if self._clock() - unit.told_at >= _RESTARTS_AGAIN:
            yield self._tell(name, unit)

    def _tell(self, name: str, unit: Unit) -> Event:
        times, unit.untold, unit.told_at = unit.untold, 0, self._clock()
        again = bool(unit.restarts)
        who = f"systemd started {name} again" if again else f"{name} was started again"
        detail: dict[str, FieldValue] = {"restarts": unit.restarts, "times": times}
        message = who + (f", {times} times" if times > 1 else "")
        return _event("restarted", name, message, unit.state, Severity.WARNING if again else Severity.NOTICE, detail)

    def removed(self, name: str) -> Iterator[Event]:
        """Take that systemd unloaded a unit."""
        with self._lock:
            unit = self._units.pop(name, None)
        if unit is not None and unit.up:
            yield _event("down", name, f"{name} is down and was unloaded", "", Severity.WARNING)

    def services(self) -> list[str]:
        """Give the services among the units."""
        with self._lock:
            return [name for name in self._units if name.endswith(".service")]

    def summary(self) -> Reading | None:
        """Give the counts; None before the first list."""
        if not self._listed:
            return None
        with self._lock:
            states = [(name, unit.state) for name, unit in self._units.items()]
        failed = sorted(name for name, state in states if state == "failed")
        active = sum(state in RUNNING for _, state in states)
        fields: dict[str, FieldValue] = {"units": len(states), "units_active": active, "units_failed": len(failed)}
        if failed:
            fields["failed"] = " ".join(failed)
        return Reading("systemd", fields)

    def readings(self) -> Iterator[tuple[str, dict[str, FieldValue]]]:
        """Give each unit with its fields."""
        with self._lock:
            units = list(self._units.items())
        for name, unit in units:
            yield name, {"state": unit.state, "up": unit.up, "restarts_total": unit.restarts}

    def _add(self, name: str, unit: Unit) -> Unit:
        with self._lock:
            self._units[name] = unit
        return unit

    def _see(self, name: str) -> None:
        self._seen[name] = None
        self._seen.move_to_end(name)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


def _event(
    word: str,
    name: str,
    message: str,
    state: str,
    severity: Severity = Severity.NOTICE,
    more: dict[str, FieldValue] | None = None,
) -> Event:
    detail: dict[str, FieldValue] = {"unit": name}
    if state:
        detail["active_state"] = state
    return Event(f"systemd.unit.{word}", message, severity, detail=detail | (more or {}))

"""What is told again and again is told once at once, and then once an interval, with a count.

A driver that reports the same error ten thousand times a second makes one event at once, and one for each interval with
how often it was (`times`), and when first and last. A link that flaps makes a `down` and an `up`, and then one of each
an interval, the last one last: so whoever follows knows the state that it is in.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from collectors.log_rules.catalogue import Told
from schemas.rows import Event, FieldValue, Severity, Tally
from schemas.verbosity import Level, RowClass

MOST: Final = 512
"""Events that are followed at a time; of the oldest the count is told before another takes its place."""


class _Held(msgspec.Struct):
    """An event that was told, and what came since."""

    until: float
    last: Event | None = None
    times: int = 0
    first_ns: int = 0
    last_ns: int = 0


class _Kept(msgspec.Struct, array_like=True):
    """What is held of one event, as the host keeps it."""

    type: str
    message: str
    severity: int
    device: str
    detail: dict[str, FieldValue]
    source_time_ns: int | None
    times: int
    first_ns: int
    last_ns: int


class Repeats:
    """Lets an event through or holds it back. For one thread."""

    def __init__(
        self, seconds: float, clock: Callable[[], float], wall_ns: Callable[[], int], remembered: str = ""
    ) -> None:
        """Tell the same once in so many seconds of a monotonic clock. `remembered` is what `remember` gave at last."""
        self._seconds = seconds
        self._clock = clock
        self._wall_ns = wall_ns
        self._held: dict[tuple[object, ...], _Held] = {}
        self._ready: list[Event | Tally] = []
        self._changed = bool(remembered)
        for kept in _recalled(remembered):
            self._release(kept)

    def take(self, told: Told) -> None:
        """Take an event, to be given by `due`: now, or at the end of its interval."""
        now = self._clock()
        held = self._held.get(told.same)
        if held is not None:
            when = told.event.source_time_ns or self._wall_ns()
            held.first_ns = held.first_ns or when
            held.last_ns = when
            held.last = told.event
            held.times += 1
            self._changed = True
            return
        if len(self._held) >= MOST:
            oldest = next(iter(self._held))
            self._give(self._held.pop(oldest))
        self._held[told.same] = _Held(now + self._seconds)
        self._ready.append(told.event)

    def due(self) -> list[Event | Tally]:
        """Give what is to be told now."""
        if self._held:
            now = self._clock()
            over = [same for same, held in self._held.items() if now >= held.until]
            for same in sorted(over, key=lambda same: self._held[same].last_ns):
                held = self._held[same]
                if held.last is None:
                    del self._held[same]
                else:
                    self._give(held)
                    self._held[same] = _Held(now + self._seconds)
        ready, self._ready = self._ready, []
        return ready

    def finish(self) -> list[Event | Tally]:
        """Give everything that is held: nothing will follow."""
        for held in sorted(self._held.values(), key=lambda held: held.last_ns):
            self._give(held)
        self._held.clear()
        ready, self._ready = self._ready, []
        return ready

    def _give(self, held: _Held) -> None:
        kept = _kept(held)
        if kept is not None:
            self._changed = True
            self._release(kept)

    def _release(self, kept: _Kept) -> None:
        detail: Mapping[str, FieldValue] = kept.detail
        if kept.times > 1:
            detail = {
                **detail,
                "times": kept.times,
                "first_time_ns": kept.first_ns,
                "last_time_ns": kept.last_ns,
            }
            self._ready.append(Tally(RowClass.EVENT, Level.ESSENTIAL, folded=kept.times - 1))
        self._ready.append(
            Event(kept.type, kept.message, Severity(kept.severity), kept.device, detail, kept.source_time_ns)
        )

    def remember(self) -> str | None:
        """Give what is held, as text, "" for nothing; None when it is what it was."""
        if not self._changed:
            return None
        self._changed = False
        kept = [one for held in self._held.values() if (one := _kept(held)) is not None]
        return _json.encode(kept).decode() if kept else ""


def _kept(held: _Held) -> _Kept | None:
    event = held.last
    if event is None:
        return None
    return _Kept(event.type, event.message, int(event.severity), event.device, dict(event.detail),
                 event.source_time_ns, held.times, held.first_ns, held.last_ns)  # fmt: skip


_json = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[_Kept])


def _recalled(text: str) -> list[_Kept]:
    try:
        return _decoder.decode(text) if text else []
    except msgspec.MsgspecError:  # of another version: nothing is worth a start that fails
        return []

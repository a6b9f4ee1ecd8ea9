"""What streams tell of their senders: who is turned away and why, without letting whoever insists fill the log."""

from typing import Final

import msgspec

from schemas.events import EventSpec
from schemas.rows import Event, Severity

REFUSED: Final = EventSpec(
    "syslog.client.refused",
    "A sender of logs was turned away: too many connections, or TLS failed. The same peer is told of again for the "
    "same reason after an hour, with how often since; at most 64 peers and reasons at a time.",
    (Severity.WARNING,),
    ("listener", "peer", "reason", "times"),
)
RELOADED: Final = EventSpec(
    "syslog.certificates.reloaded",
    "The files of a TLS listener changed, and what they hold now is in force.",
    (Severity.NOTICE,),
    ("listener",),
)
BAD_CERTIFICATES: Final = EventSpec(
    "syslog.certificates.bad",
    "The files of a TLS listener changed to what cannot be used; what they held before stays in force.",
    (Severity.ERROR,),
    ("listener", "reason"),
)
EVENTS: Final = (REFUSED, RELOADED, BAD_CERTIFICATES)
_AGAIN: Final = 3600.0
"""Seconds after which the same is told again."""
_MOST: Final = 64
"""How many peers and reasons are told in that time; more are counted by the listener's metrics alone."""


class _Told(msgspec.Struct):
    at: float
    times: int = 0
    """How often it happened since it was told."""


class Refusals:
    """What one listener has told of those that it turned away."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}

    def tell(self, listener: str, peer: str, reason: str, now: float) -> Event | None:
        """Give the event that says so, or None when it was told lately; `now` is monotonic seconds."""
        told = self._told.get((peer, reason))
        if told is not None and now - told.at < _AGAIN:
            told.times += 1
            return None
        if told is None and len(self._told) >= _MOST:
            self._told = {key: one for key, one in self._told.items() if now - one.at < _AGAIN}
            if len(self._told) >= _MOST:
                return None
        self._told[peer, reason] = _Told(now)
        return Event(
            type=REFUSED.type,
            message=f"{listener} turned {peer} away: {reason}",
            severity=Severity.WARNING,
            detail={"listener": listener, "peer": peer, "reason": reason, "times": 1 + (told.times if told else 0)},
        )

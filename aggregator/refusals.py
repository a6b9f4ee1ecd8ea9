"""Who was refused lately, and why: what `muster doctor` and the API show, and the events about those who are known."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from aggregator.access import ScopeError
from aggregator.succession import RefusedError
from schemas.errors import AccessError, MusterError
from schemas.rows import Event, Severity

MAX_REFUSALS: Final = 256
"""Kept; of more, those that were refused longest ago are forgotten."""
KEPT_NS: Final = 3600 * 10**9
"""Who has not been refused for so long is forgotten."""
UNKNOWN: Final = "access.unknown"
"""The code of a refusal of somebody whom no token makes known."""


class Refusal(msgspec.Struct):
    """One who was refused for one reason, however often."""

    who: str
    """The token by its public id, `local`, or `anonymous`."""
    code: str
    """`access.denied`, `access.scope`, `access.unknown` (no token, or one that is not good), or `node.contested` and
    `node.decommissioned`."""
    reason: str
    """The last refusal's words."""
    count: int
    first_ns: int
    last_ns: int


class Refusals:
    """The refusals of the last hour, in memory. For one event loop."""

    def __init__(self, *, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._kept: OrderedDict[tuple[str, str, str], Refusal] = OrderedDict()

    def note(self, who: str, error: MusterError) -> list[Event]:
        """Count a refusal; give the event about it, once, if the one who was refused is known. Others are no refusals.

        What strangers send never becomes an event: they could make as many as they like. A contested node id has an
        event of its own.
        """
        code = _code_of(error)
        if not code:
            return []
        now_ns = self._wall_ns()
        # nodes that were let go are few; the words of other refusals are as many as the sender makes up names
        key = (who, code, str(error) if code == "node.decommissioned" else "")
        known = self._kept.pop(key, None)
        fresh = known is None or now_ns - known.last_ns > KEPT_NS
        if known is None or fresh:
            known = Refusal(who, code, "", 0, now_ns, now_ns)
        known.count, known.last_ns, known.reason = known.count + 1, now_ns, str(error)[:512]
        self._kept[key] = known
        if len(self._kept) > MAX_REFUSALS:
            self._kept.popitem(last=False)
        if not fresh or code in (UNKNOWN, "node.contested"):
            return []
        detail = {"code": code, "who": who, "reason": known.reason}
        return [Event("publisher.refused", f"{who} was refused: {known.reason}", Severity.WARNING, detail=detail)]

    def lately(self) -> list[Refusal]:
        """Give the refusals of the last hour, the latest first."""
        now_ns = self._wall_ns()
        return [one for one in reversed(self._kept.values()) if now_ns - one.last_ns <= KEPT_NS]


def _code_of(error: MusterError) -> str:
    """Give the code by which a refusal is known; "" for what refuses nobody (a body too large, a busy log)."""
    if isinstance(error, RefusedError):
        return error.reason
    if isinstance(error, AccessError):
        return error.code if error.authenticated else UNKNOWN
    return error.code if isinstance(error, ScopeError) else ""

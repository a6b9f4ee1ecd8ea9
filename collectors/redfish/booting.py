"""Whether a BMC may not have everything yet, because it has begun to run only just now.

Source: DMTF Manager 1.20 (DateTime, LastResetTime), Resource 1.21 (Status.State).
"""

import datetime
from collections.abc import Iterable
from typing import Final

from collectors.redfish.resource import Resource, member, text

SETTLE: Final = 300.0
"""Seconds after a BMC is back for which what it says it has not may only not be there yet."""
YOUNG_LOOKS: Final = 3
"""Walks in a row for which a BMC is believed that it has only just begun: some say so for ever."""


def is_young(managers: Iterable[Resource]) -> bool | None:
    """Tell by a BMC's managers whether one of them is starting, or began less than `SETTLE` ago; None: nobody says."""
    known = None
    for manager in managers:
        if text(member(manager, "Status"), "State").lower() == "starting":
            return True
        up = up_seconds(manager)
        if up is not None and up < SETTLE:
            return True
        known = known if up is None else False
    return known


def up_seconds(manager: Resource) -> float | None:
    """Give how long a manager has run, both ends by its own clock; None when it does not say, or cannot know."""
    now, since = (_moment(text(manager, name)) for name in ("DateTime", "LastResetTime"))
    if now is None or since is None:
        return None
    up = (now - since).total_seconds()
    return up if up >= 0 else None


def _moment(said: str) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(said)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None

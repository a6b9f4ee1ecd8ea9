"""What differs from what it should be, as it is told and as it outlives the process."""

from collections.abc import Iterator
from typing import Final

import msgspec

from schemas.device import Value
from schemas.rows import Event, Severity

METADATA, OPERATOR = "metadata", "operator"
MOST_TOLD: Final = 16
"""Of one device, so many differences are told one by one."""


class Standing(msgspec.Struct, frozen=True, order=True):
    """A difference that there is now."""

    device: str
    """"" when it is no device of this node's that differs."""
    kind: str
    vnic: str
    message: str
    source: str = ""
    """Who says how it should be: `METADATA` or `OPERATOR`."""

    def event(self, *, over: bool) -> Event:
        """Make the event that it has come, or is over."""
        detail = {"kind": self.kind} | ({"vnic": self.vnic} if self.vnic else {})
        who = self.device or "the node's network"
        if over:
            return Event(
                "sriov.drift_over", f"{who} no longer differs: {self.message}", Severity.NOTICE, self.device, detail
            )
        return Event("sriov.drift", f"{who}: {self.message}", Severity.WARNING, self.device, detail)


class Drift(msgspec.Struct, frozen=True):
    """What differs, and which VNIC each function is."""

    standing: frozenset[Standing] = frozenset()
    vnic_of: dict[str, str] = {}

    def words(self, device: str) -> dict[str, Value | None]:
        """Give the words of `schemas.capabilities.DRIFT_WORDS` for a device; None for what there is not."""
        messages = sorted(one.message for one in self.standing if one.device == device)
        more = len(messages) - MOST_TOLD
        told: list[str] = messages if more <= 0 else [*messages[:MOST_TOLD], f"and {more} more"]
        return {"vnic": self.vnic_of.get(device), "drift": told or None}


def changed(before: Drift, after: Drift) -> Iterator[Event]:
    """Give the events of what is over and of what has come."""
    for one in sorted(before.standing - after.standing):
        yield one.event(over=True)
    for one in sorted(after.standing - before.standing):
        yield one.event(over=False)

"""Whether a BMC can be read: what is told when that changes, and when it is tried again."""

from collections.abc import Iterator
from typing import Final

from collectors.cadence import backoff, share
from collectors.redfish.errors import (
    BmcDeniedError,
    BmcError,
    BmcOccupiedError,
    BmcUntrustedError,
)
from collectors.redfish.naming import bmc_id
from schemas.events import EventSpec
from schemas.rows import Event, FieldValue, Severity

LOST_AFTER: Final = 3
"""Readings in a row without an answer until a BMC is said to be lost."""
LONGEST: Final = 600.0
"""Seconds; the longest pause between two attempts."""
_LOCKED: Final = 900.0
"""Seconds between attempts to log in that are refused: five in an hour lock no account that is not locked already."""
_DETAIL: Final = ("bmc", "address", "reason")

ACCESS_EVENTS: Final = (
    EventSpec(
        "redfish.bmc.lost",
        f"A BMC did not answer {LOST_AFTER} times in a row; its machine may run on.",
        (Severity.ERROR,),
        (*_DETAIL, "failures"),
    ),
    EventSpec("redfish.bmc.back", "A BMC can be read again.", (Severity.NOTICE,), (*_DETAIL, "failures")),
    EventSpec("redfish.bmc.denied", "A BMC refuses the user or the password.", (Severity.ERROR,), _DETAIL),
    EventSpec(
        "redfish.bmc.untrusted",
        "A BMC shows a certificate that is not believed; nothing was sent to it.",
        (Severity.CRITICAL,),
        _DETAIL,
    ),
    EventSpec(
        "redfish.bmc.restricted",
        "Some of what a BMC has the user may not read: it is missing from rows and documents; a notice when it is not.",
        (Severity.WARNING, Severity.NOTICE),
        ("bmc", "address", "denied", "first"),
    ),
)
"""What is told of the way to a BMC."""


class Access:
    """The way to one BMC."""

    def __init__(self, label: str, url: str, subject: str) -> None:
        self._label, self._url, self._subject = label, url, subject
        self._told = ""
        self._denied = 0
        self.failures = 0
        """Readings in a row that came to nothing."""
        self.reason = ""
        """Why the latest came to nothing; "" when it did not."""

    @property
    def lost(self) -> bool:
        """Whether it was told that the BMC cannot be read, and not yet that it can again."""
        return bool(self._told)

    def worked(self, denied: list[str]) -> Iterator[Event]:
        """Take note of a reading; `denied`: what the user may not read."""
        if self._told:
            yield self._event("redfish.bmc.back", "can be read again", Severity.NOTICE, {"failures": self.failures})
        self.failures, self.reason, self._told = 0, "", ""
        if bool(denied) != bool(self._denied):
            severity = Severity.WARNING if denied else Severity.NOTICE
            text = (
                f"does not let the user read {len(denied)} resources, such as {denied[0]}: give it the role ReadOnly,"
                " and what these need beyond (ConfigureManager, ConfigureUsers)"
                if denied
                else "lets the user read everything again"
            )
            detail: dict[str, FieldValue] = {"denied": len(denied), "first": denied[0] if denied else None}
            yield self._event("redfish.bmc.restricted", text, severity, detail)
        self._denied = len(denied)

    def failed(self, error: BmcError) -> Iterator[Event]:
        """Take note of a reading that came to nothing."""
        self.failures += 1
        self.reason = str(error)
        kind, severity = "redfish.bmc.lost", Severity.ERROR
        if isinstance(error, BmcDeniedError):
            kind = "redfish.bmc.denied"
        elif isinstance(error, BmcUntrustedError):
            kind, severity = "redfish.bmc.untrusted", Severity.CRITICAL
        elif self.failures < LOST_AFTER:
            return
        if kind != self._told:
            self._told = kind
            words = "no longer answers" if kind == "redfish.bmc.lost" else "cannot be read"
            detail: dict[str, FieldValue] = {"reason": self.reason[:300]}
            if kind == "redfish.bmc.lost":
                detail["failures"] = self.failures
            yield self._event(kind, f"{words}: {self.reason[:300]}", severity, detail)

    def pause(self, error: BmcError, every: float) -> float:
        """Give the seconds until the next attempt; `every`: between two readings that work."""
        first = min(every, LONGEST)
        jitter = share(self._label, str(self.failures))
        if isinstance(error, BmcDeniedError):
            return max(every, backoff(self.failures, _LOCKED, 4 * _LOCKED, jitter))
        pause = backoff(self.failures, first, max(first, LONGEST), jitter)
        if isinstance(error, BmcOccupiedError) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        return pause

    def _event(self, kind: str, text: str, severity: Severity, detail: dict[str, FieldValue]) -> Event:
        told: dict[str, FieldValue] = {"bmc": self._label, "address": self._url, **detail}
        told = {name: value for name, value in told.items() if value is not None}
        return Event(kind, f"BMC {self._label} {text}", severity, bmc_id(self._label), told, subject=self._subject)


def word(error: BmcError) -> str:
    """Give the value of `bmc_reader.state` for an error: the last word of its code."""
    return error.code.rpartition(".")[2]

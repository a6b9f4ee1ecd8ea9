"""Why nothing can be read of a BMC now, and what was wrong with what it sent."""

from typing import ClassVar, Final

from schemas.errors import MusterError

UNREADABLE: Final = "unreadable"
"""The body of an answer is no JSON object."""
STATUS: Final = "status"
"""An error instead of a resource."""
HUNG: Final = "hung"
"""No answer to this very request, again and again, while the BMC answers others."""
_MOST_REASONS: Final = 64


class BmcError(MusterError):
    """Nothing can be read of a BMC now: it is `unavailable`, and asked again later."""

    code: ClassVar[str] = "redfish.bmc"


class BmcUnreachableError(BmcError):
    """It does not answer: no connection, no answer in time, or none that is HTTP."""

    code = "redfish.unreachable"


class BmcUntrustedError(BmcError):
    """It shows another certificate than it should. Nothing was sent to it."""

    code = "redfish.untrusted"


class BmcDeniedError(BmcError):
    """It refuses the user, or the password. Trying often may lock the account."""

    code = "redfish.denied"


class BmcOccupiedError(BmcError):
    """It says that it is too busy (429, 503)."""

    code = "redfish.occupied"

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that it asks for; None when it does not say."""


class Faults:
    """What was wrong with what one BMC sent, counted by reason."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """Since this was made."""
        self.note = ""
        """What the latest was."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def lost(self) -> int:
        """Those for which a resource was not had that is there."""
        return sum(self.counts.get(reason, 0) for reason in (UNREADABLE, STATUS, HUNG))

    def add(self, reason: str, note: str) -> None:
        """Count one. `reason` is a word of ours, never a BMC's."""
        if reason in self.counts or len(self.counts) < _MOST_REASONS:
            self.counts[reason] = self.counts.get(reason, 0) + 1
        self.note = f"{reason}: {note[:200]}"

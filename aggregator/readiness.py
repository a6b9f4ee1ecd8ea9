"""What an aggregator cannot do yet, or not now, part by part.

Parts fail apart: while the store is being opened again rows are taken and devices are given, and while the ledger is
read from disk rows are taken and queried. Who waits for an aggregator waits for all of them; who wonders is told which.
"""

from typing import Protocol


class Log(Protocol):
    """As much of `log_sqlite.SqliteLog` as matters here."""

    @property
    def last_failure(self) -> str:
        """Why it takes nothing; "" while it does."""


class Status(Protocol):
    """What a part says of itself."""

    @property
    def last_error(self) -> str:
        """Why it does not work; "" while it does."""


class Part(Protocol):
    """A part that is opened, and may have to be again."""

    @property
    def ready(self) -> bool:
        """Whether it works."""

    @property
    def status(self) -> Status:
        """How it fares."""


def not_ready(log: Log, store: Part, ledger: Part, inventory: Part) -> dict[str, str]:
    """Give what is not ready, by part (`log`, `store`, `ledger`, `inventory`), and why, for people; {}: all is."""
    found: dict[str, str] = {}
    if log.last_failure:
        found["log"] = f"it takes nothing: {log.last_failure}"
    if not store.ready:
        found["store"] = f"{store.status.last_error or 'it is being opened'}; rows are taken and wait in the log"
    if not ledger.ready:
        found["ledger"] = ledger.status.last_error or "it is being read"
    if not inventory.ready:
        found["inventory"] = inventory.status.last_error or "it is beginning where it was in the log"
    return found

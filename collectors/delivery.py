"""What the scheduler hands over, and to whom: the seam between the collectors' runtime and the intake.

A module of its own, because helper processes need the first and must not pay for what stands behind the second.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from schemas.rows import Parcel, Position, Tally
from schemas.verbosity import Level


class Told(msgspec.Struct, array_like=True):
    """The capability documents of one subject that is not the node itself."""

    subject: str
    documents: list[str]
    whole: bool = True
    """Whether what is missing is gone."""


class Delivery(msgspec.Struct, array_like=True):
    """What one collector yielded at once."""

    parcels: list[Parcel]
    positions: list[Position] = []
    """Committed in the same transaction as the parcels."""
    documents: list[str] | None = None
    """The full set of the collector's capability documents, when it changed; None when nothing was described."""
    tallies: list[Tally] = []
    """What the collector folded, or left out by itself."""
    apart: bool = False
    """Its telemetry holds measurements that nobody declares. What others call so may not fit them, and that costs a
    whole batch: each travels in batches of its own."""
    told: list[Told] = []
    """What was described of others, in order."""


class IntakeLike(Protocol):
    """What the scheduler needs of an intake."""

    def level(self, collector: str) -> Level:
        """The level in force for a collector."""

    def positions(self, collector: str) -> dict[str, str]:
        """The latest positions that were taken, committed or not, by source."""

    def ready(self) -> bool:
        """Whether more may be delivered now."""

    def take(self, collector: str, delivery: Delivery) -> None:
        """Take a delivery. Never blocks; called only from the scheduler's thread."""

    def when_committed(self, call: Callable[[], None]) -> None:
        """Hurry, and have `call` called, on any thread, once all that was taken so far is on disk."""

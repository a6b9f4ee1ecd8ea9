"""What a spool file held when it was opened, as its rows."""

from typing import NamedTuple

from collectors.spooled import Held


class EpochRow(NamedTuple):
    """A row of the table `epoch`."""

    epoch: str
    boot: str
    next_order: int


class StreamRow(NamedTuple):
    """A row of the table `stream`."""

    epoch: str
    row_class: int
    level: int
    filtered: int
    folded: int
    numbered: int


class DroppedRow(NamedTuple):
    """A row of the table `dropped`."""

    epoch: str
    row_class: int
    level: int
    reason: str
    first: int
    end: int


class State:
    """Everything that a publisher's spool held when it was opened, but the bodies."""

    __slots__ = ("dropped", "epochs", "held", "positions", "streams")

    def __init__(self) -> None:
        self.epochs: list[EpochRow] = []
        """Oldest first."""
        self.streams: list[StreamRow] = []
        self.dropped: list[DroppedRow] = []
        self.held: list[Held] = []
        """Oldest first."""
        self.positions: dict[tuple[str, str], str] = {}

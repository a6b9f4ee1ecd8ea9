"""What became of one collector so far, in numbers."""

from collections import deque
from collections.abc import Mapping


class Counters:
    """Counts of one collector since the agent started. Written by the scheduler, read by anybody."""

    def __init__(self) -> None:
        self.runs = 0
        self.rows = 0
        self.skipped = 0
        self.timeouts = 0
        self.crashes = 0
        self.emissions = 0
        """Times that its watch handed something over."""
        self.errors: dict[str, int] = {}
        self.last_seconds: float | None = None
        self.last_success_ns: int | None = None
        self.last_error = ""
        self.last_error_ns: int | None = None
        self.slips: deque[float] = deque(maxlen=128)
        """Seconds by which the last calls of `collect` began after their ticks."""

    def collected(self, rows: int, seconds: float, slip: float) -> None:
        """Count a collection that took so long, and began so long after its tick."""
        self.runs += 1
        self.rows += rows
        self.last_seconds = seconds
        self.slips.append(max(0.0, slip))

    def count(self, error: str, times: int = 1) -> None:
        """Count errors of a type."""
        self.errors[error] = self.errors.get(error, 0) + times

    def merge(self, errors: Mapping[str, int]) -> None:
        """Count errors of several types."""
        for error, times in errors.items():
            self.count(error, times)

    def note(self, text: str, now_ns: int) -> None:
        """Keep the text of the last error."""
        self.last_error = text
        self.last_error_ns = now_ns

    def slip_p99(self) -> float | None:
        """Give the 99th percentile of the slips, seconds; None before the first."""
        slips = sorted(self.slips.copy())
        return slips[max(0, -(-len(slips) * 99 // 100) - 1)] if slips else None

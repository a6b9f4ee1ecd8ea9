"""From lines of the kernel log to events in a unit of rows: the rules, and what holds back repetitions."""

import time
from collections.abc import Callable
from typing import Final

from collectors.log_rules.catalogue import DeviceOf, Matcher
from collectors.log_rules.repeats import Repeats
from collectors.syslog_rows import Rows
from schemas.rows import Position

REMEMBERED: Final = "kernel-events"
"""The position under which the host keeps what is held back."""
INTERVAL: Final = 10.0
"""The same event is told once in so many seconds."""


class Teller:
    """Tells what records of facility `kern` say. For one thread."""

    def __init__(
        self,
        device_of: DeviceOf,
        remembered: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._matcher = Matcher(device_of)
        self._repeats = Repeats(INTERVAL, clock, wall_ns, remembered)

    def look(self, text: str, device: str, time_ns: int | None) -> str:
        """Take a record, and give its device: `device` where the kernel has tagged it, else what the text names."""
        told = self._matcher.look(text, device, time_ns)
        if told is None:
            return device
        self._repeats.take(told)
        return told.event.device

    def tell(self, rows: Rows) -> None:
        """Let what is to be told now go with the rows; what is held back is kept with their position."""
        for item in self._repeats.due():
            rows.add(item)
        self._remember(rows)

    def finish(self, rows: Rows) -> None:
        """Let everything go: nothing will follow."""
        for item in self._repeats.finish():
            rows.add(item)
        self._remember(rows)

    def _remember(self, rows: Rows) -> None:
        text = self._repeats.remember()
        if text is not None:
            rows.add(Position(REMEMBERED, text))

"""Log lines of a helper process: they travel to the agent, which writes them."""

import logging
import time
from collections.abc import Callable
from typing import Final

from collectors._values import plain
from collectors.channel import Said

_LINES: Final = 20
"""Log lines of one logger in `_SECONDS`; what is over is counted."""
_SECONDS: Final = 10.0


class ChannelLog(logging.Handler):
    """Sends log lines to the agent, a few of each logger, and the number of those held back."""

    def __init__(self, say: Callable[[Said], None]) -> None:
        super().__init__()
        self._say = say
        self._windows: dict[str, tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line, or count it."""
        now = time.monotonic()
        began, lines = self._windows.get(record.name, (now, 0))
        if now - began >= _SECONDS:
            if lines > _LINES:
                text = f"log_lines_held_back count={lines - _LINES} seconds={now - began:.0f}"
                self._say(Said(record.name, logging.WARNING, text))
            began, lines = now, 0
        self._windows[record.name] = (began, lines + 1)
        if lines < _LINES:
            self._say(Said(record.name, record.levelno, plain(self.format(record))[:4000]))

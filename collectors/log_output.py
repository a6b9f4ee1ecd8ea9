"""Where log lines go: to standard error, and never at the price of the work.

Whoever reads them may stop: a paused pager, a terminal after Ctrl-S, a log collector that hangs. Then a plain write
waits for ever, with the lock of every other line in hand, and the process does nothing any more. Here a line that finds
no room is left out and counted, and the count is told as soon as there is room again.
"""

import logging
import os
import select
import sys
from typing import Final

ROOM_BYTES: Final = 4096
"""What a pipe that says it has room takes without waiting. Source: pipe(7) and poll(2), PIPE_BUF on Linux."""
PATIENCE_SECONDS: Final = 0.1
"""How long a reader that kept up so far is waited for; one that did not is not waited for again."""


def log_handler() -> logging.Handler:
    """Give what writes log lines to standard error: without waiting where that is a file of the system's."""
    try:
        return PatientHandler(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # closed; or put in its place by a test
        return logging.StreamHandler()


def has_room(descriptor: int, seconds: float = 0.0) -> bool:
    """Tell whether ROOM_BYTES can be written without waiting, now or within `seconds`. Where nobody knows: yes."""
    watched = select.poll()
    watched.register(descriptor, select.POLLOUT)
    return bool(watched.poll(seconds * 1000))


class PatientHandler(logging.Handler):
    """Writes to a descriptor that others may share; leaves out what finds no room, and says how many lines that were.

    The descriptor stays as blocking as it was: making it otherwise would make it so for everybody who has it.
    """

    def __init__(self, descriptor: int, patience: float = PATIENCE_SECONDS) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._patience = patience
        self._left_out = 0
        self._torn = False
        """The last line found room for its beginning alone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)
            return
        if self._left_out and has_room(self._descriptor) and self._write(self.format(self._confession())):
            self._left_out = 0
        if self._left_out or not self._write(line):
            self._left_out += 1

    def _write(self, line: str) -> bool:
        """Write a line, in pieces that fit; whether all of it was written."""
        data = (b"\n" if self._torn else b"") + f"{line}\n".encode(errors="backslashreplace")
        patience = 0.0 if self._left_out else self._patience
        try:
            for first in range(0, len(data), ROOM_BYTES):
                if not has_room(self._descriptor, patience):
                    return False
                os.write(self._descriptor, data[first : first + ROOM_BYTES])
                self._torn = first + ROOM_BYTES < len(data)
        except OSError:  # the reader has gone, or the disk is full: there is no place to tell it
            return False
        return True

    def _confession(self) -> logging.LogRecord:
        return logging.LogRecord(
            "muster.log", logging.WARNING, __file__, 0,
            "lines_left_out count=%d: whoever reads this log did not keep up", (self._left_out,), None,
        )  # fmt: skip

"""Room kept in reserve beside the spool, so that a full disk cannot keep it from getting emptier.

SQLite writes before it frees: to forget a batch takes room in the write-ahead log. On a disk without any, a spool could
never drain, though every batch in it were acknowledged. So a file of a few megabytes stands there for nothing but to
be given up in that moment, and is made again afterwards.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 4 << 20
"""As much as the write-ahead log takes before SQLite writes it back (1,000 pages of 4 KiB)."""
SMALL_DISK_SHARE: Final = 8
"""Of a small file system the reserve takes one part in so many."""
SLACK_BYTES: Final = 256 << 10
"""Room that is left to others when the reserve is made again on a nearly full disk."""


class Reserve:
    """The file that stands for the room. Nothing here raises: without a reserve the spool works as well as it can."""

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(f"{spool.name}.reserve")

    def keep(self) -> None:
        """Make it, as large as there is room for, unless it is there."""
        with contextlib.suppress(OSError):
            state = os.statvfs(self._path.parent)
            total, free = state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize
            size = min(RESERVE_BYTES, total // SMALL_DISK_SHARE, free - SLACK_BYTES)
            if size <= 0 or self._path.exists():
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)

    def give(self) -> bool:
        """Give its room back to the disk; tell whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def renew(self) -> bool:
        """Make it anew if there is room for all of it beside what it has; tell whether there was."""
        with contextlib.suppress(OSError):
            state = os.statvfs(self._path.parent)
            wanted = min(RESERVE_BYTES, state.f_blocks * state.f_frsize // SMALL_DISK_SHARE)
            if state.f_bavail * state.f_frsize >= wanted + SLACK_BYTES:
                self.give()
                self.keep()
                return True
        return False

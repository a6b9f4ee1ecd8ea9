"""The log files of `muster up` on a terminal: for their owner alone, and bounded.

A child writes into its file for as long as it lives, so a file that has grown too large is copied beside itself and
emptied under the child's hands. What it writes in that moment may be in neither: these files are for looking at, and
who wants every line has the journal.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO, Final

MAX_BYTES: Final = 16 << 20
"""A larger file is put aside; there are at most two of them a child, this one and the one before."""


def open_log(path: Path) -> IO[bytes]:
    """Open a log file to write at its end, whoever else does. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # an older Muster made it readable for everybody
    return os.fdopen(descriptor, "ab")


def bound_log(path: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Put a log file aside, as `<name>.1`, when it is larger than `max_bytes`; tell whether it was.

    Where there is no room for a copy it is emptied all the same: the disk has better uses.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
        before = path.with_name(f"{path.name}.1")
        try:
            with path.open("rb") as source, open_log(before) as copy:
                copy.truncate(0)
                shutil.copyfileobj(source, copy, 1 << 20)
        except OSError:
            with contextlib.suppress(OSError):
                before.unlink()
        os.truncate(path, 0)
    except OSError:  # it is gone, or nobody may touch it: then it does not grow by our doing
        return False
    return True

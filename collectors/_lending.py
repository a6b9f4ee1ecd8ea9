"""GPUs are lent to the steps of claims: while one works on a GPU, nobody of ours keeps NVIDIA's driver busy.

The driver neither resets nor hands over a GPU that anybody has open, and its management library opens all of them. So
the collector keeps one lock while it has the library open, and lets go when a step asks by another. The kernel takes
both from whoever ends. Each side takes its own lock first and looks at the other's after, so that none overlooks one.
Source: flock(2).
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_USED: Final = "used"
_ASKED: Final = "asked_for"
_LOOK_S: Final = 0.05
LEND_SECONDS: Final = 10.0
"""So long a step waits for the collector, which looks twice a second and then has to end its process."""


class Lending:
    """The collector's side. Without a folder, or with one that takes no files, nobody asks."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._used = self._asked = -1

    def use(self) -> bool:
        """Take the GPUs into use; False when a step has them."""
        if self._folder is None:
            return True
        try:
            if self._used < 0:
                self._used = _opened(self._folder / _USED)
            fcntl.flock(self._used, fcntl.LOCK_EX)
        except OSError:
            return True
        if self.asked():
            self.let_go()
            return False
        return True

    def asked(self) -> bool:
        """Tell whether a step wants the GPUs."""
        if self._folder is None:
            return False
        try:
            if self._asked < 0:
                self._asked = _opened(self._folder / _ASKED)
            fcntl.flock(self._asked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        fcntl.flock(self._asked, fcntl.LOCK_UN)
        return False

    def let_go(self) -> None:
        """The GPUs are not in use any more; safe twice."""
        used, asked = self._used, self._asked
        self._used = self._asked = -1
        for fd in (used, asked):
            if fd >= 0:
                os.close(fd)


@contextmanager
def lent(folder: str, seconds: float = LEND_SECONDS) -> Iterator[str]:
    """Have the GPUs for as long as the block runs: gives "", or why they cannot be had.

    `folder`: where the collector keeps its files; "" or one that is not there when there is none.
    """
    if not folder or not Path(folder).is_dir():
        yield ""
        return
    asked = _opened(Path(folder) / _ASKED)
    try:
        fcntl.flock(asked, fcntl.LOCK_SH)
        used = _opened(Path(folder) / _USED)
        try:
            yield "" if _free(used, seconds) else f"the collector nvml did not let go of the GPUs within {seconds:g} s"
        finally:
            os.close(used)
    finally:
        os.close(asked)


def _free(used: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(used, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_S)
        else:
            fcntl.flock(used, fcntl.LOCK_UN)  # who begins to use them looks whether they are asked for
            return True


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

"""Failpoints: named places where a crash test lets the process die. In ordinary life they do nothing.

`MUSTER_FAILPOINT=<name>[:<count>]` sends SIGKILL to this process when the place is reached for the count-th time.
"""

import os
import signal
from typing import Final

_WANTED: Final = os.environ.get("MUSTER_FAILPOINT", "")
_left = int(_WANTED.partition(":")[2] or "1") if _WANTED else 0


def failpoint(name: str) -> None:
    """Die here, if a test asked for it."""
    global _left  # noqa: PLW0603 - one count a process, set once from the environment
    if not _WANTED or _WANTED.partition(":")[0] != name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

"""Several workers of pytest-xdist on one machine: a test that measures the machine runs while no other test does.

Every test passes a door and enters a room: many at a time, or one by itself. Who wants the room for itself keeps the
door shut while it waits for the others to leave, so that it does get its turn.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """The door and the room of one test run: locks on two files, which end with the process that holds them.

    They are POSIX locks, because those are not handed on to processes that a test forks.
    """

    def __init__(self, folder: Path) -> None:
        """Join the run whose locks are in `folder`."""
        self._door = (folder / "door.lock").open("a+b")
        self._room = (folder / "room.lock").open("a+b")

    def close(self) -> None:
        """Let go of both files. Safe twice."""
        self._door.close()
        self._room.close()

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Run the body beside others that are not `alone`, or while nobody else is in there. Blocks until then."""
        fcntl.lockf(self._door, fcntl.LOCK_EX)
        try:
            fcntl.lockf(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.lockf(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.lockf(self._room, fcntl.LOCK_UN)

"""In which order workers of pytest-xdist run tests, and which tests stay on one worker.

Those that take longest begin first, or one worker would end long after the others. Those that want the machine for
themselves come last, side by side: nobody waits long for the others to leave.

Tests of a file with fixtures of the whole module, which are costly, stay together; every other test goes to whichever
worker is free. pytest-xdist's own `loadgroup` would do with a mark, but its groups are without effect from pytest 9.2
on, where a test's id cannot be given a suffix.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.needs import REPOSITORY

SLOW_SECONDS: Final = 10.0
"""What a test marked as slow takes that does not say how long."""


class Marked(Protocol):
    """A test, as far as it matters here."""

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        """Give the mark of this name that is nearest to the test."""
        ...


def place(item: Marked) -> tuple[bool, float]:
    """Give what tests are sorted by: first those that take longest, last those that run alone."""
    slow = item.get_closest_marker("slow")
    seconds = 0.0 if slow is None else float(slow.args[0]) if slow.args else SLOW_SECONDS
    return item.get_closest_marker("alone") is not None, -seconds


@cache
def shares_fixtures(file: Path) -> bool:
    """Tell whether a file of tests has fixtures that are made once for all of its tests."""
    return 'scope="module"' in file.read_text()


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives workers single tests, and files that share fixtures as a whole, in the order of collection."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        """Keep to the order that workers collect in."""
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if shares_fixtures(REPOSITORY / file) else nodeid

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Note that a test is done, and forget what is done as a whole: pytest-xdist counts all it knows each time."""
        super().mark_test_complete(node, item_index, duration)
        assigned = self.assigned_work[node]
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(assigned[scope].values()):
            del assigned[scope]

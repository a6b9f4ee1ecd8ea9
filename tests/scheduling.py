"""Which tests pytest-xdist keeps on one worker: those of a file with fixtures of the whole module, which are costly.

Every other test goes to whichever worker is free. pytest-xdist's own `loadgroup` would do with a mark, but its groups
are without effect from pytest 9.2 on, where a test's id cannot be given a suffix.
"""

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

from tests.needs import REPOSITORY


@cache
def shares_fixtures(file: Path) -> bool:
    """Tell whether a file of tests has fixtures that are made once for all of its tests."""
    return 'scope="module"' in file.read_text()


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives workers single tests, and files that share fixtures as a whole; those first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if shares_fixtures(REPOSITORY / file) else nodeid

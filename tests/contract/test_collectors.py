"""Every installed collector keeps the contract; a new one is under test from the moment it is installed."""

from collections.abc import Callable

import pytest

from collectors.registry import Entry, discover, load
from collectors.testing import CHECKS, Case

NOT_FROM_FILES = frozenset({"nvml", "redfish", "simulated", "oracle"})
"""They read drivers, networks or nothing, so that an empty root does not keep them from having rows."""

ENTRIES = tuple(discover().values())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_installed_collector_keeps_the_contract(entry: Entry, check: Callable[[Case], None]) -> None:
    """R001-11: sources are plugins of one shape."""
    collector = load(entry.name)
    check(Case(collector, reads_root=entry.name not in NOT_FROM_FILES))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_collector_has_the_name_of_its_entry_point(entry: Entry) -> None:
    """One word is configuration section, log field, case folder and class."""
    assert load(entry.name).name == entry.name


def test_own_collectors_are_installed() -> None:
    own = {entry.name for entry in ENTRIES if entry.distribution == "rackmuster"}
    assert {"host", "syslog", "simulated", "oracle"} <= own

"""What is above the level in force is counted and not kept; what a grant alone admits travels under its name."""

from typing import Any

import pytest

from collectors.verbosity import Grant
from schemas.verbosity import Level, RowClass
from tests.collectors.intake.rig import SECOND, TELEMETRY, Rig, rows


def _counts(stream: Any) -> tuple[int, int, int]:
    return stream.produced, stream.filtered, stream.numbered


def test_rows_above_the_level_are_counted_and_not_kept(rig: Rig) -> None:
    rig.take(rows(1, 2, 3, level=Level.DETAILED), rows(4))
    assert rig.intake.drain()
    assert [4] == rig.values()
    streams = {(one.row_class, one.level): one for one in rig.spool.account().epochs[0].streams}
    assert (3, 3, 0) == _counts(streams[RowClass.TELEMETRY, Level.DETAILED])
    assert (1, 0, 1) == _counts(streams[TELEMETRY])


def test_a_collector_may_have_a_level_of_its_own(rig: Rig) -> None:
    rig.take(rows(1, level=Level.DEBUG), collector="loud")
    assert rig.intake.drain()
    assert [1] == rig.values()


def test_rows_that_a_grant_alone_admits_travel_under_its_name(rig: Rig) -> None:
    rig.policy.set_grants([Grant("g1", Level.DEBUG, "", None, rig.clocks.now + 60)])
    rig.take(rows(1), rows(2, level=Level.DEBUG))
    assert rig.intake.drain()
    assert [("", 1), ("g1", 1)] == sorted((held.grant, held.rows) for held in rig.spool.pending())


def test_a_grant_ends_by_the_monotonic_clock_alone(rig: Rig) -> None:
    rig.policy.set_grants([Grant("g1", Level.DEBUG, "", None, rig.clocks.now + 60)])
    rig.clocks.set_by_ns = 3600 * SECOND
    rig.take(rows(1, level=Level.DEBUG))
    rig.clocks.now += 61
    rig.clocks.set_by_ns = -3600 * SECOND
    rig.take(rows(2, level=Level.DEBUG))
    assert rig.intake.drain()
    assert [1] == rig.values()


def test_a_grant_for_a_class_admits_no_other(rig: Rig) -> None:
    rig.policy.set_grants([Grant("g1", Level.DEBUG, "host", RowClass.LOG, rig.clocks.now + 60)])
    rig.take(rows(1, level=Level.DEBUG), rows(2, level=Level.DEBUG, row_class=RowClass.LOG))
    assert rig.intake.drain()
    assert [] == rig.values()
    assert [2] == rig.values(row_class=RowClass.LOG)


@pytest.mark.parametrize("row_class", [RowClass.EVENT, RowClass.CAPABILITY])
def test_events_and_capabilities_are_essential_whatever_a_collector_says(rig: Rig, row_class: RowClass) -> None:
    rig.policy.configure(Level.ESSENTIAL, {})
    rig.take(rows(1, level=Level.DEBUG, row_class=row_class))
    assert rig.intake.drain()
    assert [1] == rig.values(row_class=row_class, level=Level.ESSENTIAL)

"""Collectors run on a fixed grid, spread over the fleet, and wait longer after each failure."""

import math
from itertools import pairwise

import pytest

from collectors.cadence import Agenda, Cadence, backoff, share


def test_ticks_do_not_drift() -> None:
    cadence = Cadence(10.0)
    cadence.begin(100.0, 3.0)
    seen = []
    for late in (0.0, 0.4, 1.9, 0.1):
        seen.append(cadence.due)
        cadence.ran(cadence.due + late)
    assert (seen, cadence.due) == ([103.0, 113.0, 123.0, 133.0], 143.0)


def test_tick_a_little_late_is_made_up_for() -> None:
    cadence = Cadence(10.0)
    cadence.begin(0.0, 0.0)
    assert (cadence.missed(2.4), cadence.due) == (0, 0.0)


@pytest.mark.parametrize(
    ("now", "missed", "due"), [(2.6, 1, 10.0), (12.0, 1, 10.0), (13.0, 2, 20.0), (99.9, 10, 100.0)]
)
def test_ticks_that_it_is_too_late_for_are_skipped_and_counted(now: float, missed: int, due: float) -> None:
    cadence = Cadence(10.0)
    cadence.begin(0.0, 0.0)
    assert (cadence.missed(now), cadence.due) == (missed, due)


def test_second_start_runs_at_once_and_returns_to_the_grid() -> None:
    cadence = Cadence(10.0)
    cadence.begin(0.0, 4.0)
    cadence.end()
    assert math.isinf(cadence.due)
    cadence.begin(57.0, 4.0)
    assert cadence.due == 57.0
    cadence.ran(57.0)
    assert cadence.due == 64.0


def test_shares_of_a_fleet_are_even() -> None:
    shares = sorted(share(f"node-{number}", "host") for number in range(1000))
    assert max(after - before for before, after in pairwise(shares)) < 0.02
    assert share("node-1", "host") == share("node-1", "host") != share("node-1", "syslog")


def test_backoff_doubles_up_to_its_bound() -> None:
    assert [backoff(attempt, 1.0, 60.0, 0.5) for attempt in (1, 2, 3, 7, 5000)] == [1.0, 2.0, 4.0, 60.0, 60.0]
    assert (backoff(1, 4.0, 60.0, 0.0), backoff(1, 4.0, 60.0, 1.0)) == (3.0, 5.0)


def test_events_of_a_device_bring_the_next_reading_forward_once_a_second() -> None:
    agenda = Agenda(60.0, 300.0)
    agenda.begin(0.0, 0.0, describes=True)
    assert agenda.collect(0.0) == 0.0
    assert agenda.describe(0.0)
    agenda.hurry(0.2, describes=True)
    agenda.hurry(0.3, describes=True)
    assert agenda.collect(0.9) is None
    assert agenda.collect(1.0) == 1.0
    assert agenda.next_tick == 60.0
    assert not agenda.describe(4.9)
    assert agenda.describe(5.0)


@pytest.mark.parametrize(("cost", "gap"), [(0.001, 0.25), (0.02, 0.4), (0.1, 2.0), (0.25, 5.0), (30.0, 5.0)])
def test_descriptions_that_events_ask_for_take_a_twentieth_of_the_time_at_most(cost: float, gap: float) -> None:
    """A cheap one follows an event at once, or nearly: whoever places devices waits for it."""
    agenda = Agenda(60.0, 300.0)
    agenda.begin(0.0, 0.0, describes=True)
    assert agenda.describe(0.0)
    agenda.took(cost)
    agenda.hurry(0.01, describes=True)
    assert not agenda.describe(gap - 0.001)
    assert agenda.describe(gap)
    agenda.hurry(gap + 50.0, describes=True)
    assert agenda.describe(gap + 50.0)

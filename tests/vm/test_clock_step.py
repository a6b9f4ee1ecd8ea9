"""`date -s` one hour forward and back, under load: nothing is lost or doubled, time tells what happened, nothing waits.

In a guest, so that the clock is the guest's own. The agent runs on the oracle, whose rows only a verbosity grant of ten
minutes admits, and on `host`. Requirements: R001-15, R003-1 (time follows the wall clock over a step, with an event).
"""

import json
from typing import Any

import pytest

from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.slow]

RATE = 300
SECONDS = 4
"""Before, between and after the steps, each."""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the guest said about its agent."""
    with Machine(f"python3.11 -m tests.vm.guest.clock_steps {RATE} {SECONDS}", memory=1024) as machine:
        lines = list(machine.lines(180))
        assert 0 == machine.exit_status, machine.console
    facts: dict[str, Any] = json.loads(lines[-1])
    assert 0 == facts["status"], machine.console
    return facts


def test_no_row_is_lost_and_none_is_there_twice(told: dict[str, Any]) -> None:
    """The oracle's numbers go on without a gap up to the committed position; every row is the one that was written."""
    assert told["in_order"]
    assert told["checks"]
    assert told["position"] == told["first"] + told["rows"]
    assert told["numbered"] == told["held"]


def test_both_steps_are_told_with_their_size(told: dict[str, Any]) -> None:
    assert [3600, -3600] == pytest.approx(told["steps"], abs=2)


def test_times_of_a_stream_increase_but_for_the_one_step_back(told: dict[str, Any]) -> None:
    assert 10 < len(told["backward"])
    for table, steps in told["backward"].items():
        assert len(steps) <= 1, table
        assert all(-3602 < step < -3580 for step in steps), table
    assert 1 == len(told["backward"]["oracle debug"])
    assert 1 == len(told["backward"]["load standard"])
    assert {0} == set(told["same_times"].values())


def test_the_schedule_follows_the_monotonic_clock(told: dict[str, Any]) -> None:
    """An hour forward makes nobody hurry; an hour back makes nobody wait."""
    seconds = told["seconds"]
    assert told["host_rows"] <= seconds + 8
    assert told["rows"] <= RATE * (seconds + 10)
    assert told["since_back"]["load standard"] >= 2
    assert told["since_back"]["oracle debug"] >= RATE  # all is emulated: how much it manages depends on who else works


def test_rows_never_claim_to_be_older_than_the_run(told: dict[str, Any]) -> None:
    """Lateness is told by a clock that no `date` can set."""
    assert 0 < told["offered_age_seconds"] <= told["seconds"] + 15


def test_a_grant_of_ten_minutes_outlives_an_hour_of_wall_clock(told: dict[str, Any]) -> None:
    """Only the grant admits the oracle's rows, and they go on to the end."""
    assert ["the-grant"] == told["grants"]

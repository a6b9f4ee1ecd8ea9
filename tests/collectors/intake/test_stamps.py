"""Times of a stream increase strictly, and follow the clock over a step."""

import time

import msgspec
import pytest

from schemas.verbosity import RowClass
from tests.collectors.intake.rig import SECOND, Rig, rows, times_of


def test_equal_and_earlier_times_of_a_stream_become_the_next_free_ones(rig: Rig) -> None:
    now = time.time_ns()
    rig.take(rows(1, 2, start=now), rows(3, start=now), rows(4, start=now - SECOND // 2))
    assert rig.intake.drain()
    assert [now, now + 1, now + 2, now + 3] == times_of(rig.blocks())


def test_rows_that_were_overtaken_by_seconds_do_not_turn_the_clock_back(rig: Rig) -> None:
    """A helper whose rows waited, beside one whose rows did not: no step of the clock."""
    now = time.time_ns()
    rig.take(rows(1, start=now))
    rig.take(rows(2, start=now - 5 * SECOND))
    assert rig.intake.drain()
    assert [now, now + 1] == times_of(rig.blocks())
    assert [] == rig.events()


def test_streams_do_not_push_one_another(rig: Rig) -> None:
    now = time.time_ns()
    rig.take(rows(1, start=now), rows(2, start=now, row_class=RowClass.LOG))
    assert rig.intake.drain()
    assert [now] == times_of(rig.blocks(RowClass.LOG))


def test_time_ahead_of_the_clock_is_not_believed(rig: Rig) -> None:
    """Else one such row would push every later one of the stream."""
    rig.take(rows(1, start=time.time_ns() + 3600 * SECOND))
    rig.take(rows(2))
    assert rig.intake.drain()
    assert all(at <= time.time_ns() + SECOND for at in times_of(rig.blocks()))


@pytest.mark.parametrize(("step", "told"), [(3600, 3600.0), (-3600, -3600.0)])
def test_a_step_of_the_clock_is_told_with_its_size_and_followed(rig: Rig, step: int, told: float) -> None:
    before = rig.clocks.wall_ns()
    rig.take(rows(1, start=before))
    rig.clocks.set_by_ns += step * SECOND
    after = rig.clocks.wall_ns()
    rig.take(rows(2, start=after))
    assert rig.intake.drain()
    assert [before, after] == times_of(rig.blocks())
    [detail] = [value for one in rig.blocks(RowClass.EVENT) for value in one.strings["detail"]]
    assert detail is not None
    assert told == pytest.approx(msgspec.json.decode(detail)["step_seconds"], abs=0.05)
    assert ["clock.step"] == rig.events()


def test_rows_from_before_a_step_back_that_come_after_it_do_not_lead_the_stream_away(rig: Rig) -> None:
    late = rig.clocks.wall_ns()
    rig.clocks.set_by_ns -= 3600 * SECOND
    rig.take(rows(1, start=rig.clocks.wall_ns()))
    rig.take(rows(2, start=late))
    rig.take(rows(3, start=rig.clocks.wall_ns()))
    assert rig.intake.drain()
    times = times_of(rig.blocks())
    assert sorted(set(times)) == times
    assert times[-1] < late - 3000 * SECOND


def test_a_clock_that_is_slewed_by_more_than_a_second_in_small_bits_tells_no_step(rig: Rig) -> None:
    for _ in range(20):
        rig.clocks.set_by_ns += SECOND // 10
        rig.take(rows(1, start=rig.clocks.wall_ns()))
    assert rig.intake.drain()
    assert [] == rig.events()

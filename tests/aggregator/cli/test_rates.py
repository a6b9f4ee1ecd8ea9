import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.cli.rates import Rates, Speed


def test_rate_is_growth_over_time_between_the_newest_two() -> None:
    rates = Rates()
    assert rates.note("vda", 10**9, {"bytes": 100}) == {}
    assert rates.note("vda", 3 * 10**9, {"bytes": 300}) == {"bytes": 100.0}


def test_the_same_reading_again_keeps_the_rate() -> None:
    rates = Rates()
    rates.note("vda", 10**9, {"bytes": 100})
    rates.note("vda", 3 * 10**9, {"bytes": 300})
    assert rates.note("vda", 3 * 10**9, {"bytes": 300}) == {"bytes": 100.0}


def test_a_counter_that_was_reset_has_no_rate_until_it_is_seen_twice_again() -> None:
    rates = Rates()
    rates.note("vda", 10**9, {"bytes": 100})
    assert rates.note("vda", 2 * 10**9, {"bytes": 5}) == {"bytes": None}
    assert rates.note("vda", 3 * 10**9, {"bytes": 6}) == {"bytes": 1.0}


def test_absent_counter_has_no_rate_and_not_zero() -> None:
    rates = Rates()
    rates.note("vda", 10**9, {"bytes": 100})
    assert rates.note("vda", 2 * 10**9, {"bytes": None}) == {"bytes": None}


def test_seed_stands_until_the_second_reading() -> None:
    rates = Rates()
    rates.seed("vda", {"bytes": 7.0})
    assert rates.note("vda", 10**9, {"bytes": 100}) == {"bytes": 7.0}
    assert rates.note("vda", 2 * 10**9, {"bytes": 101}) == {"bytes": 1.0}


@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=20))
def test_no_rate_is_ever_negative(values: list[int]) -> None:
    rates = Rates()
    for second, value in enumerate(values):
        rate = rates.note("x", second * 10**9, {"n": value}).get("n")
        assert rate is None or rate >= 0


def test_speed_is_over_the_span_and_absent_at_first() -> None:
    speed = Speed(10.0)
    assert speed.note(0.0, 0) is None
    assert speed.note(5.0, 50) == pytest.approx(10.0)
    assert [speed.note(float(second), 50) for second in range(6, 31)][-1] == 0.0


def test_speed_forgets_what_was_before_a_restart_from_zero() -> None:
    speed = Speed()
    speed.note(0.0, 1000)
    assert speed.note(1.0, 10) is None
    assert speed.note(2.0, 20) == pytest.approx(10.0)

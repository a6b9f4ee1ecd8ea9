"""What may be taken of something: in no time more than is said, and no less than has grown."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from collectors.ration import Ration

STEPS = st.lists(
    st.tuples(st.integers(0, 64), st.sampled_from(["take", "take", "take", "owe", "ready"]), st.integers(1, 30)),
    max_size=12,
)
"""Sixteenths of a second that pass, and what is done then, how often: exact as floats."""


@given(per_second=st.integers(1, 16), at_once=st.integers(1, 40), steps=STEPS)
def test_in_no_time_more_is_taken_than_may_be(per_second: int, at_once: int, steps: list[tuple[int, str, int]]) -> None:
    """Saved up or not, after a pause or in the middle of a burst: for each span of time there is one bound."""
    now = 0.0
    ration = Ration(per_second, at_once, lambda: now)
    taken: list[Fraction] = []
    for passed, _, count in steps:
        now += passed / 16
        taken += [Fraction(now)] * sum(ration.take() for _ in range(count))
    for first, since in enumerate(taken):
        for number, until in enumerate(taken[first:], 1):
            assert number <= at_once + per_second * (until - since)


@given(per_second=st.integers(1, 16), at_once=st.integers(1, 40), steps=STEPS)
def test_what_has_grown_and_is_not_owed_may_be_taken(
    per_second: int, at_once: int, steps: list[tuple[int, str, int]]
) -> None:
    now = 0.0
    ration = Ration(per_second, at_once, lambda: now)
    left = Fraction(at_once)
    for passed, deed, count in steps:
        now += passed / 16
        left = min(left + per_second * Fraction(passed, 16), Fraction(at_once))
        for _ in range(count):
            if deed == "owe":
                ration.owe()
                left -= 1
            else:
                assert (left >= 1) is (ration.take() if deed == "take" else ration.ready())
                left -= deed == "take" and left >= 1


@given(per_second=st.integers(1, 16), takes=st.integers(1, 200), pause=st.integers(0, 600))
def test_who_takes_no_more_than_grows_is_never_refused(per_second: int, takes: int, pause: int) -> None:
    now = float(pause)
    ration = Ration(per_second, 1, lambda: now)
    for _ in range(takes):
        assert ration.take()
        now += -(-1024 // per_second) / 1024


def test_a_ration_is_saved_up_to_what_may_come_at_once() -> None:
    now = [100.0]
    ration = Ration(2.0, 3, clock=lambda: now[0])

    def taken() -> int:
        return sum(ration.take() for _ in range(10))

    assert (3, 0) == (taken(), taken())
    now[0] += 1.0
    assert 2 == taken()
    now[0] += 1000.0
    assert 3 == taken()

"""Which snapshots are let go, and which never."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aggregator.ledger.thinning import DAY_NS, WEEK_NS, Listed, spare

NOW_NS = 1000 * WEEK_NS


def every(step_ns: int, count: int, entries: int = 10, base: int = 0) -> list[Listed]:
    """So many snapshots up to now, all as far apart."""
    return [
        Listed(entries * number, NOW_NS - (count - number) * step_ns, base if entries * number != base else 0)
        for number in range(1, count + 1)
    ]


def left(listed: list[Listed], most: int = 10**9) -> list[Listed]:
    """What stays."""
    gone = spare(listed, NOW_NS, most=most)
    return [one for one in listed if one.sequence not in gone]


def test_of_the_last_day_all_stay() -> None:
    listed = every(DAY_NS // 24, 24)
    assert listed == left(listed)


def test_of_four_weeks_one_a_day_stays_and_before_that_one_a_week() -> None:
    ages = [(NOW_NS - one.time_ns) / DAY_NS for one in left(every(DAY_NS // 4, 400))]
    days = [age for age in ages if 1 <= age < 28]
    weeks = [age for age in ages[1:] if age > 29]  # the first of all begins a week that it is not the first day of
    assert len(days) in (27, 28)
    assert {1.0} == {earlier - later for earlier, later in pairwise(days)}
    assert len(weeks) in (9, 10)
    assert {7.0} == {earlier - later for earlier, later in pairwise(weeks)}


def test_busy_ledger_keeps_as_many_as_its_answers_need() -> None:
    stay = left(every(DAY_NS // 100, 1000, entries=10), most=20)
    gaps = Counter(later.sequence - earlier.sequence for earlier, later in pairwise(stay) if later in stay[:-100])
    assert gaps.keys() == {10, 20}
    assert gaps[10] <= 10  # the first of a day stays as well


def test_what_another_was_compressed_against_stays_as_long_as_that() -> None:
    listed = every(DAY_NS // 100, 1000, base=50)
    assert 50 in [one.sequence for one in left(listed)]
    alone = [Listed(one.sequence, one.time_ns, 0) for one in listed]
    assert 50 not in [one.sequence for one in left(alone)]


def test_none_and_one_stay() -> None:
    assert [] == spare([], NOW_NS, most=10)
    assert [] == spare(every(WEEK_NS, 1), NOW_NS, most=10)


@st.composite
def histories(draw: st.DrawFn) -> list[Listed]:
    """Snapshots at any distances of time and entries, most of them against an older one."""
    listed: list[Listed] = []
    sequence, time_ns = 0, NOW_NS - draw(st.integers(0, 100)) * DAY_NS
    for _ in range(draw(st.integers(0, 60))):
        sequence += draw(st.integers(1, 30))
        time_ns = min(NOW_NS, time_ns + draw(st.integers(0, 3 * DAY_NS)))
        base = draw(st.sampled_from([0, *[one.sequence for one in listed[-5:] if not one.base]]))
        listed.append(Listed(sequence, time_ns, base))
    return listed


@given(histories(), st.integers(1, 100))
def test_whatever_the_history_no_answer_misses_what_it_needs(listed: list[Listed], most: int) -> None:
    """The newest two, the last day and every base stay; no gap grows beyond `most`; again, there is nothing more."""
    stay = left(listed, most)
    gone = {one.sequence for one in listed} - {one.sequence for one in stay}
    assert not gone & {one.sequence for one in listed[-2:]}
    assert not gone & {one.sequence for one in listed if NOW_NS - one.time_ns < DAY_NS}
    assert not gone & {one.base for one in listed}
    known = {(earlier.sequence, later.sequence) for earlier, later in pairwise(listed)}
    for earlier, later in pairwise([Listed(0, 0, 0), *stay]):
        assert later.sequence - earlier.sequence <= most or (earlier.sequence, later.sequence) in known | {
            (0, listed[0].sequence)
        }
    while (again := left(stay, most)) != stay:  # bases that are nobody's any more
        assert len(again) < len(stay)
        stay = again

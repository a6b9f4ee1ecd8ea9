"""Interval sets do what sets of numbers do, and stay sorted, disjoint and not adjacent."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.intervals import Interval, Intervals

pairs = st.tuples(st.integers(0, 60), st.integers(0, 60))
many = st.lists(pairs, max_size=25)


def numbers(intervals: list[Interval]) -> set[int]:
    """Give the model: the numbers themselves."""
    return {number for first, end in intervals for number in range(first, end)}


def normal(model: set[int]) -> list[Interval]:
    """Give the one form in which a set of numbers is kept."""
    firsts = sorted(number for number in model if number - 1 not in model)
    ends = sorted(number + 1 for number in model if number + 1 not in model)
    return list(zip(firsts, ends, strict=True))


@given(many)
def test_adding_gives_the_union_in_normal_form_and_counts_what_was_new(added: list[Interval]) -> None:
    kept, model = Intervals(), set[int]()
    for first, end in added:
        new = set(range(first, end)) - model
        model |= new
        assert len(new) == kept.add(first, end)
        assert normal(model) == kept.pairs()
        assert len(model) == kept.count
        assert max(model, default=-1) + 1 == kept.end


@given(many, pairs)
def test_missing_gives_the_holes_of_a_range_in_order(added: list[Interval], asked: Interval) -> None:
    assert normal(set(range(*asked)) - numbers(added)) == Intervals(added).missing(*asked)


@given(many, pairs)
def test_contains_is_the_subset_relation(added: list[Interval], asked: Interval) -> None:
    assert (set(range(*asked)) <= numbers(added)) == Intervals(added).contains(*asked)


@given(many, many)
def test_minus_gives_the_difference_and_leaves_both_alone(left: list[Interval], right: list[Interval]) -> None:
    first, second = Intervals(left), Intervals(right)
    assert normal(numbers(left) - numbers(right)) == first.minus(second).pairs()
    assert (normal(numbers(left)), normal(numbers(right))) == (first.pairs(), second.pairs())


@given(many, many)
def test_update_gives_the_union(left: list[Interval], right: list[Interval]) -> None:
    kept = Intervals(left)
    kept.update(right)
    assert normal(numbers(left) | numbers(right)) == kept.pairs()


@given(many, st.randoms())
def test_the_order_of_adding_does_not_matter(added: list[Interval], random: Random) -> None:
    shuffled = random.sample(added, len(added))
    assert Intervals(added) == Intervals(shuffled)


@given(many, pairs)
def test_a_copy_changes_on_its_own(added: list[Interval], more: Interval) -> None:
    kept = Intervals(added)
    twin = kept.copy()
    twin.add(*more)
    assert normal(numbers(added)) == kept.pairs()
    assert normal(numbers([*added, more])) == twin.pairs()


def test_the_empty_set_is_false_and_counts_nothing() -> None:
    empty = Intervals()
    assert (False, 0, 0, []) == (bool(empty), empty.count, empty.end, empty.pairs())
    assert bool(Intervals([(0, 1)]))


def test_numbers_in_order_stay_one_pair_however_many() -> None:
    kept = Intervals()
    for first in range(0, 100_000, 10):
        kept.add(first, first + 10)
    assert [(0, 100_000)] == kept.pairs()


def test_a_hole_is_known_where_a_high_water_mark_would_hide_it() -> None:
    kept = Intervals([(0, 10), (20, 30)])
    assert [(10, 20)] == kept.missing(0, 30)


def test_an_empty_or_reversed_interval_adds_nothing() -> None:
    kept = Intervals([(5, 5), (9, 3)])
    assert [] == kept.pairs()


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="start at 0"):
        Intervals().add(-1, 4)


def test_numbers_of_64_bits_are_exact() -> None:
    kept = Intervals([(2**62 - 2, 2**62), (0, 1)])
    assert [(1, 2**62 - 2)] == kept.missing(0, 2**62)
    assert 3 == kept.count

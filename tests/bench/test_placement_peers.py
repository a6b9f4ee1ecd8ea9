"""The bench of who gives one thing twice can tell."""

import itertools
import threading

import pytest

from tests.bench.bench_placement_peers import Races, race, tally


def test_who_asks_and_gives_in_one_step_gives_once() -> None:
    lock = threading.Lock()
    assert 1 == race(lambda _: lock.acquire(blocking=False), 16)


def test_who_asks_first_and_gives_later_gives_twice() -> None:
    """All writers are let go at once, so all of them find it free."""
    asked = threading.Barrier(16)
    given: list[int] = []

    def claim(number: int) -> bool:
        free = not given
        asked.wait(30)
        given.append(number)
        return free

    assert 16 == race(claim, 16)


def test_a_writer_that_fails_fails_the_race() -> None:
    numbers = itertools.count()

    def claim(_: int) -> bool:
        if next(numbers) == 3:
            raise OSError("no such luck")
        return True

    with pytest.raises(OSError, match="no such luck"):
        race(claim, 4)


def test_every_trial_in_which_more_than_one_was_granted_it_is_a_violation() -> None:
    assert Races(4, 2, 5) == tally([1, 2, 1, 5])


def test_a_trial_in_which_nobody_was_granted_it_measures_nothing() -> None:
    with pytest.raises(AssertionError, match="nobody"):
        tally([1, 0])

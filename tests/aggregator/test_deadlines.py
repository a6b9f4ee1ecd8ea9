"""What takes too long is interrupted, what ends in time never is, and one thread sees to all of it."""

import threading
import time

from aggregator.deadlines import Deadlines


def watchers() -> int:
    return sum(thread.name == "deadlines" for thread in threading.enumerate())


def test_what_takes_too_long_is_interrupted_once() -> None:
    deadlines = Deadlines(0.05)
    interrupted = threading.Event()
    calls: list[int] = []

    def interrupt() -> None:
        calls.append(1)
        interrupted.set()

    with deadlines.watch(interrupt):
        began = time.monotonic()
        assert interrupted.wait(10)
        assert time.monotonic() - began >= 0.04
        time.sleep(0.15)
    assert [1] == calls


def test_what_ends_in_time_is_left_alone() -> None:
    deadlines = Deadlines(0.1)
    calls: list[int] = []
    for _ in range(50):
        with deadlines.watch(lambda: calls.append(1)):
            pass
    time.sleep(0.3)
    assert [] == calls


def test_each_of_many_has_its_own_time_and_all_have_one_thread() -> None:
    before = watchers()
    deadlines = Deadlines(0.2)
    calls: list[str] = []
    with deadlines.watch(lambda: calls.append("first")):
        time.sleep(0.1)
        with deadlines.watch(lambda: calls.append("second")):
            assert before + 1 == watchers()
            until = time.monotonic() + 10
            while len(calls) < 2 and time.monotonic() < until:
                time.sleep(0.01)
    assert ["first", "second"] == calls


def test_the_thread_ends_when_nothing_is_watched_and_comes_back() -> None:
    before = watchers()
    deadlines = Deadlines(0.05)
    for _ in range(2):
        interrupted = threading.Event()
        with deadlines.watch(interrupted.set):
            assert interrupted.wait(10)
        until = time.monotonic() + 10
        while watchers() > before and time.monotonic() < until:
            time.sleep(0.01)
        assert watchers() <= before  # those of other tests may end meanwhile

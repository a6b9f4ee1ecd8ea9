"""A few threads serve many publishers: each gets its turn, soon when it has something new, late when it failed."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from collectors.fleet_costs import Costs
from collectors.fleet_senders import PooledSender, Senders
from collectors.transport import Transport


class Scripted:
    """Answers each attempt with the next of some waits, then with a long one."""

    def __init__(self, *waits: float, backing_off: bool = False, takes: float = 0.0) -> None:
        self.waits = list(waits)
        self.backing_off = backing_off
        self.takes = takes
        self.attempts = 0
        self.inside = 0
        self.most_inside = 0
        self.lock = threading.Lock()

    def attempt(self) -> float:
        """Count."""
        with self.lock:
            self.attempts += 1
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        time.sleep(self.takes)
        with self.lock:
            self.inside -= 1
        return self.waits.pop(0) if self.waits else 60.0


@contextmanager
def sending(*publishers: Scripted, threads: int = 2, first: float = 0.0) -> Iterator[Senders]:
    sender = PooledSender(lambda: Transport(["unix:///nowhere"]))
    senders = Senders(publishers, sender, Costs(), threads)
    senders.start([first] * len(publishers))
    try:
        yield senders
    finally:
        senders.stop()


def until_attempts(publisher: Scripted, count: int) -> None:
    deadline = time.monotonic() + 60.0
    while publisher.attempts < count and time.monotonic() < deadline:
        time.sleep(0.005)
    assert publisher.attempts == count


def test_everybody_gets_a_turn() -> None:
    publishers = [Scripted() for _ in range(50)]
    with sending(*publishers):
        for one in publishers:
            until_attempts(one, 1)


def test_who_has_more_to_say_goes_on_at_once() -> None:
    publisher = Scripted(0.0, 0.0, 0.01)
    with sending(publisher):
        until_attempts(publisher, 4)


def test_something_new_brings_the_turn_forward() -> None:
    publisher = Scripted()
    with sending(publisher, first=60.0) as senders:
        senders.wake([0])
        until_attempts(publisher, 1)


def test_something_new_does_not_cut_a_back_off_short() -> None:
    publisher = Scripted(backing_off=True)
    with sending(publisher, first=60.0) as senders:
        senders.wake([0])
        time.sleep(0.1)
    assert publisher.attempts == 0


def test_a_publisher_is_never_served_by_two_threads_at_once() -> None:
    """Its numbers and acknowledgements are in order only then."""
    publisher = Scripted(takes=0.02)
    with sending(publisher, threads=4) as senders:
        for _ in range(20):
            senders.wake([0])
            time.sleep(0.005)
    assert publisher.most_inside == 1


def test_what_comes_while_a_request_is_under_way_is_sent_after_it() -> None:
    publisher = Scripted(takes=0.1)
    with sending(publisher) as senders:
        time.sleep(0.03)
        senders.wake([0])
        until_attempts(publisher, 2)


def test_a_slow_publisher_does_not_hold_up_the_others() -> None:
    slow, quick = Scripted(takes=1.0), Scripted(0.0, 0.0, 0.0)
    with sending(slow, quick):
        until_attempts(quick, 4)
        assert slow.attempts == 1

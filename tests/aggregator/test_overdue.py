"""What waits too long is told in order, and telling it looks at nothing else."""

from aggregator.overdue import Overdue


class Waiting:
    """What waits still, and how often that was asked."""

    def __init__(self) -> None:
        self.these: set[int] = set()
        self.asked = 0

    def __call__(self, one: int) -> bool:
        self.asked += 1
        return one in self.these


def test_the_longest_is_told_first_until_it_waits_no_more() -> None:
    waiting = Waiting()
    waiting.these |= {1, 2, 3}
    overdue: Overdue[int] = Overdue(10.0, waiting)
    for at, one in enumerate((2, 1, 3)):
        overdue.begin(one, float(at))
    overdue.begin(2, 9.0)  # it has begun already
    assert [] == overdue.due(9.9)
    assert [2] == overdue.due(10.0)
    assert [2, 1] == overdue.due(11.0)
    waiting.these.discard(2)
    assert [1, 3] == overdue.due(12.0)
    assert 2 == len(overdue)


def test_a_look_does_not_go_through_all_that_waits() -> None:
    waiting = Waiting()
    waiting.these |= set(range(100_000))
    overdue: Overdue[int] = Overdue(10.0, waiting)
    for one in range(100_000):
        overdue.begin(one, one / 1000)
    waiting.asked = 0
    assert 1 == len(overdue.due(10.0))
    assert 2 == waiting.asked


def test_what_ended_before_its_time_is_not_kept() -> None:
    """A thousand a second that each take a moment, behind one that hangs: nothing adds up."""
    waiting = Waiting()
    waiting.these.add(0)
    overdue: Overdue[int] = Overdue(300.0, waiting)
    for one in range(100_000):
        overdue.begin(one, one / 1000)
    assert len(overdue) < 3000
    assert [0] == overdue.due(300.0)

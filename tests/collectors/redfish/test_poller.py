"""Units are read when they are due, each by one thread at a time, by as many as are needed."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from collectors.redfish.handing import WAITING
from collectors.redfish.poller import Poller
from schemas.rows import Item, Reading

PATIENCE = 30.0


class FakeBmc(NamedTuple):
    label: str


class FakeClient:
    def __init__(self) -> None:
        self.aborted = threading.Event()
        self.closed = False
        self.given_up = False

    def give_up(self) -> None:
        self.given_up = True

    def abort(self) -> None:
        self.aborted.set()

    def close(self) -> None:
        self.closed = True


class FakeUnit:
    """A BMC whose reading takes as long as is said, or until it is hung up on."""

    def __init__(self, label: str, seconds: float = 0.0, every: float = 3600.0) -> None:
        self.bmc = FakeBmc(label)
        self.client = FakeClient()
        self.due = self.began = float("-inf")
        self.removed = self.broken = False
        self.read_at: list[float] = []
        self.together = 0
        self._inside = 0
        self._seconds, self._every = seconds, every

    def read(self) -> Iterator[Item]:
        self._inside += 1
        self.together = max(self.together, self._inside)
        self.began = time.monotonic()
        self.read_at.append(self.began)
        self.client.aborted.wait(self._seconds)
        self._inside -= 1
        self.due = self.began + self._every
        if self.broken:
            raise RuntimeError("a fault of ours")
        yield Reading("bmc_reader", {"state": self.bmc.label})

    def hurry(self, now: float) -> float:
        return now

    def open_stream(self) -> None:
        return None


@pytest.fixture
def pollers() -> Iterator[list[Poller]]:
    made: list[Poller] = []
    yield made
    for poller in made:
        poller.close(PATIENCE)


def polling(pollers: list[Poller], at_once: int, *units: FakeUnit, every: float = 0.0) -> Poller:
    poller = Poller(at_once, every)
    pollers.append(poller)
    poller.add(units)  # type: ignore[arg-type]
    return poller


def told(poller: Poller, count: int) -> list[Any]:
    """Wait for so many rows."""
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} rows came"
        found += [one.fields["state"] for one in poller.take(0.1)]  # type: ignore[union-attr]
    return found


def test_all_are_read_together_though_each_takes_long(pollers: list[Poller]) -> None:
    units = [FakeUnit(str(index), seconds=0.5) for index in range(20)]
    poller = polling(pollers, 20, *units, every=10.0)
    began = time.monotonic()
    assert {unit.bmc.label for unit in units} == set(told(poller, 20))
    assert time.monotonic() - began < 5.0  # one after the other is 10 s


def test_no_more_are_read_at_once_than_may_be(pollers: list[Poller]) -> None:
    units = [FakeUnit(str(index), seconds=0.2) for index in range(6)]
    poller = polling(pollers, 2, *units)
    began = time.monotonic()
    told(poller, 6)
    assert time.monotonic() - began >= 0.55
    times = sorted(unit.read_at[0] for unit in units)
    assert times[2] - times[0] >= 0.15


def test_who_hangs_delays_nobody_else(pollers: list[Poller]) -> None:
    hanging = [FakeUnit(f"h{index}", seconds=PATIENCE) for index in range(3)]
    quick = FakeUnit("quick", every=0.01)
    poller = polling(pollers, 4, *hanging, quick)
    assert {"quick"} == set(told(poller, 10))


def test_one_is_never_read_twice_at_a_time_however_often_it_is_hurried(pollers: list[Poller]) -> None:
    unit = FakeUnit("u", seconds=0.02)
    poller = polling(pollers, 8, unit, FakeUnit("v"))
    for _ in range(50):
        poller.hurry(unit)  # type: ignore[arg-type]
        time.sleep(0.002)
    told(poller, 3)
    assert 1 == unit.together


def test_who_is_hurried_is_read_at_once(pollers: list[Poller]) -> None:
    unit = FakeUnit("u")
    poller = polling(pollers, 2, unit)
    told(poller, 1)
    poller.hurry(unit)  # type: ignore[arg-type]
    assert ["u"] == told(poller, 1)


def test_a_fault_of_ours_is_one_bmcs_alone(pollers: list[Poller]) -> None:
    broken, sound = FakeUnit("broken"), FakeUnit("sound", every=0.01)
    broken.broken = True
    assert {"sound"} == set(told(polling(pollers, 2, broken, sound), 5))


def test_a_stream_that_cannot_be_opened_for_a_fault_of_ours_stops_no_readings(pollers: list[Poller]) -> None:
    class Broken(FakeUnit):
        def open_stream(self) -> None:
            raise RuntimeError("a fault of ours")

    assert {"broken"} == set(told(polling(pollers, 1, Broken("broken", every=0.01)), 3))


def test_who_is_removed_is_read_no_more(pollers: list[Poller]) -> None:
    gone, stays = FakeUnit("gone", every=0.01), FakeUnit("stays", every=0.01)
    poller = polling(pollers, 2, gone, stays)
    told(poller, 4)
    assert ["gone"] == [unit.bmc.label for unit in poller.remove(["gone", "nobody"])]
    told(poller, 10)
    count = len(gone.read_at)
    told(poller, 20)
    assert (count, True) == (len(gone.read_at), gone.removed)


def test_the_end_waits_for_nobody_who_hangs() -> None:
    before = threading.active_count()
    poller = Poller(4, 1.0)
    poller.add([FakeUnit(str(index), seconds=PATIENCE) for index in range(4)])  # type: ignore[misc]
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() < before + 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    began = time.monotonic()
    poller.close(5.0)
    poller.close(5.0)
    assert time.monotonic() - began < 3.0
    assert before == threading.active_count()
    poller.add([FakeUnit("late")])  # type: ignore[list-item]
    assert before == threading.active_count()


class LongUnit(FakeUnit):
    """A BMC that has much to tell, bit by bit."""

    def __init__(self, label: str, rows: int, pause: float = 0.0) -> None:
        super().__init__(label)
        self.told, self._rows, self._pause = 0, rows, pause

    def read(self) -> Iterator[Item]:
        for _ in range(self._rows):
            self.told += 1
            yield Reading("bmc_reader", {"state": self.bmc.label})
            self.client.aborted.wait(self._pause)
        self.due = time.monotonic() + 3600.0


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_rows_are_handed_on_while_the_rest_of_the_reading_takes_its_time(pollers: list[Poller]) -> None:
    slow = LongUnit("slow", rows=1000, pause=PATIENCE)
    assert ["slow"] == told(polling(pollers, 1, slow), 1)
    assert 1 == slow.told


def test_rows_that_nobody_takes_make_bmcs_wait_and_none_is_lost(pollers: list[Poller]) -> None:
    unit = LongUnit("u", rows=WAITING + 100)
    poller = polling(pollers, 2, unit)
    until(lambda: unit.told == WAITING + 1)
    time.sleep(0.3)
    assert WAITING + 1 == unit.told
    assert WAITING + 100 == len(told(poller, WAITING + 100))


def test_the_end_waits_for_nobody_whose_rows_are_not_taken() -> None:
    before = threading.active_count()
    unit = LongUnit("u", rows=2 * WAITING)
    poller = Poller(1, 1.0)
    poller.add([unit])  # type: ignore[list-item]
    until(lambda: unit.told == WAITING + 1)
    began = time.monotonic()
    poller.close(PATIENCE)
    assert time.monotonic() - began < 3.0
    assert before == threading.active_count()


def test_what_is_left_at_a_bmc_is_taken_back_when_nobody_reads_it_any_more(pollers: list[Poller]) -> None:
    unit, left = LongUnit("u", rows=3, pause=0.3), threading.Event()
    poller = polling(pollers, 1, unit)
    told(poller, 1)
    [gone] = poller.remove(["u"])
    poller.part(gone, left.set)
    assert (True, False) == (unit.client.given_up, left.is_set())
    assert left.wait(PATIENCE)
    assert unit.told < 3, "a reading of what is read no more is not gone on with"
    assert [] == poller.take(0.0)

"""A long backlog costs no more a request than a short one: what is looked at is what is sent or given up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.publisher import REQUEST_EPOCHS, choose, name_epochs
from collectors.spool import Held, NewBatch, Spool
from collectors.spooled import Waiting
from schemas.verbosity import Level, RowClass


class CountingWaiting(Waiting):
    """Counts the batches that are looked at."""

    looked = 0

    def oldest(self, *classes: RowClass, level: Level | None = None) -> Iterator[Held]:
        """See `Waiting`."""
        return self._counted(super().oldest(*classes, level=level))

    def newest(self, *classes: RowClass) -> Iterator[Held]:
        """See `Waiting`."""
        return self._counted(super().newest(*classes))

    def _counted(self, batches: Iterator[Held]) -> Iterator[Held]:
        for held in batches:
            self.looked += 1
            yield held


def a_batch(
    number: int,
    row_class: RowClass = RowClass.TELEMETRY,
    level: Level = Level.STANDARD,
    epoch: str = "e",
    size: int = 10,
) -> Held:
    return Held(number, epoch, row_class, level, number, 1, number, size, "", "", 0, 0, "boot")


def filled(count: int) -> CountingWaiting:
    waiting = CountingWaiting()
    for number in range(count):
        waiting.add(a_batch(number, level=Level(number % 2)))
    return waiting


@pytest.mark.parametrize("count", [1_000, 100_000])
def test_a_request_looks_at_no_more_batches_than_it_takes(count: int) -> None:
    waiting = filled(count)

    chosen = choose(waiting)

    assert len(chosen) == 256
    assert waiting.looked <= 256 + 2


def test_the_newest_and_the_oldest_travel_side_by_side() -> None:
    chosen = choose(filled(10), limit_batches=4)

    assert [held.id for held in chosen] == [0, 1, 8, 9]


def test_everything_is_chosen_once_when_the_ends_meet() -> None:
    for count in range(12):
        assert [held.id for held in choose(filled(count))] == list(range(count))


def test_events_and_documents_go_before_everything_else() -> None:
    waiting = filled(10)
    waiting.add(a_batch(10, RowClass.EVENT, Level.ESSENTIAL))
    waiting.add(a_batch(11, RowClass.CAPABILITY, Level.ESSENTIAL))

    assert [held.id for held in choose(waiting, limit_batches=2)] == [10, 11]
    assert [held.id for held in choose(waiting, limit_batches=3)] == [9, 10, 11]


def test_a_batch_larger_than_a_request_travels_alone() -> None:
    waiting = Waiting()
    waiting.add(a_batch(0, size=900))
    waiting.add(a_batch(1, size=5000))

    assert [held.id for held in choose(waiting, limit_bytes=1000)] == [1]


def test_a_backlog_drains_in_both_directions_without_looking_at_what_is_gone() -> None:
    """What was released leaves no trace that later requests would have to step over."""
    waiting = filled(20_000)
    requests = 0
    while len(waiting):
        for held in choose(waiting):
            waiting.release(held)
        requests += 1

    assert requests == 79  # 20,000 / 256
    assert waiting.looked <= 20_000 + 3 * requests


def test_giving_up_looks_only_at_what_it_gives_up(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool.db", "node", "boot", max_bytes=1 << 30, synchronous="OFF")
    waiting = spool.waiting = CountingWaiting()
    spool.commit(NewBatch(RowClass.TELEMETRY, Level(number % 2), 1, b"x" * 10) for number in range(10_000))

    assert spool.give_up(size=1000) == 1000
    assert waiting.looked <= 100 + 2
    assert {held.level for held in waiting.oldest(*RowClass)} == {Level.ESSENTIAL, Level.STANDARD}


def test_a_document_that_is_sent_supersedes_nothing_later() -> None:
    """An older document stays superseded after the newer one was sent; the newest of a device never is."""
    waiting = Waiting()
    for number, device in enumerate(("a", "b", "a", "a")):
        held = a_batch(number, RowClass.CAPABILITY, Level.ESSENTIAL)
        held.document = device
        waiting.add(held)

    assert [held.id for held in waiting.superseded()] == [0, 2]
    newest = waiting.get(3)
    assert newest is not None
    waiting.release(newest)
    assert [held.id for held in waiting.superseded()] == [0, 2]


def test_a_request_names_at_most_as_many_epochs_as_are_taken() -> None:
    """After a hundred restarts without an aggregator the rows still get through, those of few epochs at a time."""
    waiting = Waiting()
    for number in range(200):
        waiting.add(a_batch(number, epoch=f"e{number // 2}"))
    predecessors = [f"e{number}" for number in reversed(range(100))]

    chosen = choose(waiting)
    named = name_epochs(predecessors, chosen, "live")

    assert len(named) <= REQUEST_EPOCHS
    assert {held.epoch for held in chosen} <= set(named)
    assert named == [epoch for epoch in predecessors if epoch in set(named)]
    assert name_epochs(predecessors, [], "live") == predecessors[:REQUEST_EPOCHS]

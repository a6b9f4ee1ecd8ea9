"""Runs that are over: their counts stay exactly, their numbers go, and nothing of them is ever stored twice."""

from collections.abc import Callable, Iterator

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from aggregator import settling
from aggregator.balance import Line
from aggregator.past import Standing
from aggregator.quarantine import INGEST, intervals
from aggregator.settling import GRACE_SECONDS, OPEN_RUNS
from aggregator.store import Outcome
from schemas.verbosity import RowClass
from tests.aggregator.balance.settled import DAY, HOUR, PUBLISHER, Aggregator, World


@pytest.fixture
def world() -> Iterator[World]:
    made = World(True)
    yield made
    made.close()


def one_run(world: World, *, drain: bool = True) -> None:
    """Go through a run whose rows end in every place there is for good, and begin the next one."""
    world.produce(10, filtered=3)
    world.produce(5)
    world.produce(4)
    world.produce(2)
    world.send()
    world.refuse()
    world.drop()
    if drain:
        world.send()
    world.speak()
    world.restart(keep=drain)
    world.speak()


def over(world: World) -> None:
    """Let the log forget all of it."""
    world.consume()
    world.trim("telemetry")
    world.trim("event")
    world.pass_by(HOUR)


def kept(aggregator: Aggregator) -> tuple[int, int, int, int]:
    """How much is kept by number: in memory, in the store, in the words, in the control database."""
    word = aggregator.tracker.words[PUBLISHER]
    aside = aggregator.control.now(lambda connection: intervals(connection, INGEST))
    seen = len({one.stream for one in aggregator.store.progress.seen})
    return len(aggregator.tracker.streams()), seen, len(word.account.epochs) + len(word.ended), len(aside)


def ageless(lines: list[Line]) -> list[Line]:
    return [msgspec.structs.replace(line, word_age_seconds=None) for line in lines]


def total(lines: list[Line], place: str) -> int:
    return sum(int(getattr(line, place)) for line in lines)


def test_a_drained_run_is_settled_once_the_log_holds_nothing_of_it(world: World) -> None:
    [aggregator] = world.aggregators
    one_run(world)
    world.consume()
    world.settle()
    assert (1, 1, 3, 1) == kept(aggregator)
    before = aggregator.lines()

    over(world)
    world.speak()
    world.settle()
    world.settle()

    [line] = after = aggregator.lines()
    assert (0, 0, 1, 0) == kept(aggregator)
    assert ageless(before) == ageless(after)
    assert (24, 3, 21, 12, 5, {"spool_full": 4}, 0) == (
        line.produced,
        line.filtered_at_source,
        line.numbered,
        line.done,
        line.quarantined,
        line.dropped,
        line.unaccounted,
    )


def test_a_run_of_which_the_consumer_has_something_to_read_is_not_settled(world: World) -> None:
    one_run(world)
    world.trim("event")
    world.pass_by(HOUR)
    world.settle()

    assert total(world.aggregators[0].lines(), "in_log") == 12
    over(world)
    world.settle()
    assert total(world.aggregators[0].lines(), "done") == 12


def test_stranded_rows_may_come_back_for_a_month_and_stay_counted_afterwards(world: World) -> None:
    [aggregator] = world.aggregators
    one_run(world, drain=False)
    over(world)
    world.pass_by(int(GRACE_SECONDS * 1e9) - DAY)
    world.speak()
    world.settle()
    assert aggregator.tracker.streams()

    world.pass_by(DAY)
    world.settle()

    assert not aggregator.tracker.streams()
    assert (2, 0) == (total(aggregator.lines(), "stranded"), total(aggregator.lines(), "unaccounted"))
    world.decommission()
    assert (0, 2) == (total(aggregator.lines(), "stranded"), total(aggregator.lines(), "lost"))
    world.settle()
    aggregator.restart()
    assert (0, 2) == (total(aggregator.lines(), "stranded"), total(aggregator.lines(), "lost"))


def test_a_run_with_rows_in_no_place_is_kept_as_evidence(world: World) -> None:
    [aggregator] = world.aggregators
    world.produce(7)
    world.spool.clear()
    one_run(world)
    over(world)
    world.pass_by(2 * int(GRACE_SECONDS * 1e9))
    world.settle()

    assert aggregator.tracker.streams()
    assert 7 == total(aggregator.lines(), "unaccounted")


def test_many_runs_of_one_publisher_take_bounded_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leaves rows stranded, which may still come back: the oldest are settled all the same."""
    monkeypatch.setattr(settling, "OPEN_RUNS", 5)
    [aggregator] = world.aggregators
    for _ in range(20):
        one_run(world, drain=False)
        over(world)
        world.speak()
        world.settle()

    assert len(aggregator.tracker.streams()) <= 5
    lines = aggregator.lines()
    assert (20 * 21, 20 * 2, 0) == (
        total(lines, "numbered"),
        total(lines, "stranded"),
        total(lines, "unaccounted"),
    )
    assert OPEN_RUNS >= 100


def test_a_batch_of_a_settled_run_that_comes_again_is_not_stored_and_not_counted_twice(world: World) -> None:
    [aggregator] = world.aggregators
    one_run(world)
    over(world)
    world.settle()
    before, stored = aggregator.lines(), list(aggregator.stored)

    world.append(world.sent[0])
    world.consume()

    assert [Standing.SETTLED] == aggregator.refused
    assert stored == aggregator.stored
    assert ageless(before) == ageless(aggregator.lines())


def test_a_log_put_back_from_an_older_copy_repeats_what_was_settled(world: World) -> None:
    [aggregator] = world.aggregators
    one_run(world)
    over(world)
    world.settle()
    stored = list(aggregator.stored)

    world.log.begins.clear()
    for topic in world.log.records:
        aggregator.tracker.move(topic, 0, 0)
    world.consume()

    assert {Standing.REPEATED} == set(aggregator.refused)
    assert stored == aggregator.stored
    assert (0, 21) == (total(aggregator.lines(), "unaccounted"), total(aggregator.lines(), "numbered"))


def test_a_run_that_no_word_ever_told_of_ends_when_another_one_speaks(world: World) -> None:
    [aggregator] = world.aggregators
    world.produce(10)
    world.send()
    world.restart(keep=False)
    world.speak()
    over(world)
    for _ in range(2):
        world.settle()  # the first time its word may yet come
    world.pass_by(int(GRACE_SECONDS * 1e9))
    world.settle()

    assert not aggregator.tracker.streams()
    assert 10 == total(aggregator.lines(), "done")


def test_a_word_that_expired_unread_brings_no_settled_run_back(world: World) -> None:
    """It was kept aside when it expired, with every run that it told of."""
    [aggregator] = world.aggregators
    one_run(world)
    world.trim("event")
    over(world)
    world.settle()
    before = aggregator.lines()

    world.settle()
    aggregator.restart()

    assert before == aggregator.lines()
    assert [] == [one.account.epochs for one in aggregator.expiry.words("store") if len(one.account.epochs) > 1]


OUTCOMES = st.sampled_from([Outcome.DONE, Outcome.FILTERED, Outcome.QUARANTINED])
TOPIC = st.sampled_from(["telemetry", "event"])
CLASS = st.sampled_from([RowClass.TELEMETRY, RowClass.EVENT])
Step = tuple[object, ...]
WORK = st.one_of(
    st.tuples(st.just("produce"), st.integers(0, 9), st.integers(0, 3), CLASS),
    st.tuples(st.just("produce"), st.integers(1, 9), st.just(0), CLASS),
    st.tuples(st.just("send"), st.integers(0, 9)),
    st.tuples(st.sampled_from(["refuse", "drop", "speak", "again"])),
    st.tuples(st.just("read"), TOPIC, OUTCOMES),
    st.tuples(st.just("trim"), TOPIC, st.integers(1, 5)),
)
UPKEEP = st.one_of(
    st.tuples(st.sampled_from(["drain", "speak", "over", "again"])),
    st.tuples(st.just("consume"), st.permutations(["telemetry", "event"])),
    st.tuples(st.just("pass_by"), st.sampled_from([HOUR, 31 * DAY])),
    st.tuples(st.sampled_from(["settle", "killed before", "killed after"])),
)
ENDING: list[Step] = [("drain",), ("speak",), ("over",), ("speak",), ("settle",)]
"""How a run ends as it should; a history leaves some of it out."""


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """Give the lives of several runs, each with what is done while and after it."""
    steps: list[Step] = []
    for _ in range(draw(st.integers(2, 5))):
        steps += draw(st.lists(WORK, min_size=2, max_size=10))
        steps.append(("restart", draw(st.integers(0, 3)) > 0))
        steps += [step for step in ENDING if draw(st.integers(0, 7))]
        steps += draw(st.lists(UPKEEP, max_size=5))
    return steps + [("decommission",)] * draw(st.integers(0, 1))


_TELLING = {"again", "consume", "settle", "killed before", "killed after"}
"""After these steps the balance is looked at, and at the end."""


def take(world: World, step: Step, settles: Aggregator) -> None:
    """Do one step of a history, if it can be done now."""
    name, *more = step
    if name == "again":
        if world.sent:
            world.append(world.sent[len(world.log.records) % len(world.sent)])
    elif name == "over":
        over(world)
    elif name == "drain":
        while world.spool:
            world.send()
    elif name == "consume":
        world.consume(topics=more[0])  # type: ignore[arg-type]
    elif name == "killed before":
        settles.settle()
        settles.restart()
    elif name == "killed after":
        world.settle()
        settles.restart()
    elif name == "restart":
        world.restart(keep=bool(more[0]))
    elif name not in {"send", "refuse", "drop"} or world.spool:
        method: Callable[..., None] = getattr(world, str(name))
        method(*more)


@settings(max_examples=40)
@given(histories())
def test_the_balance_is_the_same_with_and_without_settling(steps: list[Step]) -> None:
    world = World(True, False)
    settles, keeps = world.aggregators
    try:
        for step in steps:
            take(world, step, settles)
            if str(step[0]) in _TELLING:
                assert keeps.lines() == settles.lines()
        assert keeps.lines() == settles.lines()
        assert keeps.stored == settles.stored
        assert len(settles.stored) == len(set(settles.stored))
    finally:
        world.close()

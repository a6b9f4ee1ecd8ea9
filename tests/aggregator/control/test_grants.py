"""Verbosity grants: durable, bounded, acknowledged, and over when they are over (promise 6, R001-12)."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from aggregator.access import LOCAL, ScopeError
from aggregator.control_sqlite import SqliteControl
from aggregator.grants import Budget, BudgetError, GrantBook, GrantError, acknowledged, list_live
from aggregator.nodes import describe
from schemas import control as wire
from schemas.verbosity import Level, RowClass
from tests.aggregator.control.conftest import Time

T = TypeVar("T")


async def know(control: SqliteControl, *nodes: str) -> None:
    for node in nodes:
        await control.write(partial(describe, id=node, said={"host_name": node}))


def book_of(control: SqliteControl, time: Time, budget: Budget = Budget()) -> GrantBook:  # noqa: B008
    return GrantBook(control, budget, clock=time.clock, wall_ns=time.wall_ns)


async def test_a_grant_is_for_the_nodes_that_it_names_with_the_seconds_that_are_left(
    control: SqliteControl, time: Time
) -> None:
    book = book_of(control, time)
    grant = await book.set("gpu-*", Level.DEBUG, 60, LOCAL, collector="nvml", row_class=RowClass.LOG, reason="ticket 7")
    time.pass_(12)
    assert [wire.Grant(grant.id, Level.DEBUG, "nvml", RowClass.LOG, 48.0)] == book.for_node("gpu-1")
    assert [] == book.for_node("cpu-1")
    assert ("local", "ticket 7") == (grant.who, grant.reason)


async def test_a_grant_ends_by_itself_whatever_the_wall_clock_does(control: SqliteControl, time: Time) -> None:
    book = book_of(control, time)
    await book.set("*", Level.DEBUG, 60, LOCAL)
    time.wall_offset_ns -= 3600 * 10**9
    time.pass_(60)
    assert ([], []) == (book.for_node("n1"), book.live())


async def test_grants_outlive_the_aggregator_with_what_is_left_of_them(control: SqliteControl, time: Time) -> None:
    grant = await book_of(control, time).set("n1", Level.DETAILED, 100, "alert:xid")
    gone = await book_of(control, time).set("n1", Level.DEBUG, 10, LOCAL)
    time.pass_(40)
    book = book_of(control, time)
    await book.load()
    assert [(grant.id, 60.0)] == [(one.id, one.seconds) for one in book.for_node("n1")]
    assert gone.revision == book.revision


async def test_reading_again_neither_prolongs_nor_drops_a_grant_that_runs(control: SqliteControl, time: Time) -> None:
    """`date -s` on the aggregator must not make a grant last longer."""
    book = book_of(control, time)
    grant = await book.set("n1", Level.DEBUG, 60, LOCAL)
    time.pass_(20)
    for hours in (-5, 5):
        time.wall_offset_ns += hours * 3600 * 10**9
        await book.load()
        assert [(grant.id, 40.0)] == [(one.id, one.seconds) for one in book.for_node("n1")]


class Slow:
    """A control database whose answer to the first question is late: `meanwhile` happens in between."""

    def __init__(self, control: SqliteControl) -> None:
        self.control = control
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []
        self.write = control.write
        self.close = control.close

    async def read(self, question: Callable[[Connection], T]) -> T:
        answer = await self.control.read(question)
        while self.meanwhile:
            await self.meanwhile.pop()()
        return answer


async def test_a_change_while_grants_are_read_is_kept(control: SqliteControl, time: Time) -> None:
    slow = Slow(control)
    book = GrantBook(slow, clock=time.clock, wall_ns=time.wall_ns)
    first = await book.set("n1", Level.DEBUG, 60, LOCAL)
    slow.meanwhile = [partial(book.set, "n2", Level.DEBUG, 60, LOCAL)]
    await book.load()
    assert ["n1", "n2"] == [grant.nodes for grant in book.live()]
    slow.meanwhile = [partial(book.clear, [first.id])]
    await book.load()
    assert ["n2"] == [grant.nodes for grant in book.live()]


async def test_every_change_has_a_revision_of_its_own_and_is_told(control: SqliteControl, time: Time) -> None:
    book = book_of(control, time)
    seen: list[int] = []
    book.changed = lambda: seen.append(book.revision)
    first = await book.set("n1", Level.DEBUG, 60, LOCAL)
    await book.set("n2", Level.DEBUG, 60, LOCAL)
    assert [first.id] == await book.clear([first.id])
    assert 1 == len(await book.clear())
    assert [] == await book.clear()
    assert [1, 2, 3, 4] == seen
    assert [] == await control.read(partial(list_live, now_ns=time.wall_ns()))


async def test_clearing_what_is_not_live_is_an_error_and_clears_nothing(control: SqliteControl, time: Time) -> None:
    book = book_of(control, time)
    grant = await book.set("n1", Level.DEBUG, 60, LOCAL)
    with pytest.raises(GrantError, match="no live grant 'nope'"):
        await book.clear([grant.id, "nope"])
    assert [grant.id] == [one.id for one in book.live()]


@pytest.mark.parametrize(
    ("nodes", "level", "seconds", "error"),
    [
        ("a b", Level.DEBUG, 60.0, ScopeError),
        ("", Level.DEBUG, 60.0, ScopeError),
        ("*", Level.ESSENTIAL, 60.0, GrantError),
        ("*", Level.DEBUG, 0.0, GrantError),
        ("*", Level.DEBUG, -1.0, GrantError),
        ("*", Level.DEBUG, 90_000.0, GrantError),
        ("*", Level.DEBUG, float("nan"), GrantError),
        ("*", Level.DEBUG, float("inf"), GrantError),
    ],
)
async def test_a_grant_that_makes_no_sense_is_refused(
    control: SqliteControl, time: Time, nodes: str, level: Level, seconds: float, error: type[Exception]
) -> None:
    book = book_of(control, time)
    with pytest.raises(error):
        await book.set(nodes, level, seconds, LOCAL)
    assert [] == book.live()


async def test_a_grant_that_lasts_too_long_is_told_in_words(control: SqliteControl, time: Time) -> None:
    with pytest.raises(GrantError, match="at most 1 day, not 9,999 days"):
        await book_of(control, time).set("*", Level.DEBUG, 9_999 * 86_400.0, LOCAL)


async def test_a_grant_beyond_the_fleets_budget_is_refused_with_the_numbers(control: SqliteControl, time: Time) -> None:
    await know(control, *(f"gpu-{n}" for n in range(5)), "cpu-1")
    book = book_of(control, time, Budget(max_nodes=5))
    await book.set("gpu-*", Level.DEBUG, 60, LOCAL)
    await book.set("gpu-1", Level.DETAILED, 60, LOCAL)  # it is raised already
    with pytest.raises(BudgetError, match="6 nodes would be raised at one time; the fleet's budget is 5"):
        await book.set("cpu-1", Level.DETAILED, 60, LOCAL)
    time.pass_(60)
    await book.set("cpu-1", Level.DETAILED, 60, LOCAL)


async def test_a_wider_budget_holds_at_once_and_tells_the_nodes_that_were_withheld(
    control: SqliteControl, time: Time
) -> None:
    book = book_of(control, time, Budget(max_nodes=1, max_seconds=60))
    await book.set("*", Level.DEBUG, 60, LOCAL)
    assert [1, 0] == [len(book.for_node(node)) for node in ("a", "b")]
    told: list[None] = []
    book.changed = lambda: told.append(None)
    book.limit(Budget(max_nodes=2, max_seconds=120))
    assert [None] == told
    assert [1, 1] == [len(book.for_node(node)) for node in ("a", "b")]
    await book.set("*", Level.DEBUG, 120, LOCAL)


async def test_how_long_a_node_took_to_acknowledge_is_shown(control: SqliteControl, time: Time) -> None:
    book = book_of(control, time)
    grant = await book.set("*", Level.DEBUG, 60, LOCAL)
    for seconds, node in ((0.25, "n1"), (1.5, "n2"), (1.0, "n1")):
        time.pass_(seconds)
        book.acknowledged(node, [grant.id])
    assert [{"n1": 0.25, "n2": 1.75}] == [view.acknowledged_after for view in book.views()]
    await book.maintain()
    again = book_of(control, time)
    await again.load()
    assert [{}] == [view.acknowledged_after for view in again.views()]


async def test_nodes_beyond_the_budget_get_nothing_until_there_is_room(control: SqliteControl, time: Time) -> None:
    book = book_of(control, time, Budget(max_nodes=2))
    wide = await book.set("*", Level.DEBUG, 60, LOCAL)  # nobody is known yet: it fits
    assert [1, 1, 0, 1] == [len(book.for_node(node)) for node in ("a", "b", "c", "a")]
    assert [("c",)] == [view.withheld for view in book.views()]
    await book.clear([wide.id])
    await book.set("c", Level.DEBUG, 60, LOCAL)
    assert [0, 0, 1] == [len(book.for_node(node)) for node in ("a", "b", "c")]
    assert [()] == [view.withheld for view in book.views()]


async def test_acknowledgements_are_shown_at_once_and_written_down(control: SqliteControl, time: Time) -> None:
    book = book_of(control, time)
    grant = await book.set("*", Level.DEBUG, 60, LOCAL)
    for node in ("n2", "n1", "n2"):
        book.acknowledged(node, [grant.id, "unknown"])
    assert [("n1", "n2")] == [view.acknowledged for view in book.views()]
    await book.maintain()
    book.acknowledged("n2", [grant.id])
    await book.maintain()
    assert {grant.id: ("n1", "n2")} == await control.read(acknowledged)
    again = book_of(control, time)
    await again.load()
    assert [("n1", "n2")] == [view.acknowledged for view in again.views()]


async def test_sweep_forgets_what_ended_long_ago(control: SqliteControl, time: Time) -> None:
    book = book_of(control, time)
    old = await book.set("*", Level.DEBUG, 60, LOCAL)
    book.acknowledged("n1", [old.id])
    await book.maintain()
    time.pass_(8 * 86400)
    new = await book.set("*", Level.DEBUG, 60, LOCAL)
    await book.maintain()
    assert 1 == await book.sweep()
    assert [new.id] == [grant.id for grant in await control.read(partial(list_live, now_ns=0))]
    assert {} == await control.read(acknowledged)

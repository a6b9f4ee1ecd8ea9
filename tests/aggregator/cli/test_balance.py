"""`muster balance --wait`: what it waits for, and how it says so."""

from typing import Any

import pytest

from aggregator.cli.balance import awaited_of
from aggregator.cli.watching import sums_of
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Refusal, Stub


def view(id_: str, state: str = "live") -> dict[str, Any]:
    return {"node": {"id": id_, "host_name": f"host-{id_}"}, "state": state}


def line(publisher: str, **places: object) -> dict[str, Any]:
    return {
        "publisher": publisher, "row_class": "log", "level": "standard", "consumer": "store",
        "spooled": 0, "in_log": 0, "unaccounted": 0, **places,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ages", "lines", "expected"),
    [
        ({"a": 1.9, "b": 0.1}, [], []),
        ({"a": 2.0, "b": 0.1}, [], ["a word from host-a (the last is 2 s old)"]),
        ({"b": 9.0}, [], ["a word from host-a (it never gave one), host-b (the last is 9 s old)"]),
        ({"a": 0.5, "b": 0.5}, [line("b", spooled=7), line("c", in_log=3)],
         ["7 rows still at host-b", "3 rows unread in the log, of c"]),
    ],
)  # fmt: skip
def test_every_live_publisher_must_have_spoken_since_the_wait_began(
    ages: dict[str, float], lines: list[dict[str, Any]], expected: list[str]
) -> None:
    balance = {"lines": lines, "word_ages_seconds": ages}
    assert expected == awaited_of(balance, [view("a"), view("b"), view("gone", "silent")], 2.0)


def test_only_the_publisher_asked_for_is_waited_for() -> None:
    balance = {"lines": [], "word_ages_seconds": {"b": 0.1}}
    assert [] == awaited_of(balance, [view("a"), view("b")], 2.0, "b")


def test_of_many_some_are_named() -> None:
    views = [view(str(number)) for number in range(5)]
    [awaited] = awaited_of({"lines": [], "word_ages_seconds": {}}, views, 1.0)
    assert awaited.endswith("host-2 (it never gave one) and 2 more")


def test_a_settled_balance_with_an_old_word_is_not_settled_yet(run: Run, stub: Stub) -> None:
    """The word that everything is drained by may be as old as a heartbeat; rows made since are in no balance."""
    stub.answers["GET /v1/nodes"] = [view("a")]
    answer = {"lines": [], "closed": True, "settled": True, "word_ages_seconds": {"a": 8.0}}
    stub.answers["GET /v1/balance"] = answer
    status, _, err = run("balance", "--wait", "0.3")
    assert status == 1
    assert "waiting for a word from host-a (the last is 8 s old)" in err

    stub.answers["GET /v1/balance"] = lambda *_: {**answer, "word_ages_seconds": {"a": 0.0}}
    assert run("balance", "--wait", "5")[0] == 0


def test_an_aggregator_that_starts_is_waited_for(run: Run, stub: Stub) -> None:
    """It was killed just now: at first nothing answers or the store is not open, then everything is there."""
    answers: list[Any] = [Refusal(503, "the store was not opened yet; try again in a moment")] * 2
    answers.append({"lines": [], "word_ages_seconds": {}})
    stub.answers["GET /v1/nodes"] = []
    stub.answers["GET /v1/balance"] = lambda *_: answers.pop(0) if len(answers) > 1 else answers[0]
    assert run("balance", "--wait", "5")[0] == 0

    status, _, err = run("balance", "--wait", "0.3", "--server", "unix:///nonexistent/muster.sock")
    assert status == 1
    assert "no aggregator answers" in err


def test_what_no_waiting_helps_against_is_told_at_once(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/nodes"] = Refusal(403, "this token may not read")
    status, _, err = run("balance", "--wait", "60")
    assert status == 1
    assert "this token may not read" in err


def test_publishers_are_in_the_order_of_their_names(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/nodes"] = [view("1") | {"node": {"id": "1", "host_name": "zeta"}}, view("2")]
    places = dict.fromkeys(("done", "filtered", "quarantined", "expired", "stranded", "lost", "produced"), 0)
    lines = [
        line(publisher, numbered=1, filtered_at_source=0, folded=0, dropped={}, word_age_seconds=1.0, **places)
        for publisher in ("1", "aggregator", "2")
    ]
    stub.answers["GET /v1/balance"] = {"lines": lines, "word_ages_seconds": {}}
    _, out, _ = run("balance")
    assert ["aggregator", "host-2", "zeta"] == [row.split()[0] for row in out.splitlines()[1:]]


def test_rows_that_several_consumers_read_are_told_apart_and_counted_once(run: Run, stub: Stub) -> None:
    places = dict.fromkeys(("done", "filtered", "quarantined", "expired", "stranded", "lost"), 0)
    lines = [
        line("a", consumer=consumer, numbered=4, produced=9, filtered_at_source=5, folded=0, dropped={"full": 1},
             word_age_seconds=1.0, **places)
        for consumer in ("store", "inventory")
    ]  # fmt: skip
    stub.answers |= {"GET /v1/nodes": [], "GET /v1/balance": {"lines": lines, "word_ages_seconds": {}}}
    _, out, _ = run("balance")
    place, source, reasons = out.split("\n\n")
    assert ["store", "inventory"] == [row.split()[3] for row in place.splitlines()[1:]]
    assert 3 == len(source.splitlines())
    assert 3 == len(reasons.splitlines())

    sums = sums_of([one | {"unaccounted": 2} for one in lines])
    assert (4, 1, 4) == (sums.numbered, sums.elsewhere, sums.unaccounted)

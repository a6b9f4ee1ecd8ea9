"""`muster balance --wait`: what it waits for, and how it says so."""

from typing import Any

import pytest

from aggregator.cli.balance import awaited_of
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Stub


def view(id_: str, state: str = "live") -> dict[str, Any]:
    return {"node": {"id": id_, "host_name": f"host-{id_}"}, "state": state}


def line(publisher: str, **places: int) -> dict[str, Any]:
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

import json
from typing import Any

import pytest

from aggregator.cli.words import WordError, age, seconds_of
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Stub


def _view(acknowledged: list[str], withheld: list[str] | None = None) -> dict[str, Any]:
    grant = {"id": "abc", "nodes": NODE, "level": "debug", "collector": "host", "row_class": "log", "who": "local",
             "reason": "case 1"}  # fmt: skip
    return {"grant": grant, "seconds": 599.0, "acknowledged": acknowledged, "withheld": withheld or []}


def test_set_sends_what_was_asked_and_names_who_acts_on_it(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/verbosity"] = {"id": "abc"}
    stub.answers["GET /v1/verbosity"] = [_view([NODE])]
    only = ("--collector", "host", "--class", "log")
    status, out, _ = run("verbosity", "set", "rack1-gpu3", "debug", "--for", "10m", *only, "--reason", "case 1")
    assert status == 0
    assert out == "debug for 10 min, grant abc\nin force on 1: rack1-gpu3\n"
    body = {"nodes": NODE, "level": "debug", "seconds": 600.0, "collector": "host", "row_class": "log"}
    body["reason"] = "case 1"
    assert ("POST /v1/verbosity", body) in stub.asked


def test_set_waits_for_a_late_acknowledgement(run: Run, stub: Stub) -> None:
    answers = iter([[_view([])], [_view([])], [_view([NODE])]])
    stub.answers["POST /v1/verbosity"] = {"id": "abc"}
    stub.answers["GET /v1/verbosity"] = lambda *_: next(answers)
    assert "in force on 1: rack1-gpu3" in run("verbosity", "set", NODE, "debug")[1]


def test_set_names_nodes_that_do_not_acknowledge_or_get_nothing(
    run: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregator.cli.verbosity.ACK_SECONDS", 0.2)
    stub.answers["POST /v1/verbosity"] = {"id": "abc"}
    stub.answers["GET /v1/verbosity"] = [_view([])]
    assert "not yet acknowledged by 1: rack1-gpu3" in run("verbosity", "set", NODE, "debug")[1]
    stub.answers["GET /v1/verbosity"] = [_view([], [NODE])]
    assert "budget is spent: rack1-gpu3" in run("verbosity", "set", NODE, "debug")[1]


def test_pattern_goes_as_it_is_and_one_that_matches_nothing_is_said(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/verbosity"] = lambda _, body: {"id": "abc"} if body["nodes"] == "gpu-*" else {}
    stub.answers["GET /v1/verbosity"] = [_view([])]
    status, out, err = run("verbosity", "set", "gpu-*", "debug")
    assert status == 0
    assert "no node is called like 'gpu-*'" in err
    assert "no node that it is for is live now" in out


def test_pattern_over_host_names_is_refused_with_the_reason(run: Run) -> None:
    status, _, err = run("verbosity", "set", "rack1-*", "debug")
    assert status == 1
    assert "patterns are over ids" in err


def test_list_without_grants_says_so_and_json_is_a_list(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/verbosity"] = []
    assert "every node is at its configured level" in run("verbosity")[1]
    assert json.loads(run("verbosity", "list", "-o", "json")[1]) == []


def test_clear_of_all_asks_first(run: Run, stub: Stub) -> None:
    stub.answers["DELETE /v1/verbosity"] = {"cleared": ["abc"]}
    assert run("verbosity", "clear")[0] == 1
    assert run("verbosity", "clear", "-y")[1] == "cleared abc\n"


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600.0), ("1h30m", 5400.0), ("1.5d", 129600.0), ("90s", 90.0)])
def test_duration_words(text: str, seconds: float) -> None:
    assert seconds == seconds_of(text)


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "10m5", "-3s", "ten minutes"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(WordError, match="10m"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["99999999d", "9" * 400 + "w"])
def test_what_nobody_lives_to_see_is_refused(text: str) -> None:
    with pytest.raises(WordError, match="100 years"):
        seconds_of(text)


def test_age_of_the_unknown_is_a_dash_not_zero() -> None:
    ages = (None, 0.0, 99.0, 125.0, 7300.0, 260000.0)
    assert ["-", "0 s", "99 s", "2 min", "2 h", "3 d"] == [age(one) for one in ages]

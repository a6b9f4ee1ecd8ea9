"""`muster taint` and `untaint`: what is asked of whom, and what is said of it."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Refusal, Stub

TAINT: dict[str, Any] = {
    "rule": "flaky",
    "effect": "Drain",
    "evidence": "falls off",
    "who": "local",
    "since_ns": 1,
    "expires_ns": None,
    "alert": "",
}


def test_a_device_is_marked_for_a_while_with_effect_and_evidence(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/devices/gpu-a/taints"] = TAINT
    words = ("gpu-a", "flaky", "--effect", "Drain", "--evidence", "falls off", "--for", "1h30m")
    status, out, _ = run("taint", *words)
    assert (0, "gpu-a is marked Drain by flaky for 1h30m\n") == (status, out)
    asked = {"rule": "flaky", "effect": "Drain", "evidence": "falls off", "seconds": 5400.0}
    assert ("POST /v1/devices/gpu-a/taints", asked) == stub.asked[-1]


def test_a_node_is_marked_until_the_mark_is_taken_off(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/nodes/gpu-17/taints"] = TAINT | {"effect": "NoSchedule"}
    status, out, _ = run("taint", "--node", "gpu-17", "fan swap")
    assert (0, "gpu-17 is marked NoSchedule by fan swap\n") == (status, out)
    assert {"rule": "fan swap", "effect": "NoSchedule", "evidence": ""} == stub.asked[-1][1]


@pytest.mark.parametrize("words", [("--effect", "Burn"), ("--for", "soon"), ("--for", "0s")])
def test_what_is_no_mark_is_refused_before_anything_is_asked(run: Run, stub: Stub, words: tuple[str, ...]) -> None:
    try:
        status = run("taint", "gpu-a", "flaky", *words)[0]
    except SystemExit as error:
        status = int(error.code or 0)
    assert status in (1, 2)
    assert [] == stub.asked


@pytest.mark.parametrize(("words", "of"), [((), "devices/gpu-a"), (("--node",), "nodes/gpu-a")])
def test_a_mark_is_taken_off_with_why(run: Run, stub: Stub, words: tuple[str, ...], of: str) -> None:
    asked: list[dict[str, str]] = []
    path = f"/v1/{of}/taints/{quote('fan swap', safe='')}"

    def answer(given: dict[str, str], _body: object) -> dict[str, str]:
        asked.append(given)
        return {}

    stub.answers[f"DELETE {path}"] = answer
    status, out, _ = run("untaint", *words, "gpu-a", "fan swap", "--why", "reseated, ran a day")
    assert (0, "gpu-a: fan swap is off\n") == (status, out)
    assert [{"why": "reseated, ran a day"}] == asked


def test_a_mark_that_there_is_not_fails_with_the_aggregators_words(run: Run, stub: Stub) -> None:
    stub.answers["DELETE /v1/devices/gpu-a/taints/flakey"] = Refusal(404, "gpu-a has no taint 'flakey'.")
    status, out, err = run("untaint", "gpu-a", "flakey")
    assert (1, "") == (status, out)
    assert "gpu-a has no taint 'flakey'" in err


def test_programs_get_the_mark(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/devices/gpu-a/taints"] = TAINT
    assert TAINT == json.loads(run("taint", "gpu-a", "flaky", "-o", "json")[1])

"""Nodes go by host name in tables; a wide table and a program's answer have the id too, and people may type either."""

from typing import Any

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Stub

NODE, HOST = "4c4c4544-0051-3510-8052-b4c04f565031", "rack1-gpu3"


@pytest.mark.parametrize("words", [["collectors"], ["balance"]])
def test_a_wide_table_has_the_id_beside_the_host_name(
    run: Run, stub: Stub, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregator.cli.collectors.probe_installed", list)
    stub.answers["GET /v1/collectors"] = [
        {**one, "crashes": 0, "slip_p99": 0.004} for one in stub.answers["GET /v1/collectors"]
    ]
    plain, wide = run(*words)[1], run(*words, "-o", "wide")[1]
    assert HOST in plain
    assert NODE not in plain
    assert any(HOST in line and NODE in line for line in wide.splitlines())


def test_balance_takes_a_host_name_an_id_and_a_publisher_that_is_no_node(run: Run, stub: Stub) -> None:
    asked: list[str] = []

    def balance(given: dict[str, str], _: object) -> Any:
        asked.append(given["publisher"])
        return {"lines": [], "closed": True, "settled": True}

    stub.answers["GET /v1/balance"] = balance
    status, _, err = run("balance", "--node", "gpu9")
    assert (1, "muster: no publisher 'gpu9' has spoken") == (status, err.partition(";")[0])
    asked.clear()
    for named in (HOST, NODE, "aggregator"):
        run("balance", "--node", named)
    assert [NODE, NODE, "aggregator"] == asked


def test_tap_takes_a_host_name_and_leaves_patterns_to_the_server(run: Run, stub: Stub) -> None:
    asked: list[str] = []

    def rows(given: dict[str, str], _: object) -> Any:
        asked.append(given.get("node", ""))
        return {"time": 1}

    stub.answers["GET /v1/tap"] = rows
    assert 0 == run("tap", "--node", HOST)[0]
    assert 0 == run("tap", "--node", "4c4c*")[0]
    assert [NODE, "4c4c*"] == asked
    status, _, err = run("tap", "--node", "rack1-gpu4")
    assert 1 == status
    assert f"Did you mean '{HOST}'?" in err


def test_a_grant_in_a_wide_list_is_not_shortened(run: Run, stub: Stub) -> None:
    grant = {"id": "g1", "nodes": NODE, "level": "debug", "collector": "", "row_class": None,
             "reason": "case 4711, the fan is loud", "who": "local"}  # fmt: skip
    stub.answers["GET /v1/verbosity"] = [{"grant": grant, "seconds": 60.0, "acknowledged": [NODE], "withheld": []}]
    out = run("verbosity", "list", "-o", "wide")[1]
    assert all(word in out for word in (NODE, HOST, "the fan is loud", "local"))

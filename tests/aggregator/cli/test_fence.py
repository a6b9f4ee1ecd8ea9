"""A dead node is fenced by its BMC's word as it was read, and by none of another machine, or that was not told."""

import json
from typing import Any

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Stub

READ_NS = 1795268282356417437


def table(*names: str, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Make the answer to a query."""
    columns = [{"name": name, "role": "value", "type": "str"} for name in names]
    return {"columns": columns, "data": [list(one) for one in zip(*rows, strict=True)] or [[] for _ in names],
            "rows": len(rows), "truncated": False}  # fmt: skip


def board(name: str, system: str, kind: str = "bmc") -> tuple[str, str, str]:
    """Make the row of a BMC's document."""
    return name, name, json.dumps({"device": name, "kind": kind, "capabilities": {"system_uuid": system}})


@pytest.fixture
def fleet(stub: Stub) -> Stub:
    """An aggregator that knows two BMCs, one of them of the node."""
    documents = [board("bmc:other", "another"), board("bmc:b7", NODE), ("bmc:x", "bmc:x", ""), ("bmc:y", "bmc:y", "{")]
    stub.answers["GET /v1/query?measurement=capability"] = table("node", "device", "document", rows=documents)
    stub.answers["GET /v1/query?measurement=bmc"] = table("time", "device", "power_state",
                                                          rows=[(READ_NS, "bmc:b7", "off")])  # fmt: skip
    stub.answers[f"POST /v1/nodes/{NODE}/fence"] = []
    return stub


def fenced(stub: Stub) -> list[Any]:
    return [body for asked, body in stub.asked if asked.endswith("/fence")]


def test_the_bmcs_word_goes_to_the_ledger_with_when_it_was_read(run: Run, fleet: Stub) -> None:
    status, _, _ = run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    power = {"kind": "bmc", "node": NODE, "power_state": "Off", "read_ns": READ_NS}
    assert (0, [{"power": power}]) == (status, fenced(fleet))


def test_a_machine_that_its_bmc_calls_on_is_told_so_to_the_ledger_which_refuses(run: Run, fleet: Stub) -> None:
    fleet.answers["GET /v1/query?measurement=bmc"] = table("time", "power_state", rows=[(READ_NS, "powering_on")])
    run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    assert "PoweringOn" == fenced(fleet)[0]["power"]["power_state"]


def test_of_two_bmcs_that_name_one_machine_the_one_that_says_on_is_believed(run: Run, fleet: Stub) -> None:
    documents = [board("bmc:b7", NODE), board("bmc:liar", NODE)]
    fleet.answers["GET /v1/query?measurement=capability"] = table("node", "device", "document", rows=documents)
    fleet.answers["GET /v1/query?measurement=bmc&where=device=bmc:b7"] = table("time", "power_state",
                                                                               rows=[(READ_NS, "on")])  # fmt: skip
    run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    assert "On" == fenced(fleet)[0]["power"]["power_state"]


def test_without_a_bmc_or_a_word_of_it_nothing_is_fenced(run: Run, fleet: Stub) -> None:
    for rows, said in (([], "has not told of its power"), ([(READ_NS, None)], "has not told of its power")):
        fleet.answers["GET /v1/query?measurement=bmc"] = table("time", "power_state", rows=rows)
        status, _, error = run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
        assert (True, True) == (status != 0, said in error)
    fleet.answers["GET /v1/query?measurement=capability"] = table("device", "document", rows=[])
    status, _, error = run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    assert (True, True, []) == (status != 0, "no BMC is known" in error, fenced(fleet))


def test_an_operators_word_is_taken_as_before(run: Run, fleet: Stub) -> None:
    run("nodes", "fence", "rack1-gpu3", "--statement", "unplugged", "--yes")
    assert [{"statement": "unplugged"}] == fenced(fleet)

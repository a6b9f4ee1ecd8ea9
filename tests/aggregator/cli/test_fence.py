"""A dead node is fenced by its BMC's word as it was read, and by none of another machine, or that was not told."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Stub

READ_NS = 1795268282356417437
OF_B7 = urlencode({"measurement": "bmc", "where": 'node="bmc:b7",device="bmc:b7"'})
"""What asks for the power of the node's BMC, as that BMC was read."""


def table(*names: str, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Make the answer to a query."""
    columns = [{"name": name, "role": "value", "type": "str"} for name in names]
    return {"columns": columns, "data": [list(one) for one in zip(*rows, strict=True)] or [[] for _ in names],
            "rows": len(rows), "truncated": False}  # fmt: skip


def board(name: str, system: str, kind: str = "bmc") -> tuple[str, str, str]:
    """Make the row of a BMC's document."""
    return name, name, json.dumps({"device": name, "kind": kind, "capabilities": {"system_uuid": system}})


def joined(*nodes: str, reach: str = "stale") -> dict[str, Any]:
    """Make the answer that names the machines to which the ledger has joined a BMC each."""
    return {"devices": [{"kind": "bmc", "node": node, "reach": reach} for node in nodes], "next": ""}


@pytest.fixture
def fleet(stub: Stub) -> Stub:
    """An aggregator that knows two BMCs, one of them of the node."""
    documents = [board("bmc:other", "another"), board("bmc:b7", NODE), ("bmc:x", "bmc:x", ""), ("bmc:y", "bmc:y", "{")]
    stub.answers["GET /v1/query?measurement=capability"] = table("node", "device", "document", rows=documents)
    stub.answers["GET /v1/devices?kind=bmc"] = joined(NODE)
    stub.answers["GET /v1/query?measurement=bmc"] = table("time", "device", "power_state", rows=[])
    stub.answers["GET /v1/query?" + OF_B7] = table("time", "device", "power_state", rows=[(READ_NS, "bmc:b7", "off")])
    stub.answers[f"POST /v1/nodes/{NODE}/fence"] = []
    return stub


def fenced(stub: Stub) -> list[Any]:
    return [body for asked, body in stub.asked if asked.endswith("/fence")]


def test_the_bmcs_word_goes_to_the_ledger_with_when_it_was_read(run: Run, fleet: Stub) -> None:
    status, _, _ = run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    power = {"kind": "bmc", "node": NODE, "power_state": "Off", "read_ns": READ_NS}
    assert (0, [{"power": power}]) == (status, fenced(fleet))


def test_a_machine_that_its_bmc_calls_on_is_told_so_to_the_ledger_which_refuses(run: Run, fleet: Stub) -> None:
    fleet.answers["GET /v1/query?" + OF_B7] = table("time", "power_state", rows=[(READ_NS, "powering_on")])
    run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    assert "PoweringOn" == fenced(fleet)[0]["power"]["power_state"]


def refused(run: Run, fleet: Stub, because: str) -> None:
    status, _, error = run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    assert (True, True, []) == (status != 0, because in error, fenced(fleet))


def test_of_two_bmcs_that_name_one_machine_none_is_believed(run: Run, fleet: Stub) -> None:
    documents = [board("bmc:b7", NODE), board("bmc:liar", NODE)]
    fleet.answers["GET /v1/query?measurement=capability"] = table("node", "device", "document", rows=documents)
    refused(run, fleet, "more than one BMC says that it manages rack1-gpu3 (bmc:b7, bmc:liar)")
    fleet.answers["GET /v1/query?measurement=capability"] = table("node", "device", "document", rows=documents[:1])
    fleet.answers["GET /v1/devices?kind=bmc"] = joined(NODE, NODE)
    refused(run, fleet, "more than one BMC")


def test_a_bmc_that_the_ledger_has_not_joined_to_the_machine_is_not_believed(run: Run, fleet: Stub) -> None:
    for devices in (joined(), joined("another"), joined(NODE, reach="absent")):
        fleet.answers["GET /v1/devices?kind=bmc"] = devices
        refused(run, fleet, "no BMC is known")


def test_what_another_machine_calls_a_bmc_of_this_one_says_nothing(run: Run, fleet: Stub) -> None:
    _, name, document = board("bmc:b7", NODE)
    told = table("node", "device", "document", rows=[("another-node", name, document)])
    fleet.answers["GET /v1/query?measurement=capability"] = told
    refused(run, fleet, "no BMC is known")


def test_power_that_another_machine_tells_of_the_bmc_says_nothing(run: Run, fleet: Stub) -> None:
    fleet.answers["GET /v1/query?measurement=bmc"] = fleet.answers.pop("GET /v1/query?" + OF_B7)
    fleet.answers["GET /v1/query?" + OF_B7] = table("time", "device", "power_state", rows=[])
    refused(run, fleet, "has not told of its power")


def test_of_one_bmc_that_is_polled_and_its_machines_own_the_word_on_is_believed(run: Run, fleet: Stub) -> None:
    own = (NODE, *board("bmc:own", NODE)[1:])
    documents = [board("bmc:b7", NODE), own]
    fleet.answers["GET /v1/query?measurement=capability"] = table("node", "device", "document", rows=documents)
    where = urlencode({"measurement": "bmc", "where": f'node="{NODE}",device="bmc:own"'})
    fleet.answers[f"GET /v1/query?{where}"] = table("time", "power_state", rows=[(READ_NS, "on")])
    run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    assert "On" == fenced(fleet)[0]["power"]["power_state"]


def test_without_a_bmc_or_a_word_of_it_nothing_is_fenced(run: Run, fleet: Stub) -> None:
    for rows, said in (([], "has not told of its power"), ([(READ_NS, None)], "has not told of its power")):
        fleet.answers["GET /v1/query?" + OF_B7] = table("time", "power_state", rows=rows)
        status, _, error = run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
        assert (True, True) == (status != 0, said in error)
    fleet.answers["GET /v1/query?measurement=capability"] = table("device", "document", rows=[])
    status, _, error = run("nodes", "fence", "rack1-gpu3", "--bmc", "--yes")
    assert (True, True, []) == (status != 0, "no BMC is known" in error, fenced(fleet))


def test_an_operators_word_is_taken_as_before(run: Run, fleet: Stub) -> None:
    run("nodes", "fence", "rack1-gpu3", "--statement", "unplugged", "--yes")
    assert [{"statement": "unplugged"}] == fenced(fleet)

"""Claims on the command line: people know nodes by name, programs by id."""

import json

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Refusal, Stub

CLAIM = {
    "id": "c-1", "tenant": "blue", "consumer": "vm-17", "state": "active", "epoch": "1.9", "version": 9,
    "devices": [{"device": "gpu-a", "node": NODE, "node_name": "rack1-gpu3", "mode": "passthrough", "part": "serial:x",
                 "lifecycle": "assigned", "address": "0000:3b:00.0", "confirmed": True}],
    "amounts": {NODE: {"vcpus": 8}, "another": {"vcpus": 1}}, "lease_seconds": 60.0, "left_seconds": 30.0,
    "reason": "", "package": "", "who": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _claim(stub: Stub) -> None:
    stub.answers["GET /v1/claims/c-1"] = CLAIM


def test_a_claim_is_shown_with_the_names_of_its_nodes(run: Run) -> None:
    status, out, _ = run("claims", "show", "c-1")
    assert status == 0
    assert "on rack1-gpu3" in out
    assert "of rack1-gpu3" in out
    assert "of another" in out  # a node of which nobody knows a name
    assert NODE not in out


@pytest.mark.parametrize("node", ["rack1-gpu3", NODE, NODE[:8]])
def test_amounts_go_by_the_name_of_their_node(run: Run, stub: Stub, node: str) -> None:
    stub.answers["POST /v1/claims"] = CLAIM
    status, _, _ = run("claims", "create", "--tenant", "blue", "--for", "vm", "--amount", f"{node}:vcpus=1")
    assert (0, {NODE: {"vcpus": 1}}) == (status, stub.asked[-1][1]["amounts"])


def test_amounts_of_a_misspelt_node_have_the_near_name_and_who_may_not_list_nodes_has_them_found(
    run: Run, stub: Stub
) -> None:
    words = ("claims", "create", "--tenant", "blue", "--for", "vm", "--amount", "rack1-gpu:vcpus=1")
    assert "Did you mean 'rack1-gpu3'?" in run(*words)[2]
    stub.answers["GET /v1/nodes"] = Refusal(403, "not yours")
    stub.answers["POST /v1/claims"] = CLAIM
    assert 0 == run(*words)[0]
    assert {"rack1-gpu": {"vcpus": 1}} == stub.asked[-1][1]["amounts"]


def test_programs_get_names_and_ids(run: Run) -> None:
    _, out, _ = run("claims", "show", "c-1", "-o", "json")
    (device,) = json.loads(out)["devices"]
    assert (NODE, "rack1-gpu3") == (device["node"], device["node_name"])


@pytest.mark.parametrize(
    ("before", "told"), [("active", "c-1 is released\n"), ("released", "c-1 is released already\n")]
)
def test_a_release_that_changes_nothing_says_so(run: Run, stub: Stub, before: str, told: str) -> None:
    stub.answers["GET /v1/claims/c-1"] = {**CLAIM, "state": before}
    stub.answers["DELETE /v1/claims/c-1"] = {**CLAIM, "state": "released"}
    assert (0, told) == run("claims", "release", "c-1", "-y")[:2]

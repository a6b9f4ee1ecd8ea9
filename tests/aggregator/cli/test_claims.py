"""Claims on the command line: people know nodes by name, programs by id."""

import json

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Stub

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


def test_programs_get_names_and_ids(run: Run) -> None:
    _, out, _ = run("claims", "show", "c-1", "-o", "json")
    (device,) = json.loads(out)["devices"]
    assert (NODE, "rack1-gpu3") == (device["node"], device["node_name"])

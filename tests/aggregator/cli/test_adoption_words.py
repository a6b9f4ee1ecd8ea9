"""`muster adopt`, `reconcile`, `export` and the words of `nodes`, against answers of an aggregator."""

import json
from pathlib import Path
from typing import Any

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Refusal, Stub

WAITING = {
    "device": "gpu-7f3k2ma", "node": NODE, "node_name": "rack1-gpu3", "kind": "gpu", "model": "V100",
    "address": "0000:a3:00.0", "lifecycle": "foreign", "reach": "live", "why": "in use by qemu/9", "attestable": False,
}  # fmt: skip
DIVERGENCE = {
    "kind": "claim.driver", "node": NODE, "device": "gpu-7f3k2ma", "claim": "c-1", "ledger": "assigned for claim c-1",
    "seen": "the driver nvidia has it", "about": "", "since_ns": 1, "id": "x", "node_name": "rack1-gpu3",
}  # fmt: skip


def test_adopt_lists_what_waits_with_the_reason(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/adoption"] = {"sequence": 9, "devices": [WAITING]}
    status, out, _ = run("adopt")
    assert 0 == status
    assert ["gpu-7f3k2ma", "rack1-gpu3", "0000:a3:00.0", "foreign", "in"] == out.splitlines()[1].split()[:5]


def test_many_that_wait_for_one_reason_are_one_line_with_the_next_step(run: Run, stub: Stub) -> None:
    dirty = {**WAITING, "lifecycle": "dirty", "why": "nobody said that it is clean"}
    many = [{**dirty, "device": f"gpu-{number}"} for number in range(30)]
    stub.answers["GET /v1/adoption"] = {"sequence": 9, "devices": [*many, WAITING]}
    out = run("adopt")[1]
    assert [["30", "rack1-gpu3", "gpu", "dirty"], ["1", "rack1-gpu3", "gpu", "foreign"]] == [
        line.split()[:4] for line in out.splitlines()[-2:]
    ]
    assert "muster adopt --attest" in out
    assert "gpu-29" in run("adopt", "-o", "wide")[1]


def test_csv_is_not_passed_off_as_what_was_asked_for(run: Run) -> None:
    status, out, err = run("export", "csv", "-o", "yaml")
    assert (1, True, True) == (status, "export json" in out, "export json -o yaml" in err)


def test_empty_expression_is_not_everything(run: Run, stub: Stub) -> None:
    status, _, err = run("adopt", "--attest", "--statement", "new", "--where", "", "-y")
    assert (1, True, []) == (status, "--where is empty" in err, stub.asked)
    assert "--where is empty" in run("devices", "--where", " ")[2]


def test_attest_vouches_for_exactly_what_was_shown(run: Run, stub: Stub) -> None:
    asked: list[dict[str, Any]] = []

    def attest(_given: Any, body: dict[str, Any]) -> Any:
        asked.append(body)
        done = [] if body.get("dry_run") else body["devices"]
        return {"sequence": 41, "attested": done, "would": ["gpu-1", "gpu-2"]}

    stub.answers["POST /v1/adoption/attest"] = attest
    assert 1 == run("adopt", "--attest", "--statement", "new", "--kind", "gpu")[0], "nobody can answer: nothing is done"
    assert [True] == [one.get("dry_run", False) for one in asked]
    status, out, _ = run("adopt", "--attest", "--statement", "new", "--kind", "gpu", "--yes")
    assert (0, "2 free: recorded with your statement\n") == (status, out)
    exactly = {"statement": "new", "devices": ["gpu-1", "gpu-2"], "as_of": 41}
    assert (exactly, "gpu") == (asked[-1], asked[-2]["kinds"][0])
    asked.clear()
    assert 0 == run("adopt", "--attest", "--statement", "new", "--dry-run")[0]
    assert [True] == [one.get("dry_run", False) for one in asked]


def test_records_are_handed_in_under_a_name_of_their_kind(run: Run, stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "vm.xml"
    path.write_text(
        "<domain id='1'><name>vm</name><devices><hostdev type='pci'><source><address bus='0xa3'/></source></hostdev>"
        "</devices></domain>"
    )
    view = {"source": "libvirt:gpu1", "kind": "libvirt", "as_of_ns": 1, "who": "local", "uses": 1, "unknown": 1}
    nowhere = {"node": "gpu1", "node_name": "", "address": "0000:a3:00.0", "user": "libvirt:vm", "device": None}
    stub.answers["PUT /v1/records/libvirt%3Agpu1"] = {**view, "unknown_uses": [nowhere], "named": [nowhere]}
    status, out, _ = run("adopt", "--records", str(path), "--node", "gpu1")
    assert 0 == status
    assert ["gpu1", "0000:a3:00.0", "unknown", "libvirt:vm"] == out.splitlines()[-1].split()
    ((_, body),) = [one for one in stub.asked if one[0].startswith("PUT")]
    assert [{"node": "gpu1", "address": "0000:a3:00.0", "user": "libvirt:vm"}] == body["uses"]
    assert path.stat().st_mtime_ns == body["as_of_ns"]
    assert ("gpu1", True, False) == (body["node"], body["known_only"], body["dry_run"])
    status, out, _ = run("adopt", "--records", str(path), "--node", "gpu1", "--ahead", "--dry-run")
    assert (0, "unknown") == (status, out.splitlines()[-1].split()[2])
    assert (False, True) == (stub.asked[-1][1]["known_only"], stub.asked[-1][1]["dry_run"])


def test_record_that_there_is_not_is_said_before_anything_is_asked(run: Run, stub: Stub) -> None:
    record = {"source": "libvirt:sim-0001", "kind": "libvirt", "as_of_ns": 1, "who": "", "uses": 2, "unknown": 0}
    stub.answers["GET /v1/records"] = [record]
    status, _, err = run("adopt", "--drop-record", "libvirt:sim-001")
    assert 1 == status
    assert "Did you mean 'libvirt:sim-0001'?" in err
    assert "Go on?" not in err


def test_reconcile_shows_both_views_and_says_so_by_its_status(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/divergences"] = {"sequence": 9, "divergences": [DIVERGENCE]}
    status, out, _ = run("reconcile")
    assert 1 == status
    assert "assigned for claim c-1" in out
    assert "the driver nvidia has it" in out
    stub.answers["GET /v1/divergences"] = {"sequence": 9, "divergences": []}
    assert (0, "everything agrees\n") == run("reconcile")[:2]


def test_check_says_what_breaks_and_fails(run: Run, stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "nova.conf"
    path.write_text("[pci]\n")
    finding = {
        "severity": "broken", "rule": "shared_group", "node": NODE, "node_name": "rack1-gpu3", "group": 19,
        "addresses": ["0000:27:00.0", "0000:28:00.0"], "lines": [4], "message": "group 19 would be shared out",
        "remedy": "list one of them",
    }  # fmt: skip
    stub.answers["POST /v1/export/nova/check"] = {"sequence": 1, "specs": 1, "listed": 2, "findings": [finding]}
    status, out, _ = run("export", "nova", "--check", str(path))
    assert 1 == status
    assert "list one of them" in out
    assert ("POST /v1/export/nova/check", {"text": "[pci]\n"}) in stub.asked
    warning = {**finding, "severity": "warning"}
    stub.answers["POST /v1/export/nova/check"] = {"sequence": 1, "specs": 1, "listed": 2, "findings": [warning]}
    assert 0 == run("export", "nova", "--check", str(path))[0]


def test_export_that_is_refused_is_no_output(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/export/csv"] = Refusal(400, "the ledger knows no node 'x'")
    status, out, err = run("export", "csv", "--node", "x")
    assert (1, "") == (status, out)
    assert "no node" in err


def test_drain_waits_until_the_last_claim_has_left(run: Run, stub: Stub) -> None:
    claim = {"claim": "c-1", "tenant": "t1", "consumer": "vm", "state": "active", "devices": ["gpu-1"]}
    decided = {"id": NODE, "name": "rack1-gpu3", "claims": [claim], "life": None, "replaced_by": None}
    stub.answers[f"POST /v1/nodes/{NODE}/drain"] = decided
    left = [[claim], [claim], []]
    stub.answers[f"GET /v1/nodes/{NODE}/claims"] = lambda _given, _body: {**decided, "claims": left.pop(0)}
    status, out, _ = run("nodes", "drain", "rack1-gpu3", "--why", "new kernel", "--wait", "30s")
    assert (0, "rack1-gpu3 is drained: no claim holds anything of it\n") == (status, out)
    assert (f"POST /v1/nodes/{NODE}/drain", {"why": "new kernel"}) in stub.asked
    status, out, _ = run("nodes", "drain", "rack1-gpu3", "--why", "new kernel")
    assert "1 must leave" in out
    assert "c-1" in out


def test_maintenance_is_so_many_seconds_and_ends(run: Run, stub: Stub) -> None:
    stub.answers[f"POST /v1/nodes/{NODE}/maintenance"] = {"id": NODE, "name": "rack1-gpu3", "claims": []}
    assert 0 == run("nodes", "maintenance", "rack1-gpu3", "--for", "2h", "--why", "fans")[0]
    assert 0 == run("nodes", "maintenance", "rack1-gpu3", "--end")[0]
    bodies = [body for word, body in stub.asked if word.endswith("/maintenance")]
    assert [{"seconds": 7200.0, "why": "fans"}, {"seconds": 0.0, "why": ""}] == bodies


def test_orders_show_in_place_of_live(run: Run, stub: Stub) -> None:
    (view,) = stub.answers["GET /v1/nodes"]
    life = {"cordoned": "bad fan", "draining": "", "maintenance_until_ns": None}
    stub.answers["GET /v1/nodes"] = [{**view, "life": life}]
    assert "cordoned" == run("nodes")[1].splitlines()[1].split()[1]
    assert "live" == json.loads(run("nodes", "-o", "json")[1])[0]["state"]

"""Placement on the command line: what is asked is what the options say, and a refusal says what is in the way."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Refusal, Stub

PLACED = {
    "placed": True,
    "instances": [{"node": "n1", "rank": "0", "devices": [{"device": "gpu-a", "mode": "driver"}]}],
}
CLAIM = {"id": "c-1", "state": "reserved", "devices": [], "amounts": {NODE: {"vcpus": 3}}}
REFUSED = {
    "placed": False,
    "message": "no place for this now",
    "conditions": [{"condition": "lifecycle.dirty", "of": "devices", "removed": 3, "left": 1}],
    "nearest": {"node": "n1", "missing": 1},
}
REFUSAL = {name: REFUSED[name] for name in ("message", "conditions", "nearest")}


def asked(stub: Stub, path: str) -> Any:
    return next(body for word, body in stub.asked if word == path)


def test_options_make_the_request(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/place"] = PLACED
    status, out, _ = run(
        "place", "--tenant", "blue", "--for", "vm", "--need", "V100:2", "--need", "H100:1:driver:1g.10gb",
        "--fitting", "1:device.kind == 'nic'", "--amount", "vcpus=8", "--instances", "4", "--per-node", "2",
        "--isolation", "whole-group", "--nvlink", "require", "--strategy", "spread", "--tolerate", "xid",
        "--where", "node.live", "--lease", "60", "--dry-run",
    )  # fmt: skip
    assert (0, ["1", "n1", "gpu-a", "driver"]) == (status, out.splitlines()[1].split())
    expected = {
        "tenant": "blue",
        "consumer": "vm",
        "needs": [
            {"variant": "V100", "count": 2},
            {"variant": "H100", "count": 1, "mode": "driver", "profile": "1g.10gb"},
            {"where": "device.kind == 'nic'", "count": 1},
        ],
        "amounts": {"vcpus": 8},
        "instances": 4,
        "per_node": 2,
        "isolation": "whole-group",
        "strategy": "spread",
        "affinity": {"nvlink": "require"},
        "tolerations": ["xid"],
        "where": "node.live",
        "lease_seconds": 60.0,
        "dry_run": True,
        "explain": False,
    }
    assert expected == asked(stub, "POST /v1/place")


def test_a_file_says_what_options_do_not(run: Run, stub: Stub, tmp_path: Path) -> None:
    stub.answers["POST /v1/place"] = CLAIM
    file = tmp_path / "wanted.json"
    file.write_text('{"tenant": "blue", "consumer": "vm", "package": "small"}')
    run("place", "--request", str(file), "--package", "large")
    assert ("blue", "large") == tuple(asked(stub, "POST /v1/place")[name] for name in ("tenant", "package"))
    file.write_text("{")
    assert "wanted.json" in run("place", "--request", str(file))[2]


def test_a_claim_on_amounts_alone_shows_its_id_and_its_nodes(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/place"] = CLAIM
    status, out, _ = run("place", "--tenant", "blue", "--for", "x", "--amount", "vcpus=3")
    assert (0, "claim c-1, reserved") == (status, out.splitlines()[0])
    assert ["rack1-gpu3", "vcpus", "3"] == out.splitlines()[2].split()


def test_a_refusal_shows_the_conditions_and_fails(run: Run, stub: Stub) -> None:
    blocker = {
        "reason": "lifecycle.dirty",
        "message": "gpu-a is dirty",
        "edit": {"edit": "free-device", "device": "gpu-a"},
    }
    stub.answers["POST /v1/place"] = {**REFUSED, "blockers": [blocker]}
    status, out, _ = run("place", "--tenant", "blue", "--for", "vm", "--need", "V100", "--dry-run", "--explain")
    assert status == 1
    assert ["no place for this now", ["lifecycle.dirty", "devices", "3", "1"]] == [
        out.splitlines()[0],
        out.splitlines()[2].split(),
    ]
    assert "gpu-a is dirty  muster clean gpu-a" in out
    stub.answers["POST /v1/place"] = {**REFUSED, "blockers": None}
    assert (
        "no change of what there is now would help" in run("place", "--tenant", "blue", "--for", "vm", "--explain")[1]
    )


@pytest.mark.parametrize(
    ("words", "answer", "expected"),
    [
        ((), CLAIM, (0, {"placed": True, "dry_run": False, "claim": CLAIM})),
        (("--dry-run",), PLACED, (0, {"placed": True, "dry_run": True, "instances": PLACED["instances"]})),
        (("--dry-run",), REFUSED, (1, {"placed": False, "dry_run": True, "refusal": REFUSAL})),
        (
            (),
            Refusal(409, "no place for this now", "placement.refused", **REFUSAL),
            (1, {"placed": False, "dry_run": False, "refusal": REFUSAL}),
        ),
        (
            ("--explain",),
            Refusal(409, "no place for this now", "placement.refused", **REFUSAL, blockers=None),
            (1, {"placed": False, "dry_run": False, "refusal": {**REFUSAL, "blockers": None}}),
        ),
    ],
    ids=["claimed", "would be", "would be refused", "refused", "refused, and nothing would help"],
)
def test_programs_get_one_shape_whatever_the_answer_is(
    run: Run, stub: Stub, words: tuple[str, ...], answer: Any, expected: tuple[int, dict[str, Any]]
) -> None:
    stub.answers["POST /v1/place"] = answer
    status, out, err = run("place", "--tenant", "blue", "--for", "vm", "--need", "V100", *words, "-o", "json")
    nothing = {"claim": None, "instances": None, "refusal": None}
    assert (expected[0], {**nothing, **expected[1]}, "") == (status, json.loads(out), err)


def test_another_error_is_told_as_it_is(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/place"] = Refusal(400, "there is no variant 'V10'. Did you mean 'V100'?")
    status, _, err = run("place", "--tenant", "blue", "--for", "vm", "--need", "V10")
    assert (1, True) == (status, "Did you mean 'V100'?" in err)


@pytest.mark.parametrize(
    "words",
    [
        ("--need", "a:b"),
        ("--need", "a:1:driver:p:x"),
        ("--fitting", "x"),
        ("--amount", "vcpus"),
        ("--amount", "vcpus=x"),
        ("--amount", "vcpus=-1"),
        ("--need", "H100:0"),
        ("--need", "H100:1:drivr"),
        ("--instances", "0"),
        ("--lease", "nan"),
    ],
)
def test_options_that_cannot_be_read_say_how_they_are_written(run: Run, words: tuple[str, str]) -> None:
    status, _, err = run("place", "--tenant", "blue", "--for", "vm", *words)
    assert (1, True) == (status, words[1].split("=")[0] in err)


def test_what_is_left_out_is_told_by_its_option(run: Run, stub: Stub) -> None:
    assert "--tenant: say whose" in run("place", "--need", "H100")[2]
    assert "--for: say what" in run("place", "--tenant", "blue", "--need", "H100")[2]
    assert "Did you mean 'driver'?" in run("place", "--tenant", "b", "--for", "x", "--need", "H100:1:drivr")[2]
    assert [] == stub.asked


def test_what_if_shows_both_outcomes(run: Run, stub: Stub) -> None:
    outcome = {"placed": True, "fits": 2, "instances": PLACED["instances"]}
    stub.answers["POST /v1/whatif"] = {
        "sequence": 7, "before": {**REFUSED, "fits": 0}, "after": outcome, "displaced": ["c-1"],
    }  # fmt: skip
    status, out, _ = run(
        "whatif", "--tenant", "blue", "--for", "plan", "--need", "V100", "--add-node", "n1=2", "--drain", "n2",
        "--clean", "--quota", "blue:devices:V100=8", "--release", "c-2", "--as-of", "7d",
    )  # fmt: skip
    assert 0 == status
    assert [["before", "no", "0"], ["after", "yes", "2"]] == [line.split()[:3] for line in out.splitlines()[1:3]]
    body = asked(stub, "POST /v1/whatif")
    expected = [
        {"edit": "add-node", "like": "n1", "count": 2},
        {"edit": "drain-node", "node": "n2"},
        {"edit": "release-claim", "claim": "c-2"},
        {"edit": "clean", "node": ""},
        {"edit": "set-quota", "tenant": "blue", "name": "devices:V100", "limit": 8},
    ]
    assert (expected, "7d") == (body["edits"], body["as_of"])


def test_variants_packages_and_quotas_are_listed(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/variants"] = [
        {"name": "V100", "kind": "gpu", "vendor": "10de", "device": "1db4", "revision": "", "devices": 6}
    ]
    stub.answers["GET /v1/packages"] = [
        {"name": "gpu_large", "amounts": {"vcpus": 4}, "devices": [{"variant": "V100", "count": 1}]}
    ]
    stub.answers["GET /v1/quotas"] = [
        {"tenant": "blue", "limits": {"claims": 15}, "own": True, "used": {"claims": 2, "devices": 3}}
    ]
    assert ["V100", "gpu", "10de", "1db4", "any", "6"] == run("variants")[1].splitlines()[1].split()
    assert ["gpu_large", "1", "V100", "4", "-", "-"] == run("packages")[1].splitlines()[1].split()
    lines = [line.split() for line in run("quota")[1].splitlines()[1:]]
    assert [["blue", "claims", "15", "2", "own"], ["blue", "devices", "-", "3", "-"]] == lines
    assert 15 == json.loads(run("quota", "-o", "json")[1])[0]["limits"]["claims"]


def test_they_are_set_by_name(run: Run, stub: Stub) -> None:
    stub.answers["PUT /v1/packages/p"] = {"name": "p", "amounts": {"vcpus": 4}, "devices": []}
    stub.answers["PUT /v1/quotas/*"] = {"tenant": "*", "limits": {"claims": 15}, "own": True, "used": {}}
    assert 0 == run("packages", "set", "p", "--amount", "vcpus=4", "--devices", "V100=2")[0]
    assert {"amounts": {"vcpus": 4}, "devices": [{"variant": "V100", "count": 2}]} == asked(stub, "PUT /v1/packages/p")
    assert 0 == run("quota", "set", "*", "claims=15", "devices:V100=2")[0]
    assert {"limits": {"claims": 15, "devices:V100": 2}} == asked(stub, "PUT /v1/quotas/*")
    status, _, err = run("quota", "set", "*", "claims")
    assert (1, True) == (status, "NAME=NUMBER" in err)

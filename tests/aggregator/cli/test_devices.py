"""`muster devices`: what is listed, how wide, and when a part came into its slot."""

from typing import Any

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Refusal, Stub

GPU: dict[str, Any] = {
    "id": "gpu-7f3k2ma",
    "node": "4c4c4544",
    "node_name": "gpu-17",
    "kind": "gpu",
    "variant": "H200",
    "lifecycle": "dirty",
    "reach": "live",
    "taints": [],
    "claim": "",
    "tenant": "",
    "mode": "",
    "part": {"vendor": "NVIDIA", "model": "H200 SXM 141GB", "serial": "165042", "uuid": "GPU-1"},
    "slot": {"path": "pci0000:00/01.0/00.0", "address": "0000:01:00.0"},
    "together": [],
    "excludes": [],
    "capabilities": {"iommu_group": 12, "pci_class": "030200"},
    "unsupported": [],
}
HOST_BRIDGE = GPU | {"id": "pci-aaaaaaa", "kind": "pci", "capabilities": {"pci_class": "060000"}}


@pytest.fixture(autouse=True)
def _listed(stub: Stub) -> None:
    stub.answers["GET /v1/devices"] = {"devices": [GPU, HOST_BRIDGE], "next": "", "sequence": 7}


def test_list_leaves_out_what_nobody_can_be_given(run: Run) -> None:
    status, out, _ = run("devices")
    assert (0, ["gpu-7f3k2ma"]) == (status, [line.split()[0] for line in out.splitlines()[1:]])
    assert ["gpu-7f3k2ma", "pci-aaaaaaa"] == [line.split()[0] for line in run("devices", "--all")[1].splitlines()[1:]]


def test_wide_table_adds_kind_ids_serial_and_path(run: Run) -> None:
    head, line = run("devices", "-o", "wide")[1].splitlines()
    narrow = run("devices")[1].splitlines()[0].split()
    assert ["kind", "node", "id", "variant", "serial", "uuid", "path"] == head.split()[len(narrow) :]
    for word in ("4c4c4544", "165042", "GPU-1", "pci0000:00/01.0/00.0", "H200 SXM 141GB"):
        assert word in line


def test_unknown_node_fails_with_the_aggregators_words(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/devices"] = Refusal(404, "there is no node 'nope' in the inventory.")
    status, _, err = run("devices", "--node", "nope")
    assert 1 == status
    assert "there is no node 'nope'" in err


def test_stay_in_a_slot_says_when_and_at_which_sequence(run: Run, stub: Stub) -> None:
    slot = [
        {"device": "gpu-old", "node": "4c4c4544", "path": "p", "part": "uuid:GPU-0", "since": 3, "until": 9},
        {"device": "gpu-7f3k2ma", "node": "4c4c4544", "path": "p", "part": "uuid:GPU-1", "since": 9, "until": None},
    ]
    times = {"3": 1_700_000_000 * 10**9, "9": 1_700_086_400 * 10**9}
    stub.answers["GET /v1/devices/gpu-7f3k2ma"] = {
        "device": GPU,
        "history": {"sights": [], "slot": slot},
        "times_ns": times,
    }
    lines = [line for line in run("devices", "gpu-7f3k2ma")[1].splitlines() if line.startswith("in this slot")]
    assert 2 == len(lines)
    assert "2023-11-1" in lines[0]
    assert "(ledger 3) to 2023-11-1" in lines[0]
    assert lines[1].endswith("(ledger 9) on")


def test_devices_of_which_a_filter_cannot_be_told_are_said(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/devices?where=x"] = {"devices": [GPU], "next": "", "sequence": 7, "untold": 3}
    status, out, err = run("devices", "--where", "x")
    assert (0, 2) == (status, len(out.splitlines()))
    assert "3 devices do not say what --where asks about" in err
    assert "" == run("devices")[2]


def test_a_device_that_is_not_there_says_so_behind_its_state(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/devices"] = {"devices": [GPU, GPU | {"reach": "absent"}], "next": "", "sequence": 7}
    _, here, gone = run("devices")[1].splitlines()
    assert "dirty, absent" in gone
    assert "dirty" in here
    assert "live" not in here


@pytest.mark.parametrize(
    "words",
    [("--watch", "--as-of", "1m"), ("--watch", "--variant", "H200"), ("gpu-7f3k2ma", "--history", "--as-of", "3")],
)
def test_options_that_would_be_ignored_are_refused(run: Run, stub: Stub, words: tuple[str, ...]) -> None:
    status, _, err = run("devices", *words)
    assert (1, []) == (status, stub.asked)
    assert words[-2] in err


@pytest.mark.parametrize(("lifecycle", "word"), [("free", "clean by"), ("quarantined", "was clean by")])
def test_proof_of_what_is_clean_no_more_is_of_the_past(run: Run, stub: Stub, lifecycle: str, word: str) -> None:
    proof = {"ground": "attestation", "statement": "new", "who": "local", "sequence": 3, "readback": None}
    answer = {"device": GPU | {"lifecycle": lifecycle, "evidence": proof}, "history": {"sights": [], "slot": []}}
    stub.answers["GET /v1/devices/gpu-7f3k2ma"] = answer
    (line,) = [line for line in run("devices", "gpu-7f3k2ma")[1].splitlines() if "clean by" in line]
    assert line.startswith(word)


@pytest.mark.parametrize("words", [("--node", "gpu-17"), ("--kind", "nvme"), ("--where", "device.kind == 'gpu'")])
def test_options_of_the_list_are_not_passed_over_where_a_device_is_named(run: Run, words: tuple[str, str]) -> None:
    status, out, err = run("devices", "gpu-7f3k2ma", *words)
    assert (1, "", True) == (status, out, words[0] in err)

"""A simulated node says how it differs from what it should be, as events and in its documents (R000-3, R000-4)."""

import pytest

from collectors.simulated import Fleet, SimulatedNode
from collectors.simulated.drift import MOST_TOLD
from schemas.capabilities import DRIFT_WORDS
from schemas.device import DeviceKind, Document, Value
from tests.collectors.simulated.help import START, break_it, column, details, events, run

TYPE = """
[types.t]
switches = 0
[types.t.gpu]
count = 0
links = "none"
[types.t.nic]
ports = 2
vfs = 64
first_vlan = 100
metadata = true
[[nodes]]
type = "t"
"""


def node() -> SimulatedNode:
    (made,) = Fleet.from_text(TYPE).nodes
    made.step(START)
    return made


def told(one: SimulatedNode, word: str) -> dict[str, Value]:
    """Give by device what the documents say under a word."""
    return {each.device: each.capabilities[word] for each in one.documents() if word in each.capabilities}


def functions(one: SimulatedNode) -> list[Document]:
    return [each for each in one.documents() if each.kind is DeviceKind.VF]


def test_every_function_is_a_vnic_and_nothing_drifts() -> None:
    one = node()
    assert (len(told(one, "vnic")), told(one, "drift")) == (66, {})
    assert len({*map(str, told(one, "vnic").values())}) == 66


def test_without_metadata_nobody_says_what_a_function_should_be() -> None:
    (one,) = Fleet.from_text(TYPE.replace("metadata = true", "")).nodes
    one.step(START)
    break_it(one, "vf_wrong_vlan")
    assert events(run(one, 1)) == []
    assert (told(one, "vnic"), told(one, "drift")) == ({}, {})


@pytest.mark.parametrize(
    ("fault", "kinds", "at"),
    [
        ("vf_wrong_vlan", ["wrong-vlan"], "vf"),
        ("vf_wrong_mac", ["wrong-mac"], "vf"),
        ("vf_missing", ["missing", "wrong-count"], "port"),
    ],
)
def test_a_function_made_otherwise_is_told_and_so_is_its_mending(fault: str, kinds: list[str], at: str) -> None:
    one = node()
    whole = one.documents()
    device = {"vf": one.hardware.vfs[40], "port": one.hardware.ports[1]}[at]
    break_it(one, fault, target=40)
    parcels = run(one, 1)
    assert [detail["kind"] for detail in details(parcels) if "kind" in detail] == kinds
    assert {name for name in events(parcels) if "drift" in name} == {"sriov.drift"}
    assert told(one, "drift").keys() == {device}
    assert "sriov.drift" not in events(run(one, 1, 2)), "once, not at every step"
    one.clear(fault)
    back = run(one, 1, 3)
    assert [name for name in events(back) if "drift" in name] == ["sriov.drift_over"] * len(kinds)
    assert one.documents() == whole


def test_a_wrong_vlan_is_what_the_function_has_and_measures() -> None:
    one = node()
    break_it(one, "vf_wrong_vlan", target=3, value=777.0)
    parcels = run(one, 1)
    assert column(parcels, "vf", "vlan")[2:5] == [102, 777, 104]
    assert functions(one)[3].capabilities["vlan"] == 777
    assert told(one, "drift") == {one.hardware.vfs[3]: ["VLAN 777 instead of 103"]}


def test_of_many_differences_the_first_are_told_and_how_many_more() -> None:
    one = node()
    for vf in range(32):
        break_it(one, "vf_missing", target=vf)
    run(one, 1)
    (lines,) = told(one, "drift").values()
    assert isinstance(lines, list)
    assert (len(lines), lines[-1]) == (MOST_TOLD + 1, "and 17 more")


def test_a_drive_formatted_otherwise_has_other_sectors_and_says_so() -> None:
    """R000-4: 512 B and another count."""
    one = node()
    break_it(one, "nvme_reformatted", target=1)
    assert events(run(one, 1)) == ["nvme.drift"]
    spaces = [each.capabilities for each in one.documents() if each.kind is DeviceKind.NVME_NAMESPACE]
    assert [(space["sectors"], space["sector_bytes"]) for space in spaces[:2]] == [
        (937_684_566, 4096),
        (937_684_566 * 8, 512),
    ]
    assert [*told(one, "drift").values()] == [["LBA format 512+0 instead of 4096+0"]]
    one.clear("nvme_reformatted")
    assert events(run(one, 1, 2)) == ["nvme.drift_over"]


def test_the_words_of_drift_are_declared() -> None:
    assert {word.name for word in DRIFT_WORDS} == {"vnic", "drift"}

"""Scripted faults change what a node measures and says, as on a real one."""

import re

import pytest

from collectors.simulated import Fault, default_fleet
from collectors.simulated.faults import FAULTS
from schemas.errors import ConfigError
from schemas.rows import Parcel
from schemas.verbosity import Level, RowClass
from tests.collectors.simulated.help import (
    SECOND,
    START,
    break_it,
    column,
    details,
    devices,
    events,
    lines,
    of,
    one_node,
    run,
)


def able(fault: str) -> str:
    """Give a type of node to which a fault can happen."""
    return "dpu-host" if FAULTS[fault].target == "dpu" else "hgx-h100"


def told(parcels: list[Parcel]) -> list[str]:
    """Give the types of the events of a fault itself, without those of the drift that follows."""
    return [name for name in events(parcels) if "drift" not in name]


def test_xid_79_takes_one_gpu_and_leaves_seven() -> None:
    node = one_node()
    lost = node.hardware.gpus[3]
    break_it(node, "xid_79", target=3, duration_seconds=10.0)
    parcels = run(node, 1)
    assert events(parcels) == ["nvml.xid", "nvml.gpu.lost"]
    assert details(parcels)[0] == {"xid": 79, "fault": "xid_79", "simulated": True}
    assert [key for parcel in of(parcels, RowClass.EVENT) for key in parcel.block.keys] == [[lost], [lost]]
    address = node.hardware.layout.gpus[3].address
    assert lines(parcels) == [
        f"NVRM: Xid (PCI:{address[:-2]}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        f"NVRM: GPU {address}: GPU has fallen off the bus.",
    ]
    assert lost not in devices(parcels, "gpu")
    assert len(devices(parcels, "gpu")) == 7
    assert lost not in [document.device for document in node.documents()]
    back = run(node, 10, 2)
    assert events(back) == ["nvml.gpu.back"]
    assert lost in devices(back, "gpu")
    assert lost in [document.device for document in node.documents()]


def test_every_xid_line_is_in_the_drivers_words() -> None:
    """The form that the kernel log's rules look for: address without function, number, process, text."""
    form = re.compile(
        r"NVRM: Xid \(PCI:[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\): (\d+), pid=('<unknown>'|\d+), name=\S+, .+"
    )
    seen = {}
    for name in ("xid_79", "xid_119", "ecc_double_bit", "nvlink_down"):
        node = one_node()
        break_it(node, name)
        match = form.fullmatch(lines(run(node, 1))[0])
        assert match is not None
        seen[name] = int(match[1])
    assert {"xid_79": 79, "xid_119": 119, "ecc_double_bit": 48, "nvlink_down": 74} == seen


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_begins_is_told_and_can_be_cleared(name: str) -> None:
    """What begins with events ends with events, and leaves the node as it was, apart from its counters."""
    node = one_node(able(name))
    well = [len(node.documents()), [parcel.block.measurement for parcel in run(node, 1)]]
    break_it(node, name)
    during = run(node, 1, 2)
    kind = FAULTS["link_down" if name == "link_flap" else name]
    assert [saying.type for saying in kind.events] == told(during)
    assert len(kind.lines) == len(lines(during))
    assert node.clear(name) >= 1
    assert node.clear(name) == 0, "what ends at the next step was counted"
    after = run(node, 1, 3)
    assert [saying.type for saying in kind.recovery_events] == told(after)
    assert [len(node.documents()), [parcel.block.measurement for parcel in run(node, 1, 4)]] == well
    assert node.clear(name) == 0


def test_a_fault_waits_and_ends_by_itself() -> None:
    node = one_node()
    break_it(node, "nvme_media_errors", target=2, after_seconds=5.0, duration_seconds=10.0, value=2.0)
    told = [events(run(node, 1, second)) for second in range(1, 21)]
    assert [index + 1 for index, types in enumerate(told) if types] == [6]
    parcels = run(node, 1, 21)
    assert column(parcels, "nvme", "media_errors_total") == [0, 0, 20, 0]
    assert column(parcels, "nvme", "critical_warning") == [0, 0, 4, 0]


def test_spare_running_out_sets_the_drives_warning() -> None:
    node = one_node()
    break_it(node, "nvme_spare_low", target=1)
    parcels = run(node, 2)
    assert column(parcels, "nvme", "available_spare_ratio") == [1.0, 0.04, 1.0, 1.0]
    assert column(parcels, "nvme", "critical_warning") == [0, 1, 0, 0]


def test_a_function_made_anew_counts_from_zero_and_its_port_goes_on() -> None:
    node = one_node()
    before = run(node, 50)
    break_it(node, "vf_missing", target=5, duration_seconds=3.0)
    gone = run(node, 1, 51)
    assert len(devices(gone, "vf")) == 63
    assert column(gone, "nic", "vfs") == [31, 32]
    assert [line for line in lines(gone) if "Removing from iommu group" in line]
    back = run(node, 4, 52)
    assert column(back, "vf", "receive_bytes_total")[5] < column(before, "vf", "receive_bytes_total")[5]
    assert column(back, "nic", "receive_bytes_total")[0] > column(before, "nic", "receive_bytes_total")[0]


def test_a_link_flaps_as_often_as_asked() -> None:
    node = one_node()
    break_it(node, "link_flap", target=0, value=4.0)
    told = [event for second in range(1, 20) for event in events(run(node, 1, second))]
    assert ["sriov.link.down", "sriov.link.up"] * 4 == told
    assert column(run(node, 1, 20), "nic", "link_downs_total") == [4, 0]


def test_a_double_bit_error_leaves_a_row_to_remap() -> None:
    node = one_node()
    break_it(node, "ecc_double_bit", target=6, value=2.0)
    parcels = run(node, 1)
    assert column(parcels, "gpu", "ecc_uncorrected_total") == [0] * 6 + [2, 0]
    assert column(parcels, "gpu", "row_remap_pending") == [False] * 6 + [True, False]
    assert "2 uncorrected memory errors" in (of(parcels, RowClass.EVENT)[0].block.strings["message"][1] or "")


def test_a_link_that_is_down_stands_still() -> None:
    node = one_node()
    run(node, 10)
    break_it(node, "nvlink_down", target=0, link=7)
    down = run(node, 1, 11)
    later = run(node, 100, 12)
    moved, still = column(later, "nvlink", "receive_bytes_total"), column(down, "nvlink", "receive_bytes_total")
    assert column(later, "nvlink", "active").index(False) == 7
    assert column(later, "gpu", "nvlinks_active") == [17] + [18] * 7
    assert moved[7] == still[7]
    assert moved[8] > still[8]


def test_a_dead_bmc_is_absent_and_the_rest_goes_on() -> None:
    node = one_node()
    break_it(node, "bmc_dead")
    parcels = run(node, 1)
    assert events(parcels) == ["redfish.bmc.lost"]
    assert not [parcel for parcel in parcels if parcel.block.measurement.startswith("bmc")]
    assert len(devices(parcels, "gpu")) == 8


def test_a_silent_node_says_nothing_and_comes_back_with_its_counters() -> None:
    node = one_node()
    before = run(node, 10)
    break_it(node, "node_silent", duration_seconds=5.0)
    assert [run(node, 1, second) for second in range(11, 16)] == [[]] * 5
    assert node.silent
    after = run(node, 1, 16)
    assert not node.silent
    assert min(column(after, "gpu", "energy_joules_total")) > max(0, min(column(before, "gpu", "energy_joules_total")))


def test_faults_tell_that_they_are_simulated() -> None:
    nodes = {node_type: one_node(node_type) for node_type in map(able, FAULTS)}
    for name in FAULTS:
        break_it(nodes[able(name)], name)
        nodes[able(name)].clear("node_silent")
    told = [details(run(node, 1)) for node in nodes.values()]
    assert all(each and all(detail["simulated"] is True for detail in each) for each in told)


def test_a_change_of_devices_moves_the_documents_revision() -> None:
    node = one_node()
    run(node, 3)
    before = node.documents_revision
    run(node, 3, 4)
    assert node.documents_revision == before
    break_it(node, "gpu_lost")
    run(node, 1, 7)
    assert node.documents_revision > before


@pytest.mark.parametrize(
    ("fault", "node_type", "says"),
    [
        (Fault(fault="xid_97"), "hgx-h100", "Did you mean 'xid_79'"),
        (Fault(fault="gpu_lost", target=8), "hgx-h100", "there is no 8"),
        (Fault(fault="nvlink_down"), "v100-shared", "has no NVLink 0"),
        (Fault(fault="nvlink_down", link=6), "dgx-v100", "has no NVLink 6"),
        (Fault(fault="vf_missing", target=64), "hgx-h100", "there is no 64"),
        (Fault(fault="dpu_crash"), "hgx-h100", "has 0 of the kind dpu"),
    ],
)
def test_a_fault_that_cannot_happen_is_refused(fault: Fault, node_type: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        one_node(node_type).inject(fault)


def test_log_lines_above_the_level_are_not_made() -> None:
    node = default_fleet(1).nodes[0]
    node.step(START)
    break_it(node, "gpu_lost")
    parcels = node.step(START + SECOND, Level.ESSENTIAL)
    assert lines(parcels) == []
    assert events(parcels) == ["nvml.gpu.lost"]
    assert {parcel.level for parcel in parcels} == {Level.ESSENTIAL}

"""Rows: what was measured, and nothing that was not."""

import errno
from pathlib import Path

import pytest

from schemas.errors import PartialCollectError
from schemas.verbosity import Level
from tests.collectors.sriov.help import Clock, collector_of, described, rows
from tests.collectors.sriov.made import PORT, Answers, answer, interface, port, refusal, vf, vf_entry

COUNTS = (11, 12, 1300, 1400, 15, 16, 17, 18)
VFS = ("0000:3b:00.2", "0000:3b:00.3")
DEVICE = "nic:b8:3f:d2:9e:41:6c"


def machine(root: Path, driver: str = "mlx5_core", *, counts: tuple[int, ...] = COUNTS) -> Answers:
    """Make a port with two functions, of which the second is bound to vfio."""
    port(root, driver=driver)
    interface(root, PORT, "ens1f0", 4, speed="100000")
    for index, address in enumerate(VFS):
        vf(root, PORT, index, address, driver=("mlx5_core", "vfio-pci")[index])
    interface(root, VFS[0], "ens1f0v0", 9)
    answers = Answers()
    answers.links[4] = answer(4, vfs=[vf_entry(0, vlan=7, counts=counts), vf_entry(1, state=2, counts=counts)])
    answers.links[9] = answer(9, "ens1f0v0", counts=(1, 2, 300, 400, 0, 0, 5, 6, 7))
    return answers


def test_function_is_counted_by_its_port(tmp_path: Path) -> None:
    found = rows(collector_of(tmp_path, machine(tmp_path)))
    assert {
        "receive_bytes_total": 1300,
        "transmit_bytes_total": 1400,
        "receive_packets_total": 11,
        "transmit_packets_total": 12,
        "receive_broadcast_total": 15,
        "receive_multicast_total": 16,
        "receive_dropped_total": 17,
        "transmit_dropped_total": 18,
        "vlan": 7,
        "link_up": True,
    } == found["vf", "vf:b8:3f:d2:9e:41:6c/0"]
    assert found["vf", "vf:b8:3f:d2:9e:41:6c/1"]["link_up"] is False, "its port shows it no link"


@pytest.mark.parametrize(
    "driver", ["bnxt_en", "bnx2x", "igb", "qede", "sfc", "hns3", "nfp", "rvu_nicpf", "cxgb4", "be2net", "unheard-of"]
)
def test_zeros_of_a_driver_that_does_not_count_are_unsupported_and_never_0(tmp_path: Path, driver: str) -> None:
    collector = collector_of(tmp_path, machine(tmp_path, driver, counts=(0,) * 8))
    found, documents = rows(collector), described(collector)
    assert {"vlan": 0, "link_up": False} == found["vf", "vf:b8:3f:d2:9e:41:6c/1"]
    assert "vf.receive_bytes_total" in documents[VFS[1]].unsupported
    assert "none" == documents[PORT].capabilities["vf_counters"]


def test_function_that_its_port_does_not_count_is_counted_by_its_own_interface(tmp_path: Path) -> None:
    collector = collector_of(tmp_path, machine(tmp_path, "igb", counts=(0,) * 8))
    found = rows(collector)["vf", "vf:b8:3f:d2:9e:41:6c/0"]
    assert (1, 2, 300, 400, 7) == tuple(
        found[f"{name}_total"]
        for name in (
            "receive_packets",
            "transmit_packets",
            "receive_bytes",
            "transmit_bytes",
            "receive_multicast",
        )
    )
    assert [] == described(collector)[VFS[0]].unsupported


@pytest.mark.parametrize("driver", ["mlx5_core", "ice", "i40e", "ixgbe", "ionic"])
def test_zeros_of_a_driver_that_counts_are_zeros(tmp_path: Path, driver: str) -> None:
    found = rows(collector_of(tmp_path, machine(tmp_path, driver, counts=(0,) * 8)))
    assert 0 == found["vf", "vf:b8:3f:d2:9e:41:6c/1"]["receive_bytes_total"]


def test_a_count_proves_that_an_unknown_driver_counts(tmp_path: Path) -> None:
    collector = collector_of(tmp_path, machine(tmp_path, "newnic"))
    assert 1300 == rows(collector)["vf", "vf:b8:3f:d2:9e:41:6c/1"]["receive_bytes_total"]
    assert [] == described(collector)[VFS[1]].unsupported


def test_zeros_after_a_count_are_a_function_in_reset(tmp_path: Path) -> None:
    answers = machine(tmp_path, "ice")
    collector = collector_of(tmp_path, answers)
    assert 1300 == rows(collector)["vf", "vf:b8:3f:d2:9e:41:6c/1"]["receive_bytes_total"]
    answers.links[4] = answer(4, vfs=[vf_entry(0, counts=COUNTS), vf_entry(1)])
    assert "receive_bytes_total" not in rows(collector)["vf", "vf:b8:3f:d2:9e:41:6c/1"]
    answers.links[4] = answer(4, vfs=[vf_entry(0, counts=COUNTS), vf_entry(1, counts=(1,) * 8)])
    assert 1 == rows(collector)["vf", "vf:b8:3f:d2:9e:41:6c/1"]["receive_bytes_total"]


def test_representor_tells_the_other_way_round(tmp_path: Path) -> None:
    port(tmp_path, driver="nfp")
    interface(tmp_path, PORT, "ens1np0", 4, port_name="p0", switch="ae41")
    vf(tmp_path, PORT, 0, VFS[0], driver="vfio-pci")
    vf(tmp_path, PORT, 1, VFS[1], driver="vfio-pci")
    # by name and order these would be the other way round
    interface(tmp_path, PORT, "eth0", 5, port_name="pf0vf1", switch="ae41")
    interface(tmp_path, PORT, "eth1", 6, port_name="pf0vf0", switch="ae41")
    interface(tmp_path, PORT, "eth2", 7, port_name="pf1vf0", switch="ae41")
    # this stands for a function of the machine in which the DPU sits
    interface(tmp_path, PORT, "eth3", 3, port_name="c1pf0vf0", switch="ae41")
    answers = Answers()
    answers.links[4] = answer(4, "ens1np0", vfs=[vf_entry(0), vf_entry(1)])
    answers.links[5] = answer(5, "eth0", counts=(1, 2, 3, 4, 0, 0, 0, 0, 0))
    answers.links[6] = answer(6, "eth1", counts=(10, 20, 30, 40, 0, 0, 0, 0, 0))
    collector = collector_of(tmp_path, answers)
    found, documents = rows(collector), described(collector)
    assert ("ens1np0", "eth1", "eth0") == (
        documents[PORT].capabilities["interface"],
        documents[VFS[0]].capabilities["representor"],
        documents[VFS[1]].capabilities["representor"],
    )
    first = found["vf", "vf:b8:3f:d2:9e:41:6c/0"]
    assert (20, 10, 40, 30) == tuple(
        first[f"{name}_total"] for name in ("receive_packets", "transmit_packets", "receive_bytes", "transmit_bytes")
    )
    assert "vf.receive_dropped_total" in documents[VFS[0]].unsupported


def test_port_is_counted_at_the_wire_where_its_driver_does(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    collector = collector_of(tmp_path, answers)
    found = rows(collector)["nic", DEVICE]
    assert (1000, 2) == (found["receive_bytes_total"], found["link_downs_total"])
    answers.counters["ens1f0"] = {"rx_packets": 1, "rx_bytes_phy": 77, "rx_pcs_symbol_err_phy": 3}
    described(collector)
    collector = collector_of(tmp_path, answers)
    found = rows(collector)["nic", DEVICE]
    assert (77, 2000, 3) == tuple(
        found[f"{name}_total"] for name in ("receive_bytes", "transmit_bytes", "symbol_errors")
    )
    assert [] == described(collector)[PORT].unsupported
    answers.counters["ens1f0"] = {"rx0_packets": 5, **answers.counters["ens1f0"]}
    assert 77 == rows(collector)["nic", DEVICE]["receive_bytes_total"], "a queue was added, and all names have moved"


def test_port_tells_its_rate_and_its_functions(tmp_path: Path) -> None:
    found = rows(collector_of(tmp_path, machine(tmp_path)))["nic", DEVICE]
    assert (12_500_000_000, True, True, 2) == tuple(
        found[name] for name in ("link_rate_bytes_per_second", "full_duplex", "link_up", "vfs")
    )


def test_port_that_can_have_no_functions_has_no_count_of_them(tmp_path: Path) -> None:
    port(tmp_path, total=0)
    interface(tmp_path, PORT, "ens1f0", 4)
    answers = Answers()
    answers.links[4] = answer(4)
    assert "vfs" not in rows(collector_of(tmp_path, answers))["nic", DEVICE]


def test_port_that_does_not_answer_harms_only_itself(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    port(tmp_path, "0000:3b:00.1")
    interface(tmp_path, "0000:3b:00.1", "ens1f1", 5)
    found = rows(collector_of(tmp_path, answers))
    assert 1300 == found["vf", "vf:b8:3f:d2:9e:41:6c/0"]["receive_bytes_total"]
    assert {"vfs": 0} == found["nic", "nic:0000:3b:00.1"]


def test_at_level_essential_functions_are_not_asked_for(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    collector = collector_of(tmp_path, answers, level=Level.ESSENTIAL, clock=Clock())
    answers.asked.clear()
    assert {"nic"} == {measurement for measurement, _ in rows(collector)}
    assert [(4, 0)] == answers.asked


def test_counters_that_do_not_fit_are_absent_and_that_is_told(tmp_path: Path) -> None:
    """How functions are set is read all the same."""
    answers = machine(tmp_path)
    answers.without_counters[4] = answer(4, vfs=[vf_entry(0, vlan=7, counts=None), vf_entry(1, counts=None)])
    answers.links[4] = refusal(errno.EMSGSIZE)
    collector = collector_of(tmp_path, answers)
    assert {"vlan": 7, "link_up": True} == rows(collector)["vf", "vf:b8:3f:d2:9e:41:6c/0"]
    with pytest.raises(PartialCollectError, match="2 functions do not fit"):
        list(collector.collect())

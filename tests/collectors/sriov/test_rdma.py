"""RDMA links are their functions', by address or by interface, and say what their drivers count, in our units."""

from pathlib import Path
from typing import Any

from collectors.sriov.rdma import owners, read_links, read_row
from tests.collectors.pci.made import link, write
from tests.collectors.sriov.help import collector_of, described, rows
from tests.collectors.sriov.made import OTHER, PORT, Answers, answer, interface, port, vf, vf_entry

FUNCTION = "0000:3b:00.4"
MLX5: dict[str, str] = {
    "state": "4: ACTIVE",
    "phys_state": "5: LinkUp",
    "rate": "200 Gb/sec (4X HDR)",
    "link_layer": "Ethernet",
    "counters/port_rcv_data": "1000",
    "counters/port_xmit_data": "3",
    "counters/port_rcv_packets": "20",
    "counters/port_xmit_wait": "0",
    "counters/link_downed": "1",
    "hw_counters/out_of_sequence": "7",
    "hw_counters/out_of_buffer": "0",
    "hw_counters/np_cnp_sent": "11",
    "hw_counters/rp_cnp_handled": "12",
}


def rdma(root: Path, name: str, address: str, files: dict[str, str], *, port: int = 1, parent: str = "") -> None:
    """Give a function an RDMA device with one link; `address` "": one in software on the interface `parent`."""
    where = f"sys/devices/virtual/infiniband/{name}"
    if address:
        folder = (root / "sys/bus/pci/devices" / address).resolve().relative_to(root.resolve())
        where = f"{folder}/infiniband/{name}"
    write(root, f"{where}/fw_ver", "16.35.2000\n" if address else "\n")
    write(root, f"{where}/node_guid", "b83f:d203:009e:416c\n")
    if parent:
        write(root, f"{where}/parent", f"{parent}\n")
    for file, text in files.items():
        write(root, f"{where}/ports/{port}/{file}", f"{text}\n")
    link(root, f"sys/class/infiniband/{name}", f"../../{where.removeprefix('sys/')}")


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def machine(root: Path) -> Answers:
    """Make a port with two functions, and a second port; links in an order that is not that of what they are on."""
    made = Answers()
    port(root)
    port(root, OTHER, group=11)
    interface(root, PORT, "ens1f0", 4)
    interface(root, OTHER, "ens1f1", 5)
    vf(root, PORT, 0, FUNCTION)
    vf(root, PORT, 1, "0000:3b:00.2")
    made.links[4] = answer(4, mac="b8:3f:d2:9e:41:6c", vfs=[vf_entry(0), vf_entry(1)])
    made.links[5] = answer(5, "ens1f1", mac="b8:3f:d2:9e:41:6d")
    rdma(root, "mlx5_0", FUNCTION, MLX5 | {"state": "1: DOWN", "phys_state": "3: Disabled"})
    rdma(root, "mlx5_1", OTHER, MLX5)
    rdma(root, "mlx5_2", PORT, MLX5)
    rdma(root, "rxe0", "", {"state": "4: ACTIVE", "hw_counters/sent_pkts": "5"}, parent="ens1f1")
    rdma(root, "rxe1", "", {"state": "4: ACTIVE"}, parent="lo")
    return made


def test_links_are_of_the_function_that_they_are_on_never_of_the_next_one(tmp_path: Path) -> None:
    found = rows(collector_of(tmp_path, machine(tmp_path)))
    devices = {device for measurement, device in found if measurement == "rdma"}
    port_of = "b8:3f:d2:9e:41:6c"
    assert {f"vf:{port_of}/0", f"nic:{port_of}", "nic:b8:3f:d2:9e:41:6d"} == devices
    assert found["rdma", f"vf:{port_of}/0"]["active"] is False
    assert found["rdma", f"nic:{port_of}"]["active"] is True


def test_row_has_base_units_and_nothing_that_is_not_counted(tmp_path: Path) -> None:
    machine(tmp_path)
    (one,) = [one for one in read_links(tmp_path) if one.name == "mlx5_2/1"]
    row = read_row(one, "nic:x")
    assert {"link": "mlx5_2/1"} == row.attributes
    assert {
        "active": True,
        "physical_state": "LinkUp",
        "link_rate_bytes_per_second": 25_000_000_000,
        "receive_bytes_total": 4000,
        "transmit_bytes_total": 12,
        "receive_packets_total": 20,
        "transmit_waits_total": 0,
        "link_downs_total": 1,
        "out_of_sequence_total": 7,
        "out_of_buffer_total": 0,
        "congestion_sent_total": 11,
        "congestion_handled_total": 12,
    } == _said(dict(row.fields))


def test_link_that_is_down_has_no_rate(tmp_path: Path) -> None:
    machine(tmp_path)
    (down,) = [one for one in read_links(tmp_path) if one.name == "mlx5_0/1"]
    fields = read_row(down, "vf:x").fields
    assert (False, "Disabled", None) == tuple(
        fields[name] for name in ("active", "physical_state", "link_rate_bytes_per_second")
    )


def test_link_in_software_is_of_the_interface_that_it_is_on(tmp_path: Path) -> None:
    machine(tmp_path)
    links = read_links(tmp_path)
    found = owners(links, {OTHER: "nic:b"}, {"ens1f1": "nic:b"})
    assert {"mlx5_1/1": "nic:b", "rxe0/1": "nic:b"} == found
    (soft,) = [one for one in links if one.device == "rxe0"]
    assert {"active": True, "transmit_packets_total": 5} == _said(dict(read_row(soft, "nic:b").fields))


def test_documents_name_the_links(tmp_path: Path) -> None:
    documents = described(collector_of(tmp_path, machine(tmp_path)))
    words = documents[OTHER].capabilities
    assert ["mlx5_1/1=Ethernet", "rxe0/1"] == words["rdma_links"]
    assert ("16.35.2000", "b83fd203009e416c") == (words["rdma_firmware_version"], words["rdma_node_guid"])
    assert ["mlx5_0/1=Ethernet"] == documents[FUNCTION].capabilities["rdma_links"]
    assert "rdma_links" not in documents["0000:3b:00.2"].capabilities


def test_garbage_is_absent(tmp_path: Path) -> None:
    port(tmp_path)
    rdma(tmp_path, "mlx5_0", PORT, {"state": "?", "rate": "fast", "link_layer": "Unknown", "counters/link_downed": "x"})
    (one,) = read_links(tmp_path)
    assert "" == one.layer
    assert {} == _said(dict(read_row(one, "nic:x").fields))

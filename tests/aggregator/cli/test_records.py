"""What libvirt and nova say of devices in use, read from files as people have them."""

import json
from pathlib import Path

import pytest

from aggregator.cli.records import read
from aggregator.cli.words import WordError
from tests.aggregator.cli.stub import CASES

MADE = CASES.parent / "records" / "made"
UUID = "7b7b6c3e-9c2b-4f0e-9d0a-0c7bb0b6b0a7"


def found(*names: str, node: str = "") -> list[tuple[str, str, str]]:
    record = read([MADE / name for name in names], node)
    return [(use["node"], use["address"], use["user"]) for use in record.uses]


def test_domains_name_their_functions_by_every_way_and_nothing_of_the_guests_own_bus() -> None:
    assert [
        ("gpu1", "0000:a3:00.0", "libvirt:instance-00000042"),
        ("gpu1", "0000:61:02.1", "libvirt:instance-00000042"),
        ("gpu1", "0000:05:00.0", "libvirt:instance-00000042"),
        ("gpu1", "0000:c3:00.0", "libvirt:spare (not running)"),
    ] == found("domains.xml", node="gpu1")


def test_rows_of_nova_are_joined_with_hosts_and_names() -> None:
    assert [
        ("gpu1.example.org", "0000:27:00.0", f"nova:training-1 ({UUID})"),
        ("gpu2.example.org", "0000:a3:00.0", "nova:0d2f5a1e-0b5f-4f40-8f0c-9c1d0f0e7a11"),
    ] == found("pci_devices.csv", "compute_nodes.json", "servers.json")


def test_rows_that_name_their_host_need_no_other_file(tmp_path: Path) -> None:
    row = {"address": "27:00.0", "status": "allocated", "instance_uuid": UUID, "hypervisor_hostname": "gpu1"}
    path = tmp_path / "pci.json"
    for text in (json.dumps([row]), json.dumps(row), f"{json.dumps(row)}\n{json.dumps({**row, 'deleted': 7})}\n"):
        path.write_text(text)
        assert [("gpu1", "0000:27:00.0", f"nova:{UUID}")] == [
            (use["node"], use["address"], use["user"]) for use in read([path]).uses
        ]


def test_record_is_as_old_as_its_oldest_file() -> None:
    paths = [MADE / "pci_devices.csv", MADE / "compute_nodes.json"]
    assert min(path.stat().st_mtime_ns for path in paths) == read(paths).as_of_ns


@pytest.mark.parametrize(
    ("text", "node", "why"),
    [
        ("<domain/>", "", "--node"),
        ("<pool/>", "n1", "no <domain>"),
        ("<domain>", "n1", "not the XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><domain/>', "n1", "document type"),
        ("<domain><devices><hostdev type='pci'><source><address bus='x'/></source></hostdev></devices></domain>", "n1",
         "no PCI address"),
        ("[1]", "", "objects"),
        ("[", "", "not JSON"),
        ('[{"id": "1", "name": "vm"}]', "", "servers alone"),
        ('[{"color": "red"}]', "", "neither"),
        ('[{"address": "27:00.0", "status": "allocated", "compute_node_id": 3}]', "", "compute node 3"),
        ('[{"address": "nowhere", "status": "allocated", "host": "gpu1"}]', "", "not a PCI address"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_record_says_why(tmp_path: Path, text: str, node: str, why: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(WordError, match=why):
        read([path], node)


def test_two_schedulers_are_two_records(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text('[{"address": "27:00.0", "status": "allocated", "host": "gpu1"}]')
    with pytest.raises(WordError, match="each by itself"):
        read([path, MADE / "domains.xml"], "gpu1")


def test_node_that_is_given_leaves_others_out() -> None:
    names = ("pci_devices.csv", "compute_nodes.json")
    assert ["gpu2.example.org"] == [node for node, _, _ in found(*names, node="gpu2.example.org")]

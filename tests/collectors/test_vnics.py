"""What a cloud's metadata service says of VNICs, and how functions differ from it (R000-2, R000-3)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.simulated.fleet import Fleet
from collectors.simulated.metadata import MetadataService
from collectors.vnics import Difference, Function, Vnic, VnicsError, compare, fetch, parse_vnics
from tests.ports import free_port

BARE_METAL = b"""[
 {"vnicId": "ocid1.vnic.oc1.phx.a", "privateIp": "10.0.0.2", "vlanTag": 0, "macAddr": "90:e2:ba:d4:f1:68",
  "virtualRouterIp": "10.0.0.1", "subnetCidrBlock": "10.0.0.0/24", "nicIndex": 0},
 {"vnicId": "ocid1.vnic.oc1.phx.b", "privateIp": "10.0.4.5", "vlanTag": 1, "macAddr": "00:00:17:02:2B:B1",
  "virtualRouterIp": "10.0.4.1", "subnetCidrBlock": "10.0.4.0/24", "nicIndex": 0}]"""
"""The shape of a bare-metal answer. Made from the documentation's example."""
VIRTUAL = b"""[{"vnicId": "ocid1.vnic.oc1.phx.c", "privateIp": "10.0.0.230", "vlanTag": 1039,
  "macAddr": "02:00:17:05:D1:DB", "virtualRouterIp": "10.0.0.1", "subnetCidrBlock": "10.0.0.0/24"}]"""
PORT = Function("nic0", 0, "90:e2:ba:d4:f1:68", 0, virtual=False)


def vf(index: int, vlan: int | None = None, mac: str = "", nic: int = 0) -> Function:
    address = mac or f"02:00:00:00:{nic:02x}:{index:02x}"
    return Function(f"vf{nic}/{index}", nic, address, index + 1 if vlan is None else vlan)


def vnic(index: int, nic: int = 0) -> Vnic:
    return Vnic(f"v{nic}/{index}", f"02:00:00:00:{nic:02x}:{index:02x}", index + 1, nic)


def test_addresses_are_compared_in_lower_case_and_unknown_fields_are_skipped() -> None:
    first, second = parse_vnics(BARE_METAL)
    assert (first.vlan_tag, first.nic_index, second.mac_addr) == (0, 0, "00:00:17:02:2b:b1")
    found = compare([first, second], [PORT, Function("vf0", 0, "00:00:17:02:2b:b1", 1)])
    assert found.drifts == []
    assert found.vnic_of == {"nic0": "ocid1.vnic.oc1.phx.a", "vf0": "ocid1.vnic.oc1.phx.b"}


def test_in_a_virtual_machine_the_mac_alone_decides() -> None:
    """There the VLAN is a number of the cloud's own, and no VNIC tells a NIC."""
    found = compare(parse_vnics(VIRTUAL), [Function("nic0", 0, "02:00:17:05:d1:db", 0), vf(7)])
    assert (found.vnic_of, found.drifts) == ({"nic0": "ocid1.vnic.oc1.phx.c"}, [])


@pytest.mark.parametrize(
    ("functions", "kinds"),
    [
        ([vf(0), vf(1)], []),
        ([vf(0), vf(1, vlan=9)], ["wrong-vlan"]),
        ([vf(0), vf(1, mac="02:ff:ff:ff:ff:ff")], ["wrong-mac"]),
        ([vf(0)], ["missing", "wrong-count"]),
        ([vf(0), vf(1), vf(2)], ["unexpected", "wrong-count"]),
        ([vf(0, vlan=2), vf(1, vlan=1)], ["wrong-vlan", "wrong-vlan"]),
        ([vf(0), vf(1, vlan=9, mac="02:ff:ff:ff:ff:ff")], ["missing", "unexpected"]),
        ([], ["missing", "missing", "wrong-count"]),
        ([vf(0), vf(1), vf(0, nic=1)], ["unexpected"]),
    ],
)
def test_what_differs_is_told_by_kind(functions: list[Function], kinds: list[str]) -> None:
    assert [one.kind.value for one in compare([vnic(0), vnic(1)], functions).drifts] == kinds


def test_what_is_wrong_is_said_with_what_it_should_be() -> None:
    (drift,) = compare([vnic(0)], [vf(0, vlan=9)]).drifts
    assert (drift.device, drift.vnic, drift.message) == ("vf0/0", "v0/0", "VLAN 9 instead of 1")
    missing = [one for one in compare([vnic(0)], []).drifts if one.kind is Difference.MISSING]
    assert [(one.device, one.vnic, one.nic) for one in missing] == [("", "v0/0", 0)]


@given(st.lists(st.integers(0, 40), unique=True, max_size=20), st.lists(st.integers(0, 40), unique=True, max_size=20))
def test_every_vnic_and_function_is_matched_or_told_once(wanted: list[int], there: list[int]) -> None:
    found = compare([vnic(one) for one in wanted], [vf(one) for one in there])
    missing = sum(one.kind is Difference.MISSING for one in found.drifts)
    unexpected = sum(one.kind is Difference.UNEXPECTED for one in found.drifts)
    assert len(found.vnic_of) == len({*wanted} & {*there}) == len(wanted) - missing
    assert unexpected == (len(there) - len(found.vnic_of) if wanted else 0)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'[{"vnicId": "a"}]', b"\xff", BARE_METAL[:-5], b"[" * 100_000])
def test_what_is_no_list_of_vnics_is_refused(data: bytes) -> None:
    with pytest.raises(VnicsError, match="does not send a list of VNICs"):
        parse_vnics(data)


@pytest.fixture
def service() -> MetadataService:
    text = "[types.t.nic]\nports = 2\nvfs = 256\nfirst_vlan = 100\nmetadata = true\n[[nodes]]\ntype = 't'"
    return MetadataService(Fleet.from_text(text).nodes[0].hardware)


def test_the_service_answers_who_sends_the_header(service: MetadataService) -> None:
    """R000-2: 2 + 256 VNICs, by a GET of /opc/v2/vnics/."""
    try:
        data = fetch("127.0.0.1", service.port)
    finally:
        service.stop()
    assert len(parse_vnics(data)) == 258
    assert json.loads(data)[0].keys() == json.loads(BARE_METAL)[0].keys()


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({}, "/opc/v2/vnics/", 403),
        ({"Authorization": "Bearer Oracle", "X-Forwarded-For": "10.0.0.1"}, "/opc/v2/vnics/", 403),
        ({"Authorization": "Bearer Oracle"}, "/opc/v1/vnics/", 404),
    ],
)
def test_the_service_refuses_everybody_else(
    service: MetadataService, headers: dict[str, str], path: str, status: int
) -> None:
    from http.client import HTTPConnection

    connection = HTTPConnection("127.0.0.1", service.port, timeout=5.0)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, b"")
    finally:
        connection.close()
        service.stop()


def test_a_service_that_does_not_answer_is_an_error_that_says_where() -> None:
    port = free_port()
    with pytest.raises(VnicsError, match=f"127.0.0.1:{port} does not answer"):
        fetch("127.0.0.1", port)

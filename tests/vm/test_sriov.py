"""A real port with real virtual functions, read by us and by `ip`: made, set from outside, given away, pulled.

QEMU's igb under the guest's own driver, which does not count for its functions and lets the kernel answer zeros.
Requirements: R000-1, R000-5, R004-9.
"""

import json
from typing import Any, Final

import pytest

from collectors.sriov.netlink import parse_links
from tests.vm.emulator import emulator
from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.slow]

MAC: Final = "02:11:22:33:44:55"
_DEVICES: Final = (
    *("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-device", "intel-iommu,intremap=off"),
    *("-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on intel_iommu=on"),
    *("-device", "pcie-root-port,id=rp1,chassis=1,slot=1", "-netdev", "user,id=n0,restrict=on"),
    *("-device", f"igb,id=port,netdev=n0,bus=rp1,mac={MAC}"),
)


class Said:
    """What the collector in the guest said."""

    def __init__(self) -> None:
        self.looks: dict[str, Any] = {}
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.pulled_seconds = 0.0

    def vfs(self, step: str) -> list[dict[str, Any]]:
        """Give the documents of virtual functions in the order of their index."""
        found = [one for one in self.looks[step]["documents"].values() if one["kind"] == "vf"]
        return sorted(found, key=lambda one: int(one["capabilities"]["vf_index"]))

    def rows(self, step: str) -> dict[str, dict[str, Any]]:
        """Give the rows of virtual functions by address."""
        return {address: fields for measurement, address, fields in self.looks[step]["rows"] if measurement == "vf"}


@pytest.fixture(scope="module")
def said() -> Said:
    found = Said()
    command = "python3.11 -m tests.vm.guest.sriov"
    with Machine(command, memory=1024, extra=_DEVICES, emulator=emulator("igb")) as machine:
        began = 0.0
        for line in machine.lines(300):
            ((word, what),) = json.loads(line).items()
            if word == "look":
                found.looks[what["step"]] = what
            elif word == "event":
                found.events.append((what[0], what[1], what[2]))
            elif word == "pull":
                began = what
                machine.qmp("device_del", id="port")
            elif word == "pulled":
                found.pulled_seconds = what - began
        assert 0 == machine.exit_status, machine.console
    return found


def _ip(look: dict[str, Any], moment: str = "after") -> dict[str, Any]:
    """Give what `ip` says by interface."""
    return {one["ifname"]: one for one in look[moment]}


def _port(look: dict[str, Any]) -> Any:
    (found,) = [one for one in look["documents"].values() if one["kind"] == "nic"]
    return found


@pytest.mark.parametrize("step", ["made", "set", "given"])
def test_functions_are_set_as_ip_says(said: Said, step: str) -> None:
    look = said.looks[step]
    told = _ip(look)[_port(look)["capabilities"]["interface"]]["vfinfo_list"]
    assert [one["vf"] for one in told] == [one["capabilities"]["vf_index"] for one in said.vfs(step)]
    for one, document in zip(told, said.vfs(step), strict=True):
        words = document["capabilities"]
        vlan: dict[str, int] = next(iter(one.get("vlan_list", [{}])), {})
        assert (vlan.get("vlan", 0), vlan.get("qos", 0)) == (words["vlan"], words.get("vlan_qos", 0))
        assert (one["spoofchk"], one["trust"], one["link_state"]) == (
            words["spoof_check"],
            words["trust"],
            words["link_state"],
        )
        assert one["rate"]["max_tx"] * 125_000 == words.get("max_rate_bytes_per_second", 0)
        if one["address"] != "00:00:00:00:00:00":
            assert one["address"] == words["mac"]


def test_what_was_set_from_outside_is_told(said: Said) -> None:
    first, second, third = (one["capabilities"] for one in said.vfs("set"))
    assert ("02:00:00:00:0a:00", 301, 3) == (first["mac"], first["vlan"], first["vlan_qos"])
    assert (302, 12_500_000, False) == (second["vlan"], second["max_rate_bytes_per_second"], second["spoof_check"])
    assert (True, 0) == (third["trust"], third["vlan"])
    changes = {(device, one["what"], one["after"]) for kind, device, one in said.events if kind == "sriov.changed"}
    assert {
        (f"vf:{MAC}/0", "mac", "02:00:00:00:0a:00"),
        (f"vf:{MAC}/0", "vlan", "301"),
        (f"vf:{MAC}/1", "spoof_check", "false"),
        (f"vf:{MAC}/2", "trust", "true"),
    } <= changes


def test_interfaces_are_those_of_the_address_that_ip_says(said: Said) -> None:
    for step in ("made", "set"):
        by_address = {one["parentdev"]: one for one in said.looks[step]["after"] if "parentdev" in one}
        for address, document in said.looks[step]["documents"].items():
            assert by_address[address]["ifname"] == document["capabilities"]["interface"]


def test_port_is_counted_as_ip_counts_it(said: Said) -> None:
    for look in (said.looks["made"], said.looks["set"]):
        (row,) = [fields for measurement, _, fields in look["rows"] if measurement == "nic"]
        name = _port(look)["capabilities"]["interface"]
        before, after = (_ip(look, moment)[name]["stats64"] for moment in ("before", "after"))
        for ours, way in (("receive", "rx"), ("transmit", "tx")):
            for what in ("bytes", "packets", "dropped"):
                assert before[way][what] <= row[f"{ours}_{what}_total"] <= after[way][what]


def test_functions_are_counted_by_their_own_interface_since_their_port_does_not(said: Said) -> None:
    look = said.looks["made"]
    port = _ip(look)[_port(look)["capabilities"]["interface"]]
    assert {0} == {one["stats"]["tx"]["tx_packets"] for one in port["vfinfo_list"]}, "what the kernel says of igb"
    sent = {}
    for address, document in look["documents"].items():
        if document["kind"] == "vf":
            name = document["capabilities"]["interface"]
            before, after = (_ip(look, moment)[name]["stats64"] for moment in ("before", "after"))
            row = said.rows("made")[address]
            for ours, way in (("receive", "rx"), ("transmit", "tx")):
                for what in ("bytes", "packets"):
                    assert before[way][what] <= row[f"{ours}_{what}_total"] <= after[way][what]
            sent[document["capabilities"]["vf_index"]] = row["transmit_packets_total"]
    assert sent[1] >= 20
    assert sent[2] >= 40


def test_function_given_to_vfio_has_no_count_and_says_so(said: Said) -> None:
    given = said.vfs("given")[2]
    assert {"vlan", "link_up"} == {
        name for name, value in said.rows("given")[given["slot"]["address"]].items() if value is not None
    }
    assert {"vf.receive_bytes_total", "vf.transmit_packets_total"} <= set(given["unsupported"])
    assert "interface" not in given["capabilities"]
    assert ["vfio", "vhost-user", "virtio-net"] == given["capabilities"]["usable_as"]


def test_functions_made_and_taken_away_are_told(said: Said) -> None:
    told = [(device, one["before"], one["after"]) for kind, device, one in said.events if kind == "sriov.functions"]
    assert (f"nic:{MAC}", 0) == (told[0][0], told[0][1])
    assert (f"nic:{MAC}", 0) == (told[-1][0], told[-1][2])
    assert [0, 3, 3, 3, 0] == [len(said.vfs(step)) for step in ("alone", "made", "set", "given", "none")]


def test_pulled_port_is_told_and_its_document_is_gone(said: Said) -> None:
    assert [f"nic:{MAC}"] == [device for kind, device, _ in said.events if kind == "sriov.port.gone"]
    assert {} == said.looks["gone"]["documents"]
    assert said.pulled_seconds <= 60


@pytest.mark.parametrize("step", ["set", "given"])
def test_evidence_is_what_ip_says_of_the_function(said: Said, step: str) -> None:
    """A function that vfio has shows its VLAN and MAC address by its port all the same."""
    look = said.looks[step]
    told = _ip(look)[_port(look)["capabilities"]["interface"]]["vfinfo_list"]
    for document in said.vfs(step):
        one = told[document["capabilities"]["vf_index"]]
        vlan: dict[str, int] = next(iter(one.get("vlan_list", [{}])), {})
        mac = one["address"] if one["address"] != "00:00:00:00:00:00" else ""
        assert {"vlan": vlan.get("vlan", 0), "mac": mac} == look["shown"][document["slot"]["address"]]


def test_answer_of_the_port_holds_what_was_set(said: Said) -> None:
    """The recorded case `igb` is such an answer."""
    (link,) = parse_links(bytes.fromhex(said.looks["set"]["answer"]))
    assert (MAC, 3, [301, 302, 0]) == (link.permanent_mac, link.vf_count, [vf.vlan for vf in link.vfs])

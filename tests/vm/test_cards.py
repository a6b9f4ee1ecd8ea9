"""A card's devlink and an RDMA link of a real kernel, read by us and by `devlink` and `rdma` of iproute2.

The card is the kernel's own simulation, `netdevsim`; the link is RDMA over Ethernet in software on an igb port, with
traffic. Requirements: R000-1, R004-9.
"""

import json
from typing import Any

import pytest

from tests.vm.emulator import emulator
from tests.vm.machine import Machine
from tests.vm.netdevsim import netdevsim
from tests.vm.test_sriov import MAC

pytestmark = [pytest.mark.vm, pytest.mark.slow]

CARD = "netdevsim/netdevsim1"
_DEVICES = (
    *("-device", "pcie-root-port,id=rp1,chassis=1,slot=1", "-netdev", "user,id=n0,restrict=on"),
    *("-device", f"igb,id=port,netdev=n0,bus=rp1,mac={MAC}"),
)
_COUNTED = {
    "transmit_packets_total": "sent_pkts",
    "receive_packets_total": "rcvd_pkts",
    "duplicates_total": "duplicate_request",
    "out_of_sequence_total": "out_of_seq_request",
    "sequence_errors_total": "rcvd_seq_err",
    "not_ready_total": "rcvd_rnr_err",
    "retries_exceeded_total": "retry_exceeded_err",
    "send_errors_total": "send_err",
    "link_downs_total": "link_downed",
}
"""Fields of a row, and what `rdma statistic` calls them of rxe."""


class Said:
    """What the guest said."""

    def __init__(self) -> None:
        self.cards: dict[str, Any] = {}
        self.links: dict[str, Any] = {}
        self.other: dict[str, Any] = {}


@pytest.fixture(scope="module")
def said() -> Said:
    found = Said()
    command = "python3.11 -m tests.vm.guest.cards"
    files = {"netdevsim.ko": netdevsim()}
    with Machine(command, extra=_DEVICES, emulator=emulator("igb"), files=files) as machine:
        for line in machine.lines(300):
            ((word, what),) = json.loads(line).items()
            if word in ("card", "link"):
                (found.cards if word == "card" else found.links)[what["step"]] = what
            else:
                found.other[word] = what
        assert 0 == machine.exit_status, machine.console
    return found


@pytest.mark.parametrize("step", ["made", "switched", "broken"])
def test_card_is_what_devlink_says(said: Said, step: str) -> None:
    ours, theirs = said.cards[step]["ours"], said.cards[step]["theirs"]
    info, card = theirs["info"][CARD], ours["card"]
    versions = {word: info["versions"].get(word, {}) for word in ("fixed", "running", "stored")}
    assert (info["driver"], versions) == (card["info"]["driver"], {word: card["info"][word] for word in versions})
    assert versions["running"]
    assert theirs["switch"][CARD]["mode"] == card["switch"]["mode"] == ours["words"]["eswitch_mode"]
    params = {
        one["name"]: {value["cmode"]: value["value"] for value in one["values"]} for one in theirs["params"][CARD]
    }
    assert params == card["params"]
    assert len(params) == len(ours["words"]["driver_parameters"]) >= 2


@pytest.mark.parametrize(("step", "functions"), [("made", 0), ("switched", 2)])
def test_ports_are_what_devlink_says(said: Said, step: str, functions: int) -> None:
    ours, theirs = said.cards[step]["ours"], said.cards[step]["theirs"]
    told = {f"{CARD}/{one['index']}": one for one in ours["card"]["ports"]}
    assert told.keys() == theirs["ports"].keys()
    for name, one in theirs["ports"].items():
        names = {"netdev": "interface", "port": "number", "pfnum": "physical", "vfnum": "virtual"}
        assert (one["flavour"], one.get("external", False)) == (told[name]["flavour"], told[name]["external"])
        for their, our in names.items():
            assert one.get(their) == told[name][our]
    standing = {one["vfnum"]: one["netdev"] for one in theirs["ports"].values() if one["flavour"] == "pcivf"}
    assert functions == len(standing)
    assert standing == {at: one["representor"] for at, one in enumerate(ours["functions"]) if one}


@pytest.mark.parametrize("step", ["made", "broken"])
def test_health_is_what_devlink_says(said: Said, step: str) -> None:
    ours, theirs = said.cards[step]["ours"], said.cards[step]["theirs"]
    assert {
        one["reporter"]: (one["state"] == "healthy", one["error"], one["recover"]) for one in theirs["health"][CARD]
    } == {
        attributes["reporter"]: (fields["healthy"], fields["errors_total"], fields["recoveries_total"])
        for attributes, fields in ours["rows"]
    }


def test_error_that_was_mended_is_heard_of_and_told(said: Said) -> None:
    heard, events = said.other["broke"]
    assert heard, "the kernel told of it by itself"
    ((kind, _, detail),) = events
    assert "sriov.health" == kind
    assert {"reporter": "dummy", "errors": 1, "recoveries": 1, "healthy": True}.items() <= detail.items()


def test_without_privilege_only_the_switch_is_missing(said: Said) -> None:
    card, alone = said.cards["broken"]["ours"]["card"], said.other["unprivileged"]
    assert "" == alone["switch"]["mode"]
    assert card | {"switch": alone["switch"]} == alone


@pytest.mark.parametrize("step", ["idle", "used", "down"])
def test_link_is_counted_as_rdma_counts_it(said: Said, step: str) -> None:
    look = said.links[step]
    ((device, attributes, fields),) = look["ours"]
    assert (f"nic:{MAC}", {"link": "rxe0/1"}) == (device, attributes)
    before, after = look["before"][0], look["after"][0]
    for field, name in _COUNTED.items():
        assert before[name] <= fields[field] <= after[name], name
    (state,) = look["state"]
    assert (state["state"] == "ACTIVE", state["physical_state"]) == (
        fields["active"],
        {"LinkUp": "LINK_UP", "Disabled": "DISABLED"}.get(fields["physical_state"], fields["physical_state"]),
    )


def test_traffic_is_counted_and_a_link_that_is_down_says_so(said: Said) -> None:
    rows = {step: one["ours"][0][2] for step, one in said.links.items()}
    for field in ("transmit_packets_total", "receive_packets_total"):
        assert rows["used"][field] - rows["idle"][field] > 100
    assert [True, True, False] == [rows[step]["active"] for step in ("idle", "used", "down")]
    assert rows["used"]["link_rate_bytes_per_second"]
    assert rows["down"]["link_rate_bytes_per_second"] is None


def test_document_of_the_port_names_its_link(said: Said) -> None:
    (port,) = [one for one in said.links["used"]["documents"] if one["kind"] == "nic"]
    assert ["rxe0/1=Ethernet"] == port["capabilities"]["rdma_links"]

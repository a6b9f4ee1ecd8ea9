"""What drivers say of their cards over devlink is read byte for byte, and is that of the function at the address."""

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.sriov.cards import card_words, function_words
from collectors.sriov.devlink import (
    DEVICES,
    HEALTH,
    INFO,
    PARAMS,
    PORTS,
    SWITCH,
    Card,
    CardPort,
    Handle,
    read_cards,
    read_health,
)
from collectors.sriov.genetlink import parse_messages
from collectors.sriov.health import health_changes
from collectors.sriov.netlink import NetlinkError
from schemas.rows import Severity
from tests.collectors.sriov.cards import CARD, CASE, COMMANDS, recorded
from tests.collectors.sriov.help import collector_of, described, rows
from tests.collectors.sriov.made import OTHER, PORT, Answers, answer, attribute, interface, port, vf, vf_entry
from tests.collectors.sriov.test_watch import watching

MACS = ("b8:3f:d2:9e:41:6c", "b8:3f:d2:9e:41:6d")


def text(kind: int, words: str) -> bytes:
    """Give an attribute of words."""
    return attribute(kind, words.encode() + b"\0")


def number(kind: int, value: int, code: str = "=I") -> bytes:
    """Give an attribute of a number."""
    return attribute(kind, struct.pack(code, value))


def message(command: int, address: str, *parts: bytes) -> bytes:
    """Give a message about the card at a PCI address."""
    body = struct.pack("=BBH", command, 1, 0) + text(1, "pci") + text(2, address) + b"".join(parts)
    return struct.pack("=IHHII", 16 + len(body), 21, 0, 7, 0) + body


def reporter(name: str, errors: int, recoveries: int, *, state: int = 0) -> bytes:
    """Give what a health reporter says."""
    counts = number(117, errors, "=Q") + number(118, recoveries, "=Q")
    return attribute(114, text(115, name) + number(116, state, "=B") + counts)


def function_port(index: int, *, pf: int, vf: int, name: str, external: int = 0, function: bytes = b"") -> bytes:
    """Give what stands for a virtual function."""
    told = number(3, index) + number(77, 4, "=H") + number(127, pf, "=H") + number(128, vf, "=H")
    return told + text(7, name) + number(149, external, "=B") + (attribute(145, function) if function else b"")


def machine(root: Path) -> Answers:
    """Make two ports of one card, each with a function; the second is told of first."""
    made = Answers()
    for address, name, index, virtual in ((PORT, "ens1f0", 4, "0000:3b:02.4"), (OTHER, "ens1f1", 5, "0000:3b:02.1")):
        port(root, address, group=10 + index)
        interface(root, address, name, index)
        vf(root, address, 0, virtual, driver="vfio-pci", group=30 + index)
        made.links[index] = answer(index, name, mac=MACS[index - 4], vfs=[vf_entry(0)])
    made.cards = {
        (DEVICES, None): message(3, OTHER) + message(3, PORT),
        (PORTS, None): message(7, OTHER, function_port(1, pf=1, vf=0, name="eth7"))
        + message(7, PORT, function_port(9, pf=0, vf=0, name="eth9", external=1))
        + message(
            7,
            PORT,
            function_port(
                2,
                pf=0,
                vf=0,
                name="eth8",
                function=attribute(1, bytes.fromhex("0200000000aa")) + number(2, 1, "=B") + number(3, 0, "=B"),
            ),
        ),
        (HEALTH, None): message(52, OTHER, reporter("fw", 3, 2)) + message(52, PORT, reporter("fw", 0, 0)),
        (INFO, ("pci", PORT)): message(
            51,
            PORT,
            text(98, "mlx5_core"),
            text(99, "MT2"),
            text(146, "B7"),
            attribute(100, text(103, "fw.psid") + text(104, "MT_1")),
            attribute(101, text(103, "fw.version") + text(104, "22.1")),
            attribute(102, text(103, "fw.version") + text(104, "22.2")),
        ),
        (SWITCH, ("pci", PORT)): message(29, PORT, number(25, 1, "=H"), number(26, 1, "=B"), number(62, 1, "=B")),
    }
    return made


def test_recorded_answers_are_read_as_devlink_reads_them() -> None:
    kernel = recorded()
    found = {"card": read_cards(kernel)[CARD], "health": read_health(kernel)[CARD]}
    assert json.loads((CASE / "expected.json").read_text()) == json.loads(msgspec.json.encode(found))


def test_documents_say_what_the_driver_of_that_address_says(tmp_path: Path) -> None:
    documents = described(collector_of(tmp_path, machine(tmp_path)))
    words = documents[PORT].capabilities
    assert {
        "card_controller_serial": "MT2",
        "card_board_serial": "B7",
        "card_versions": ["fw.psid=MT_1"],
        "firmware_running": ["fw.version=22.1"],
        "firmware_stored": ["fw.version=22.2"],
        "eswitch_mode": "switchdev",
        "eswitch_inline_mode": "link",
        "eswitch_encapsulation": "basic",
    }.items() <= words.items()
    assert not {"eswitch_mode", "firmware_running"} & documents[OTHER].capabilities.keys()


def test_representor_is_that_of_the_function_of_this_host_at_this_port(tmp_path: Path) -> None:
    """Not the first that is told of, nor that of a function of the machine in which this DPU sits."""
    documents = described(collector_of(tmp_path, machine(tmp_path)))
    one, two = documents["0000:3b:02.4"].capabilities, documents["0000:3b:02.1"].capabilities
    assert ("eth8", "pcivf", "02:00:00:00:00:aa", True, False) == tuple(
        one[name] for name in ("representor", "port_flavour", "function_mac", "function_active", "function_attached")
    )
    assert "eth7" == two["representor"]
    assert "function_mac" not in two


def test_port_of_several_physical_functions_goes_by_their_number() -> None:
    def made(index: int, physical: int | None) -> CardPort:
        return CardPort(index=index, flavour="pcivf", physical=physical, virtual=0)

    both = Card(ports=(made(1, 1), made(2, 0)))
    assert (2, 1) == tuple(found.index for at in (0, 1) if (found := both.port_of(0, at)))
    assert both.port_of(0, 2) is None
    assert both.port_of(1, 0) is None
    assert {} == function_words(None)


def test_health_is_a_row_of_each_reporter_of_its_function(tmp_path: Path) -> None:
    found = rows(collector_of(tmp_path, machine(tmp_path)))
    assert {"healthy": True, "errors_total": 3, "recoveries_total": 2} == found["nic_health", f"nic:{MACS[1]}"]
    assert {"healthy": True, "errors_total": 0, "recoveries_total": 0} == found["nic_health", f"nic:{MACS[0]}"]


def test_health_that_fails_and_is_mended_is_told(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    with watching(tmp_path, answers) as watched:
        answers.cards[HEALTH, None] = message(52, PORT, reporter("fw", 2, 1, state=1))
        ((kind, device, detail),) = watched.after_ring(1)
        assert ("sriov.health", f"nic:{MACS[0]}") == (kind, device)
        assert {"address": PORT, "reporter": "fw", "healthy": False, "errors": 2, "recoveries": 1} == detail
        answers.cards[HEALTH, None] = message(52, PORT, reporter("fw", 2, 2))
        assert [True] == [one["healthy"] for _, _, one in watched.after_ring(1)]


@pytest.mark.parametrize(
    ("before", "after", "severities"),
    [
        (None, (0, 0, 0), []),
        (None, (7, 7, 0), []),
        (None, (7, 6, 1), [Severity.ERROR]),
        ((7, 6, 1), (7, 6, 1), []),
        ((7, 6, 1), (8, 6, 1), [Severity.ERROR]),
        ((7, 6, 0), (8, 7, 0), [Severity.WARNING]),
        ((7, 6, 1), (7, 7, 0), [Severity.NOTICE]),
        ((7, 6, 0), (0, 0, 0), []),
    ],
)
def test_health_is_told_as_bad_as_it_is_and_a_driver_that_counts_anew_is_no_error(
    before: tuple[int, int, int] | None, after: tuple[int, int, int], severities: list[Severity]
) -> None:
    def health(counts: tuple[int, int, int] | None) -> dict[str, Any]:
        if counts is None:
            return {}
        made = Answers()
        made.cards[HEALTH, None] = message(52, PORT, reporter("fw", counts[0], counts[1], state=counts[2]))
        return {address: found for (_, address), found in read_health(made).items()}

    told = list(health_changes(health(before), health(after), {PORT: "nic:x"}))
    assert severities == [one.severity for one in told]


def test_reporter_of_a_port_has_its_number() -> None:
    made = Answers()
    made.cards[HEALTH, None] = message(52, PORT, number(3, 65535), reporter("tx", 0, 0))
    assert ["tx/65535"] == [one.words for one in read_health(made)["pci", PORT]]


def test_parameters_are_told_with_when_they_take_effect() -> None:
    def param(name: str, kind: int, *values: tuple[int, bytes]) -> bytes:
        every = b"".join(attribute(85, data + number(87, when, "=B")) for when, data in values)
        return attribute(80, text(81, name) + number(83, kind, "=B") + attribute(84, every))

    made = Answers()
    made.cards[DEVICES, None] = message(3, PORT)
    made.cards[PARAMS, None] = b"".join(
        message(38, PORT, one)
        for one in (
            param("flow_steering_mode", 5, (0, text(86, "smfs"))),
            param("enable_sriov", 6, (2, attribute(86, b""))),
            param("enable_roce", 6, (1, b"")),
            param("eq_size", 3, (1, number(86, 1024))),
            param("hairpin", 9, (0, number(86, 1))),
            param("short", 3, (0, number(86, 1, "=H"))),
        )
    )
    assert [
        "enable_roce.driverinit=false",
        "enable_sriov.permanent=true",
        "eq_size.driverinit=1024",
        "flow_steering_mode.runtime=smfs",
    ] == card_words(read_cards(made)["pci", PORT])["driver_parameters"]


def test_what_the_kernel_does_not_tell_is_left_out() -> None:
    assert ({}, {}) == (read_cards(Answers()), read_health(Answers()))
    made = Answers()
    made.cards[DEVICES, None] = message(3, PORT)
    handle: Handle = ("pci", PORT)
    assert {handle: Card()} == read_cards(made)
    assert not [value for value in card_words(Card()).values() if value]


@given(st.binary(max_size=400))
def test_any_bytes_are_messages_or_refused(data: bytes) -> None:
    made = Answers()
    for command in COMMANDS.values():
        made.cards[command, None] = data
    read_cards(made)
    read_health(made)
    try:
        list(parse_messages(data))
    except NetlinkError:
        pass


@given(st.integers(0, 5), st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_damaged_answers_are_read_or_left_out(which: int, at: int, bytes_: bytes) -> None:
    kernel = recorded()
    key = list(kernel.cards)[which]
    data = bytearray(kernel.cards[key])
    at %= len(data)
    data[at : at + len(bytes_)] = bytes_
    kernel.cards[key] = bytes(data)
    read_cards(kernel)
    read_health(kernel)

"""Functions that are not as the metadata or the operator says are told once, and told when that is over (R000-2, 3)."""

import json
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from collectors.contract import Context
from collectors.expectation import parse_expectations
from collectors.sriov.checks import Checks
from collectors.sriov.collector import SriovCollector, SriovConfig
from collectors.sriov.standing import METADATA, OPERATOR, Drift, Standing
from collectors.vnics import HEADERS, PATH
from schemas.rows import Event
from tests.collectors.pci.made import write
from tests.collectors.sriov.help import collector_of, described
from tests.collectors.sriov.made import OTHER, PORT, Answers, answer, interface, port, vf, vf_entry
from tests.needs import REPOSITORY

MACS: Final = ("b8:3f:d2:9e:41:6c", "b8:3f:d2:9e:41:6d")
VFS: Final = ("0000:3b:02.0", "0000:3b:02.2", "0000:3b:12.0")


class Service:
    """A metadata service that answers as it is told."""

    def __init__(self) -> None:
        self.vnics: list[dict[str, object]] = []
        self.status = 200
        self.asked = 0


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """Serve on a free port of this machine; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.asked += 1
            right = self.path == PATH and self.headers["Authorization"] == HEADERS["Authorization"]
            body = json.dumps(service.vnics).encode()
            self.send_response(service.status if right else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def vnic(number: int, mac: str, vlan: int, nic: int | None) -> dict[str, object]:
    """Give a VNIC as the service tells it."""
    told: dict[str, object] = {
        "vnicId": f"vnic{number}",
        "macAddr": mac.upper(),
        "vlanTag": vlan,
        "privateIp": "10.0.0.2",
    }
    return told if nic is None else told | {"nicIndex": nic}


def machine(root: Path, *, vlans: tuple[int, int, int] = (1, 2, 1)) -> Answers:
    """Make two ports, the first with two functions and the second with one, each with a VLAN and a MAC address."""
    answers = Answers()
    port(root, PORT)
    port(root, OTHER, group=11)
    interface(root, PORT, "ens1f0", 4)
    interface(root, OTHER, "ens1f1", 5)
    for number, (parent, index) in enumerate(((PORT, 0), (PORT, 1), (OTHER, 0))):
        vf(root, parent, index, VFS[number], driver="vfio-pci", group=20 + number)
    entries = [vf_entry(at % 2, mac=f"02:00:00:00:00:0{at}", vlan=vlan) for at, vlan in enumerate(vlans)]
    answers.links[4] = answer(4, "ens1f0", mac=MACS[0], vfs=entries[:2])
    answers.links[5] = answer(5, "ens1f1", mac=MACS[1], vfs=entries[2:])
    return answers


def sound() -> list[dict[str, object]]:
    """Give the VNICs of that machine; the metadata counts NICs the other way round than the bus does."""
    return [
        vnic(0, MACS[0], 0, 1),
        vnic(1, "02:00:00:00:00:00", 1, 1),
        vnic(2, "02:00:00:00:00:01", 2, 1),
        vnic(3, MACS[1], 0, 0),
        vnic(4, "02:00:00:00:00:02", 1, 0),
    ]


def watched(collector: SriovCollector, rounds: int = 1) -> list[Event]:
    """Let it watch for so many looks, and give what it emitted."""
    found: list[Event] = []
    stopping = threading.Event()

    def emit(items: Iterable[Any]) -> None:
        found.extend(items)

    thread = threading.Thread(target=collector.watch, args=(emit, stopping))
    thread.start()
    for _ in range(200 * rounds):
        if len(found) >= rounds:
            break
        stopping.wait(0.05)
    stopping.set()
    thread.join(5)
    return found


def looked(root: Path, answers: Answers, config: SriovConfig) -> tuple[SriovCollector, list[Event]]:
    """Give a collector that watched until it told something, and what that was."""
    collector = collector_of(root, answers, config=config)
    return collector, watched(collector)


def test_functions_that_are_as_the_metadata_says_tell_their_vnic(tmp_path: Path) -> None:
    answers, service = machine(tmp_path), Service()
    service.vnics = sound()
    with serving(service) as address:
        collector = collector_of(tmp_path, answers, config=SriovConfig(metadata="on", metadata_address=address))
        stopping = threading.Event()
        told: list[Event] = []
        thread = threading.Thread(target=collector.watch, args=(told.extend, stopping))
        thread.start()
        for _ in range(200):
            if "vnic" in described(collector)[VFS[0]].capabilities:
                break
            stopping.wait(0.05)
        stopping.set()
        thread.join(5)
    documents = described(collector)
    assert ["vnic1", "vnic2", "vnic4"] == [documents[address].capabilities["vnic"] for address in VFS]
    assert ["vnic0", "vnic3"] == [documents[address].capabilities["vnic"] for address in (PORT, OTHER)]
    assert [] == [one.device for one in documents.values() if "drift" in one.capabilities]
    assert [] == told


@pytest.mark.parametrize(
    ("change", "kinds", "where"),
    [
        ({"vlans": (1, 9, 1)}, {"wrong-vlan"}, VFS[1]),
        ({"mac": "02:00:00:00:00:99"}, {"wrong-mac"}, VFS[1]),
        ({"missing": True}, {"missing", "wrong-count"}, PORT),
        ({"more": True}, {"unexpected", "wrong-count"}, VFS[2]),
    ],
)
def test_each_drift_is_told_of_its_function(
    tmp_path: Path, change: dict[str, Any], kinds: set[str], where: str
) -> None:
    service = Service()
    service.vnics = sound()
    answers = machine(tmp_path, vlans=change.get("vlans", (1, 2, 1)))
    if "mac" in change:
        service.vnics[2] = vnic(2, change["mac"], 2, 1)
    if "missing" in change:
        service.vnics.append(vnic(5, "02:00:00:00:00:55", 5, 1))
    if "more" in change:
        service.vnics.pop()
        service.vnics.append(vnic(6, "02:00:00:00:00:77", 7, 0))
        service.vnics.append(vnic(7, "02:00:00:00:00:78", 8, 0))
    with serving(service) as address:
        collector, events = looked(tmp_path, answers, SriovConfig(metadata="on", metadata_address=address))
    told = {one.detail["kind"] for one in events if one.type == "sriov.drift"}
    assert kinds <= told
    assert described(collector)[where].capabilities["drift"]


def test_silent_service_is_told_once_and_its_last_answer_stands(tmp_path: Path) -> None:
    service = Service()
    service.vnics = sound()
    answers = machine(tmp_path, vlans=(1, 9, 1))
    clock = [0.0]
    with serving(service) as address:
        checks = Checks(tmp_path, "on", address, 60.0, "", lambda: clock[0])
        collector = collector_of(tmp_path, answers)

        def look() -> list[tuple[str, str]]:
            clock[0] += 61.0
            return [
                (one.type, str(one.detail.get("kind", "")))
                for one in checks.look(collector.survey, lambda vf, told: told.mac if told else "", list)
            ]

        assert [("sriov.drift", "wrong-vlan")] == look()
        service.status = 500
        assert [("sriov.metadata.lost", "")] == look()
        assert [] == look()
        assert 1 == len(checks.drift.standing)
        service.status = 200
        service.vnics[2] = vnic(2, "02:00:00:00:00:01", 9, 1)
        assert [("sriov.metadata.back", ""), ("sriov.drift_over", "wrong-vlan")] == look()


def test_metadata_is_asked_for_only_where_it_is_configured_or_the_machine_is_the_clouds(tmp_path: Path) -> None:
    def wanted(metadata: str) -> bool:
        return Checks(tmp_path, metadata, "127.0.0.1:9", 60.0, "", lambda: 0.0).wanted

    assert [False, True, False] == [wanted(word) for word in ("auto", "on", "off")]
    write(tmp_path, "sys/class/dmi/id/chassis_asset_tag", "OracleCloud.com\n")
    assert [True, True, False] == [wanted(word) for word in ("auto", "on", "off")]


def test_operator_expects_and_is_told(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    path = tmp_path / "expected.toml"
    path.write_text(
        '[[expect]]\nkind = "vf"\ncount = 4\nmust = {spoof_check = true, vlan = 1}\n'
        '[[expect]]\nkind = "nvme"\ncount = 2\n'
        '[[expect]]\nkind = "nic"\nmatch = {interface = "ens1f0"}\nmust = {mtu_bytes = 9000}\n'
    )
    collector, events = looked(tmp_path, answers, SriovConfig(expectations=str(path)))
    assert {
        ("", "wrong-count"),
        (f"vf:{MACS[0]}/1", "wrong-vlan"),
        (f"nic:{MACS[0]}", "wrong-mtu_bytes"),
    } == {(one.device, one.detail["kind"]) for one in events}, "a drive is for the collector of drives"
    assert ["vlan 2 instead of 1"] == described(collector)[VFS[1]].capabilities["drift"]
    assert ["mtu_bytes 1500 instead of 9000"] == described(collector)[PORT].capabilities["drift"]


def test_what_cannot_be_read_of_options_is_objected_to(tmp_path: Path) -> None:
    path = tmp_path / "expected.toml"
    path.write_text('[[expect]]\nkind = "vfs"\n')
    machine(tmp_path)
    config = SriovConfig(expectations=str(path), metadata_address="nowhere")
    collector = collector_of(tmp_path, Answers(), config=config)
    assert {"metadata_address", "expectations"} == {one.option for one in collector.check_options(attempt=False)}


def test_file_that_cannot_be_read_any_more_is_told_and_stands(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    path = tmp_path / "expected.toml"
    path.write_text('[[expect]]\nkind = "vf"\ncount = 4\n')
    config = SriovConfig(expectations=str(path), metadata_every_seconds=0.1)
    collector = collector_of(tmp_path, answers, config=config, clock=None)
    assert ["wrong-count"] == [one.detail["kind"] for one in watched(collector)]
    path.write_text("[[expect")
    checks = Checks(tmp_path, "off", "127.0.0.1:9", 60.0, str(path), lambda: 0.0)
    assert [] == checks.look(collector.survey, lambda vf, told: "", list)
    assert "expected.toml" in checks.problem


def test_example_of_the_documentation_is_read() -> None:
    text = (REPOSITORY / "docs/expectations.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    counts = [one.count for one in parse_expectations(example.encode())]
    assert [16, 2] == [count for count in counts if count is not None]


class EndedError(Exception):
    """The process of a collector ends before what it emits is taken."""


def _process(root: Path, state: Path, answers: Answers, config: SriovConfig, *, taken: bool) -> list[Event]:
    """Watch until something is emitted, as one process of an agent does; `taken`: whether the agent has it then."""
    context = Context(subject="n", log=logging.getLogger("sriov"), root=root, state_dir=state)
    collector = SriovCollector(config, context, kernel=lambda: answers, listen=list)
    stopping = threading.Event()
    found: list[Event] = []

    def emit(items: Iterable[Any]) -> None:
        if not taken:
            raise EndedError
        found.extend(items)
        stopping.set()

    collector.start()
    try:
        collector.watch(emit, stopping)
    except EndedError:
        pass
    finally:
        collector.stop()
    return found


def test_drift_that_a_process_found_and_did_not_tell_is_told_once_by_the_next(tmp_path: Path) -> None:
    """What is over meanwhile is told too; and what still stands is not told again."""
    root, state = tmp_path / "root", tmp_path / "state"
    state.mkdir()
    write(root, "proc/sys/kernel/random/boot_id", "b1\n")
    answers = machine(root)
    path = tmp_path / "expected.toml"
    path.write_text('[[expect]]\nkind = "vf"\nmust = {vlan = 1}\n')
    config = SriovConfig(expectations=str(path), metadata_every_seconds=0.1)
    assert [] == _process(root, state, answers, config, taken=False)
    told = _process(root, state, answers, config, taken=True)
    assert [("sriov.drift", f"vf:{MACS[0]}/1", "wrong-vlan")] == [
        (one.type, one.device, one.detail["kind"]) for one in told
    ]
    assert told[0].source_time_ns is not None, "when it was found"
    path.write_text('[[expect]]\nkind = "vf"\nmust = {vlan = 2}\n')
    assert [] == _process(root, state, answers, config, taken=False)
    now = [(one.type, one.device) for one in _process(root, state, answers, config, taken=True)]
    assert ("sriov.drift_over", f"vf:{MACS[0]}/1") == now[0]
    assert [("sriov.drift", f"vf:{MACS[0]}/0"), ("sriov.drift", f"vf:{MACS[1]}/0")] == now[1:]


def test_drift_of_an_earlier_process_stands_while_nobody_says_how_it_should_be(tmp_path: Path) -> None:
    """The metadata service does not answer the new process yet, and the file cannot be read: nothing is over."""
    machine(tmp_path)
    path = tmp_path / "expected.toml"
    path.write_text("[[expect")
    checks = Checks(tmp_path, "on", "127.0.0.1:9", 60.0, str(path), lambda: 0.0)
    standing = {
        Standing("vf:a/0", "wrong-vlan", "v", "it has 9", METADATA),
        Standing("vf:a/1", "wrong-trust", "", "it is trusted", OPERATOR),
    }
    checks.drift = Drift(frozenset(standing), {"vf:a/0": "v"})
    events = checks.look(collector_of(tmp_path, Answers()).survey, lambda vf, told: "", list)
    assert ["sriov.metadata.lost"] == [one.type for one in events]
    assert Drift(frozenset(standing), {"vf:a/0": "v"}) == checks.drift

"""What is set, made and taken away from outside is told at once, and once."""

import logging
import os
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from collectors._uevents import parse_uevent
from collectors._untold import Untold
from collectors.contract import Context
from collectors.sriov import SriovCollector
from collectors.sriov.collector import SriovConfig
from collectors.sriov.ears import Ear, concerns, interface_indexes
from collectors.sriov.keeping import Keep
from collectors.sriov.standing import METADATA, Drift, Standing
from collectors.sriov.survey import survey
from schemas.rows import Event
from tests.collectors.pci.made import unplug, write
from tests.collectors.sriov.help import described, rows
from tests.collectors.sriov.made import PORT, Answers, answer, interface, port, vf, vf_entry
from tests.collectors.sriov.test_drift import MACS, VFS, machine

SECONDS: Final = 20.0


class Bell:
    """An ear that hears when it is rung."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.indexes: frozenset[int] = frozenset()

    def ring(self) -> None:
        """Let something be heard."""
        os.write(self._write, b"x")

    def fileno(self) -> int:
        """Give what to wait on."""
        return self._read

    def heard(self, indexes: frozenset[int]) -> bool:
        """Take what was rung."""
        self.indexes = indexes
        return bool(os.read(self._read, 4096))

    def close(self) -> None:
        """Close both ends; safe twice."""
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)
        self._read = self._write = -1


class Watched:
    """A collector that watches, and what it says."""

    def __init__(self, root: Path, answers: Answers, state: Path | None = None) -> None:
        self.bell = Bell()
        ears: list[Ear] = [self.bell]
        context = Context(subject="n", log=logging.getLogger("sriov"), root=root, state_dir=state)
        config = SriovConfig(rescan_every_seconds=3600)
        self.collector = SriovCollector(config, context, kernel=lambda: answers, listen=lambda: ears)
        self.told: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def emit(self, items: Iterable[Any]) -> None:
        """Take events."""
        for item in items:
            self.told.put(item)

    def after_ring(self, count: int) -> list[tuple[str, str, dict[str, Any]]]:
        """Ring, and give so many events."""
        self.bell.ring()
        found = [self.told.get(timeout=SECONDS) for _ in range(count)]
        assert self.told.empty()
        return [(one.type, one.device, dict(one.detail)) for one in found]


@contextmanager
def watching(root: Path, answers: Answers, state: Path | None = None) -> Iterator[Watched]:
    """Let a collector watch."""
    made = Watched(root, answers, state)
    made.collector.start()
    stopping = threading.Event()
    thread = threading.Thread(target=made.collector.watch, args=(made.emit, stopping))
    thread.start()
    try:
        yield made
    finally:
        stopping.set()
        thread.join(5)
        made.collector.stop()
        made.bell.close()


def test_setting_of_a_function_is_told_with_what_it_was(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    with watching(tmp_path, answers) as watched:
        entries = [
            vf_entry(0, mac="02:00:00:00:00:00", vlan=1, trust=1),
            vf_entry(1, mac="02:00:00:00:00:01", vlan=77, rates=(0, 100)),
        ]
        answers.links[4] = answer(4, "ens1f0", mac=MACS[0], vfs=entries)
        assert [
            (f"vf:{MACS[0]}/0", "trust", "false", "true"),
            (f"vf:{MACS[0]}/1", "vlan", "2", "77"),
            (f"vf:{MACS[0]}/1", "max_rate_bytes_per_second", "0", "12500000"),
        ] == [(device, one["what"], one["before"], one["after"]) for _, device, one in watched.after_ring(3)]
        assert {4, 5} == watched.bell.indexes
        assert 77 == described(watched.collector)[VFS[1]].capabilities["vlan"]


def _set_vlan(answers: Answers, vlan: int) -> None:
    entries = [vf_entry(0, mac="02:00:00:00:00:00", vlan=1), vf_entry(1, mac="02:00:00:00:00:01", vlan=vlan)]
    answers.links[4] = answer(4, "ens1f0", mac=MACS[0], vfs=entries)


def test_what_was_set_while_nobody_watched_is_told_by_the_next_process_once(tmp_path: Path) -> None:
    root, state = tmp_path / "root", tmp_path / "state"
    state.mkdir()
    answers = machine(root)
    boot = root / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("b1\n")
    _set_vlan(answers, 2)
    with watching(root, answers, state) as watched:
        _set_vlan(answers, 77)
        assert ["vlan"] == [one["what"] for _, _, one in watched.after_ring(1)]
    _set_vlan(answers, 78)
    with watching(root, answers, state) as watched:
        told = watched.told.get(timeout=SECONDS)
        assert ("vlan", "77", "78") == tuple(told.detail[name] for name in ("what", "before", "after"))
        _set_vlan(answers, 79)
        assert ["79"] == [one["after"] for _, _, one in watched.after_ring(1)], "and nothing twice"
    boot.write_text("b2\n")
    _set_vlan(answers, 80)
    with watching(root, answers, state) as watched:
        _set_vlan(answers, 81)
        assert [("80", "81")] == [(one["before"], one["after"]) for _, _, one in watched.after_ring(1)], "a boot is new"


def test_survey_is_kept_whole_and_a_damaged_file_is_as_none(tmp_path: Path) -> None:
    keep = Keep(tmp_path, tmp_path, Untold(tmp_path))
    assert keep.load() is None
    write(tmp_path, "proc/sys/kernel/random/boot_id", "b1\n")
    root = tmp_path / "root"
    answers = machine(root)
    before = survey(root, answers)
    drift = Drift(frozenset({Standing("vf:a/0", "wrong-vlan", "v", "it is other", METADATA)}), {"vf:a/0": "v"})
    Keep(tmp_path, tmp_path, Untold(tmp_path)).save(before, drift)
    assert (before, drift) == Keep(tmp_path, tmp_path, Untold(tmp_path)).load()
    (tmp_path / "seen.msgpack").write_bytes(b"\x92\xa2b1")
    assert Keep(tmp_path, tmp_path, Untold(tmp_path)).load() is None


def test_what_changed_of_many_functions_is_told_once(tmp_path: Path) -> None:
    answers = Answers()
    port(tmp_path)
    interface(tmp_path, PORT, "ens1f0", 4)
    for index in range(16):
        vf(tmp_path, PORT, index, f"0000:3b:02.{index}" if index < 8 else f"0000:3b:03.{index - 8}", driver="vfio-pci")
    answers.links[4] = answer(4, mac=MACS[0], vfs=[vf_entry(index) for index in range(16)])
    with watching(tmp_path, answers) as watched:
        entries = [vf_entry(index, vlan=index + 1, trust=index == 3) for index in range(16)]
        answers.links[4] = answer(4, mac=MACS[0], vfs=entries)
        assert [(f"vf:{MACS[0]}/3", "trust", None), (f"nic:{MACS[0]}", "vlan", 16)] == [
            (device, one["what"], one.get("functions")) for _, device, one in watched.after_ring(2)
        ]


def test_functions_taken_away_are_told_of_their_port_and_have_no_rows(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    with watching(tmp_path, answers) as watched:
        unplug(tmp_path, VFS[1])
        (tmp_path / "sys/bus/pci/devices" / PORT / "virtfn1").unlink()
        told = watched.after_ring(1)
        assert [("sriov.functions", f"nic:{MACS[0]}", {"address": PORT, "before": 2, "after": 1})] == told
        assert ("vf", f"vf:{MACS[0]}/1") not in rows(watched.collector)
        assert VFS[1] not in described(watched.collector)


def test_port_that_is_pulled_is_told(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    with watching(tmp_path, answers) as watched:
        for address in (*VFS[:2], PORT):
            unplug(tmp_path, address)
        del answers.links[4]
        assert [("sriov.port.gone", f"nic:{MACS[0]}")] == [one[:2] for one in watched.after_ring(1)]


def test_port_that_could_not_be_asked_has_not_changed(tmp_path: Path) -> None:
    answers = machine(tmp_path)
    with watching(tmp_path, answers) as watched:
        kept = answers.links.pop(4)
        watched.bell.ring()
        described(watched.collector)
        answers.links[4] = kept
        answers.links[5] = answer(5, "ens1f1", mac=MACS[1], vfs=[vf_entry(0, mac="02:00:00:00:00:02", vlan=9)])
        assert [(f"vf:{MACS[1]}/0", "vlan")] == [(device, one["what"]) for _, device, one in watched.after_ring(1)]


def test_only_what_is_on_a_bus_is_looked_at() -> None:
    """A node with containers makes and removes virtual interfaces all day."""
    for path, wanted in (
        ("/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/net/ens1f0", True),
        ("/devices/virtual/net/veth1", False),
    ):
        event = parse_uevent(f"add@{path}\0ACTION=add\0SUBSYSTEM=net\0".encode())
        assert wanted is concerns(event)
    assert concerns(None), "some were lost: look"


def test_messages_name_their_interfaces() -> None:
    assert [4, 9] == interface_indexes(answer(4) + answer(9, "x"))
    assert [] == interface_indexes(b"\0" * 8)


def test_port_keeps_its_name_when_its_driver_goes(tmp_path: Path) -> None:
    """Its rows, its functions' names and its claims go by that name."""
    answers = machine(tmp_path)
    with watching(tmp_path, answers) as watched:
        before = {address: one.device for address, one in described(watched.collector).items()}
        (tmp_path / "sys/class/net/ens1f0").unlink()
        assert [("interface", "ens1f0", "")] == [
            (one["what"], one["before"], one["after"]) for _, _, one in watched.after_ring(1)
        ]
        assert before == {address: one.device for address, one in described(watched.collector).items()}
        assert "interface" not in described(watched.collector)[PORT].capabilities

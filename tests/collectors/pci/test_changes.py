"""Whatever changes on the bus is told once, with what is needed to know what it was."""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from collectors._uevents import Uevent, parse_uevent
from collectors.pci import PciCollector, PciConfig
from collectors.pci_watch import Changes
from schemas.rows import Event, Item, Severity
from tests.collectors.pci.help import collector_of, events
from tests.collectors.pci.made import DRIVE, GPUS, PORT, VFS, bind, function, link, process, server, unplug, write

_TOP = "pci0000:80/0000:80:01.0"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The made server."""
    return server(tmp_path)


@pytest.fixture
def changes(machine: Path) -> Changes:
    """Its changes, counted from now."""
    made = Changes(machine, lambda address: None)
    assert [] == made.look()
    return made


def test_what_is_there_at_the_start_is_no_news(changes: Changes) -> None:
    assert [] == changes.look()


def test_unplugged_drive_is_told_once_with_its_last_identity(machine: Path) -> None:
    collector = looking(machine)
    (before,) = [one for one in collector.describe() if one.slot.address == DRIVE]
    told: list[Item] = []
    unplug(machine, DRIVE)
    _watch_until(collector, told, 1)
    (event,) = told
    assert isinstance(event, Event)
    assert ("device.removed", f"pci:{DRIVE}", Severity.WARNING) == (event.type, event.device, event.severity)
    wanted = {"serial": "S64HNE0T", "path": before.slot.path, "location": "NVMe BAY 0", "kind": "nvme"}
    assert wanted.items() <= event.detail.items()
    assert {"address": DRIVE, "pci_vendor_id": "144d", "driver": "nvme"}.items() <= event.detail.items()
    assert DRIVE not in {one.slot.address for one in collector.describe()}, "its document is withdrawn"


def test_plugged_drive_is_told_and_described(machine: Path, changes: Changes) -> None:
    function(machine, f"{_TOP}/0000:82:00.0", "144d:a80a", "010802", driver="nvme")
    (event,) = changes.look()
    assert ("device.added", "pci:0000:82:00.0") == (event.type, event.device)
    assert "0000:82:00.0 was added: 144d:a80a, class 010802, driver nvme" == event.message
    assert [] == changes.look()


def test_card_of_the_same_model_in_the_same_slot_is_another_card(machine: Path, changes: Changes) -> None:
    """Both came and went between two looks: nothing but its folder is new."""
    unplug(machine, DRIVE)
    function(machine, f"{_TOP}/{DRIVE}", "144d:a80a", "010802", driver="nvme")
    assert [("device.removed", f"pci:{DRIVE}"), ("device.added", f"pci:{DRIVE}")] == events(list(changes.look()))


def test_driver_that_lets_go_and_another_that_takes(machine: Path, changes: Changes) -> None:
    bind(machine, DRIVE, "")
    (event,) = changes.look()
    assert ("device.changed", "0000:81:00.0 driver: nvme is now none") == (event.type, event.message)
    bind(machine, DRIVE, "vfio-pci")
    (event,) = changes.look()
    assert {"what": "driver", "before": "", "after": "vfio-pci"}.items() <= event.detail.items()


def test_virtual_functions_that_come_and_go(machine: Path, changes: Changes) -> None:
    for address in VFS[2:]:
        unplug(machine, address)
    write(machine, f"sys/bus/pci/devices/{PORT}/sriov_numvfs", "2\n")
    found = changes.look()
    assert [("device.removed", f"pci:{address}") for address in VFS[2:]] == events(list(found))[:2]
    assert [("device.changed", f"pci:{PORT}")] == events(list(found))[2:]
    assert {"what": "sriov_vfs", "before": "4", "after": "2"}.items() <= found[-1].detail.items()


def test_function_that_falls_off_the_bus_and_comes_back(machine: Path, changes: Changes) -> None:
    path = f"sys/bus/pci/devices/{GPUS[0]}/config"
    kept = (machine / path).read_bytes()
    write(machine, path, b"\xff" * 4096)
    assert [] == changes.look(deep=False), "asking the hardware is for the slow look"
    (event,) = changes.look()
    assert ("device.lost", Severity.ERROR) == (event.type, event.severity)
    assert [] == changes.look()
    assert [] == changes.look(deep=False)
    write(machine, path, kept)
    assert ["device.found"] == [event.type for event in changes.look()]


def test_group_that_is_opened_and_closed(machine: Path, changes: Changes) -> None:
    process(machine, 900, "/dev/vfio/42")
    (event,) = changes.look()
    assert ("device.changed", f"pci:{VFS[2]}") == (event.type, event.device)
    assert {"what": "in_use_by", "before": "", "after": "qemu-system-x86/900"}.items() <= event.detail.items()
    (machine / "proc/900/fd/0").unlink()
    assert [""] == [event.detail["after"] for event in changes.look()]


def test_what_becomes_unknown_is_no_change(machine: Path, changes: Changes) -> None:
    link(machine, "proc/self/ns/pid", "pid:[4026532999]")
    assert [] == changes.look()


def test_function_that_cannot_be_read_is_not_gone(machine: Path, changes: Changes) -> None:
    (machine / f"sys/bus/pci/devices/{DRIVE}/vendor").rename(machine / "kept")
    assert [] == changes.look()
    (machine / "kept").rename(machine / f"sys/bus/pci/devices/{DRIVE}/vendor")
    assert [] == changes.look()


# --- the watch -----------------------------------------------------------------------------------------------------


class FakeEar:
    """Uevents through a pipe, as the kernel writes them."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)
        self.closed = False

    def say(self, *messages: bytes) -> None:
        """Let these be heard; b"" stands for lost ones."""
        os.write(self._in, b"".join(message + b"\n" for message in messages))

    def fileno(self) -> int:
        """Give the end to wait on."""
        return self._out

    def take(self) -> list[Uevent | None]:
        """Give what was said."""
        return [parse_uevent(line) for line in os.read(self._out, 65536).splitlines()]

    def close(self) -> None:
        """Close both ends."""
        self.closed = True
        os.close(self._in)
        os.close(self._out)


def _uevent(action: str, address: str, subsystem: str = "pci") -> bytes:
    path = f"/devices/{_TOP}/{address}"
    words = (f"ACTION={action}", f"DEVPATH={path}", f"SUBSYSTEM={subsystem}", f"PCI_SLOT_NAME={address}", "SEQNUM=1")
    return "\0".join((f"{action}@{path}", *words, "")).encode()


def _watch_until(collector: PciCollector, told: list[Item], count: int, seconds: float = 10.0) -> None:
    """Watch until so many items came, or the time is up."""
    stopping, enough = threading.Event(), threading.Event()

    def emit(items: Iterable[Item]) -> None:
        told.extend(items)
        if len(told) >= count:
            enough.set()

    thread = threading.Thread(target=collector.watch, args=(emit, stopping))
    thread.start()
    enough.wait(seconds)
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()


def looking(root: Path, listen: Callable[[], FakeEar] | None = None) -> PciCollector:
    """Give a collector that looks by itself, whenever it may."""
    now = iter(range(1 << 30))
    config = PciConfig(rescan_every_seconds=1)
    return collector_of(root, listen=listen, config=config, clock=lambda: next(now))


def test_uevent_makes_it_look_at_once(machine: Path) -> None:
    """Long before the next look by itself, and once for a whole burst."""
    ear = FakeEar()
    collector = collector_of(machine, listen=lambda: ear, config=PciConfig(rescan_every_seconds=3600))
    unplug(machine, DRIVE)
    ear.say(_uevent("unbind", DRIVE), _uevent("remove", DRIVE), _uevent("remove", DRIVE, "nvme"))
    told: list[Item] = []
    _watch_until(collector, told, 1)
    assert [("device.removed", f"pci:{DRIVE}")] == events(told)
    assert ear.closed


def test_lost_uevents_make_it_look_too(machine: Path) -> None:
    ear = FakeEar()
    collector = collector_of(machine, listen=lambda: ear, config=PciConfig(rescan_every_seconds=3600))
    unplug(machine, DRIVE)
    ear.say(b"")
    told: list[Item] = []
    _watch_until(collector, told, 1)
    assert 1 == len(told)


def test_uevents_of_other_buses_are_left(machine: Path) -> None:
    ear = FakeEar()
    collector = collector_of(machine, listen=lambda: ear, config=PciConfig(rescan_every_seconds=3600))
    unplug(machine, DRIVE)
    ear.say(_uevent("add", DRIVE, "usb"))
    told: list[Item] = []
    _watch_until(collector, told, 1, seconds=1.0)
    assert [] == told


def test_without_uevents_it_looks_by_itself(machine: Path) -> None:
    def deaf() -> FakeEar:
        raise PermissionError("netlink is closed to this container")

    collector = looking(machine, deaf)
    unplug(machine, DRIVE)
    told: list[Item] = []
    _watch_until(collector, told, 1)
    assert [("device.removed", f"pci:{DRIVE}")] == events(told)

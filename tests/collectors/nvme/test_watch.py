"""What the kernel tells of drives by itself: told at once, and read at once."""

import os
from pathlib import Path

import pytest

from collectors._uevents import Uevent, parse_uevent
from collectors.nvme.watch import AsyncEvent, Notice, notice_of, parse_async
from tests.collectors.nvme import made
from tests.collectors.nvme.help import Machine
from tests.collectors.nvme.made import FakeDrive

PATH = f"/devices/{made.WHERE}/nvme/nvme0"


def _uevent(path: str, *words: str, action: str = "change", subsystem: str = "nvme") -> Uevent | None:
    text = "\0".join((f"{action}@{path}", f"ACTION={action}", f"SUBSYSTEM={subsystem}", *words))
    return parse_uevent(text.encode() + b"\0")


@pytest.mark.parametrize(
    ("uevent", "expected"),
    [
        (_uevent(PATH, "NVME_AEN=0x020101"), Notice("nvme0", async_event=0x020101)),
        (_uevent(PATH, "NVME_EVENT=connected"), Notice("nvme0", reset=True)),
        (_uevent(PATH, action="remove"), Notice("nvme0")),
        (_uevent(PATH, "NVME_AEN=nonsense"), Notice("nvme0")),
        (_uevent(f"{PATH}/nvme0n1", subsystem="block"), Notice("nvme0")),
        (_uevent(f"{PATH}/nvme0n1/nvme0n1p1", action="add", subsystem="block"), Notice("nvme0")),
        (_uevent("/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", subsystem="block"), Notice("")),
        (_uevent("/devices/virtual/block/loop0", subsystem="block"), None),
        (_uevent("/devices/pci0000:00/0000:00:02.0", subsystem="pci"), None),
        (None, Notice("")),
    ],
)
def test_notice_is_of_the_drive_that_the_kernel_names(uevent: Uevent | None, expected: Notice | None) -> None:
    assert expected == notice_of(uevent)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0x020101, AsyncEvent("health", "temperature", 2)),
        (0x020201, AsyncEvent("health", "spare", 2)),
        (0x040002, AsyncEvent("notice", "namespaces-changed", 4)),
        (0x010300, AsyncEvent("error", "3", 1)),
        (0xC09907, AsyncEvent("vendor", "153", 0xC0)),
    ],
)
def test_async_event_is_read_as_the_specification_says(word: int, expected: AsyncEvent) -> None:
    assert expected == parse_async(word)


class Ear:
    """Says what a test gives it, once."""

    def __init__(self, *uevents: Uevent | None) -> None:
        self._read, write = os.pipe()
        os.write(write, b"!")
        os.close(write)
        self._uevents = list(uevents)

    def fileno(self) -> int:
        """Give what is readable."""
        return self._read

    def take(self) -> list[Uevent | None]:
        """Give what has come."""
        found, self._uevents = self._uevents, []
        return found

    def close(self) -> None:
        """Close; only once."""
        os.close(self._read)


def test_what_the_kernel_tells_is_an_event_and_has_that_drive_read_at_once(tmp_path: Path) -> None:
    made.drive(tmp_path)
    made.drive(tmp_path, "nvme1", "pci0000:00/0000:00:02.0/0000:02:00.0", serial="OTHER")
    drive, other = FakeDrive(), FakeDrive("OTHER")
    ear = Ear(_uevent(PATH, "NVME_AEN=0x020101"), _uevent(PATH, "NVME_EVENT=connected"))
    machine = Machine(tmp_path, None, listen=lambda: ear, nvme0=drive, nvme1=other).start()
    machine.rows()
    drive.asked.clear()
    other.asked.clear()
    told = [(event.type, event.device, event.detail.get("information")) for event in machine.events()]
    assert [("nvme.async", "nvme:S64HNE0", "temperature"), ("nvme.drive.reset", "nvme:S64HNE0", None)] == told
    rows = machine.rows(0.1)
    assert 0x02 in drive.asked, "though it was not due"
    assert ([], False) == (other.asked, "nvme nvme:OTHER" in rows)

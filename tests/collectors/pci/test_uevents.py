"""The kernel's messages of devices, read from bytes and from the kernel itself."""

import select
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors._uevents import Uevent, Uevents, parse_uevent
from tests.needs import unmet


def test_message_of_the_kernel() -> None:
    data = (
        b"remove@/devices/pci0000:00/0000:00:02.1/0000:01:00.0\0ACTION=remove\0SUBSYSTEM=pci\0"
        b"PCI_CLASS=10802\0PCI_ID=144D:A80A\0PCI_SLOT_NAME=0000:01:00.0\0MODALIAS=pci:v0000144D\0SEQNUM=4711\0"
    )
    event = parse_uevent(data)
    assert event is not None
    assert ("remove", "pci", "0000:01:00.0") == (event.action, event.subsystem, event.values["PCI_SLOT_NAME"])
    assert "/devices/pci0000:00/0000:00:02.1/0000:01:00.0" == event.path


@pytest.mark.parametrize("data", [b"libudev\0\xfe\xed\xca\xfe\0\0", b"", b"add", b"add@no-path\0A=1\0"])
def test_what_the_kernel_does_not_write_is_none(data: bytes) -> None:
    assert parse_uevent(data) is None


def test_message_without_words_is_one() -> None:
    assert Uevent("change", "/devices/x", {}) == parse_uevent(b"change@/devices/x\0no equals\0")


@given(st.binary(max_size=200))
def test_any_bytes_end(noise: bytes) -> None:
    parse_uevent(noise)


def test_the_kernel_of_this_machine_is_heard() -> None:
    """A `change` that is asked for says that the way from the kernel is open; the loopback interface has no bus."""
    trigger = Path("/sys/class/net/lo/uevent")
    ear = _ear()
    try:
        trigger.write_text("change\n")
        heard: list[Uevent | None] = []
        end = time.monotonic() + 5
        while not heard and time.monotonic() < end:
            if select.select([ear.fileno()], [], [], 0.2)[0]:
                heard += [one for one in ear.take() if one is not None and one.path.endswith("/net/lo")]
        assert ["change"] == [one.action for one in heard if one is not None]
    except PermissionError:
        pytest.skip("only root may ask the kernel for an event")
    finally:
        ear.close()
        ear.close()


def test_another_process_is_not_taken_for_the_kernel() -> None:
    ear = _ear()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as liar:
        liar.bind((0, 0))
        try:
            liar.sendto(b"remove@/devices/x\0SUBSYSTEM=pci\0", (_number(ear), 0))
        except OSError:
            pytest.skip("the kernel does not pass it on at all")
        finally:
            time.sleep(0.05)
            taken = ear.take()
            ear.close()
    assert [] == [one for one in taken if one is None or one.path == "/devices/x"]


def _ear() -> Uevents:
    try:
        return Uevents()
    except OSError as error:
        unmet(f"needs netlink: {error}")


def _number(ear: Uevents) -> int:
    return int(ear._socket.getsockname()[0])

"""What tells that network functions changed: uevents of the bus, the kernel's word on interfaces, drivers' on health.

The bus says nothing of a virtual function's VLAN or MAC address, and the port nothing of functions taken away.
Source: linux/rtnetlink.h, RTNLGRP_LINK; lib/kobject_uevent.c.
"""

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from collectors._uevents import Uevent, Uevents
from collectors.sriov.genetlink import GenericNetlink

_LINK_GROUP: Final = 1
_HEADER: Final = struct.Struct("=IHHIIBxHi")
_COMMAND_AT: Final = 16
_HEALTH: Final = 54
"""Where a message of generic netlink has its command, and DEVLINK_CMD_HEALTH_REPORTER_RECOVER."""
_LARGEST: Final = 1 << 16
_BUFFER_BYTES: Final = 1 << 20
_QUIET_S: Final = 0.2
"""After the last word of a burst, before anything is looked at: functions are made one by one."""
_BURST_S: Final = 2.0
"""The longest that a burst is waited for."""


class Ear(Protocol):
    """What can be waited for."""

    def fileno(self) -> int:
        """Give what to wait on."""

    def heard(self, indexes: frozenset[int]) -> bool:
        """Take what has come, and tell whether it may concern a function; `indexes`: their interfaces."""

    def close(self) -> None:
        """Listen no more."""


class BusEar:
    """Functions and interfaces that come, go and are bound."""

    def __init__(self) -> None:
        """Begin to listen. Raises OSError."""
        self._uevents = Uevents()
        self.fileno = self._uevents.fileno
        self.close = self._uevents.close

    def heard(self, indexes: frozenset[int]) -> bool:  # noqa: ARG002 - what is new has an index that nobody knows
        """Take what has come; what is on no PCI bus is passed over."""
        return any(map(concerns, self._uevents.take()))


def concerns(event: Uevent | None) -> bool:
    """Tell whether an event may be about a function of the PCI bus; None, for lost ones, may."""
    return event is None or (event.subsystem in ("pci", "net") and event.path.startswith("/devices/pci"))


class LinkEar:
    """Interfaces whose configuration changed, that of their virtual functions among it."""

    def __init__(self) -> None:
        """Begin to listen. Raises OSError."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            self._socket.bind((0, _LINK_GROUP))
        except OSError:
            self._socket.close()
            raise
        self.fileno = self._socket.fileno
        self.close = self._socket.close

    def heard(self, indexes: frozenset[int]) -> bool:
        """Take what has come; of much, or when some was lost, all is looked at."""
        found = False
        for _ in range(_LARGEST):
            try:
                data = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: some were lost
                found = True
                continue
            found = found or any(index in indexes for index in interface_indexes(data))
        return True


class CardEar:
    """What drivers tell of the health of their cards."""

    def __init__(self) -> None:
        """Begin to listen. Raises OSError: the kernel has no devlink."""
        self._netlink = GenericNetlink("devlink")
        self.fileno = self._netlink.fileno
        self.close = self._netlink.close
        try:
            self._netlink.join("config")
        except OSError:
            self._netlink.close()
            raise

    def heard(self, indexes: frozenset[int]) -> bool:  # noqa: ARG002 - a card goes by its address
        """Take what has come; what is not about health is passed over, and when some was lost, all is looked at."""
        found = False
        for _ in range(_LARGEST):
            try:
                data = self._netlink.heard()
            except OSError:  # ENOBUFS: some were lost
                found = True
                continue
            if data is None:
                return found
            found = found or (len(data) > _COMMAND_AT and data[_COMMAND_AT] == _HEALTH)
        return True


def interface_indexes(data: bytes) -> list[int]:
    """Give the indexes of the interfaces that messages are about."""
    found = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, _, _, _, _, _, _, index = _HEADER.unpack_from(data, at)
        found.append(index)
        at += max(length, _HEADER.size) + 3 & ~3
    return found


def own_ears() -> list[Ear]:
    """Open this machine's ears; those that the kernel does not allow are left out."""
    opened: list[Ear] = []
    makers: tuple[Callable[[], Ear], ...] = (BusEar, LinkEar, CardEar)
    for make in makers:
        try:
            opened.append(make())
        except OSError:
            continue
    return opened


def wait(
    ears: Iterable[Ear], indexes: frozenset[int], seconds: float, stopping: threading.Event, clock: Callable[[], float]
) -> bool:
    """Wait at most `seconds`; tell whether something concerns a function, after the burst of it is over."""
    by_file = {ear.fileno(): ear for ear in ears}
    if not by_file:
        stopping.wait(seconds)
        return False
    poller = select.poll()
    for file in by_file:
        poller.register(file, select.POLLIN)
    concerned = [by_file[file].heard(indexes) for file, _ in poller.poll(seconds * 1000)]
    if not any(concerned):
        return False
    end = clock() + _BURST_S
    while clock() < end and not stopping.is_set():
        more = poller.poll(_QUIET_S * 1000)
        if not more:
            break
        for file, _ in more:
            by_file[file].heard(indexes)
    return True

"""What the kernel tells of devices that come, go and change: a netlink socket, without udev.

Source: linux/lib/kobject_uevent.c: `<action>@<path>`, then `KEY=value` words, each ended by a zero byte.
"""

import socket
from typing import Final

import msgspec

_PROTOCOL: Final = 15
"""NETLINK_KOBJECT_UEVENT of linux/netlink.h."""
_KERNEL_GROUP: Final = 1
"""What the kernel says; group 2 is what udev makes of it."""
_BUFFER_BYTES: Final = 1 << 20
"""Some 4,000 events: the functions of a card come in one burst."""
_LARGEST: Final = 1 << 14


class Uevent(msgspec.Struct, frozen=True):
    """One change of one device."""

    action: str
    """`add`, `remove`, `change`, `bind`, `unbind`, `move`, `online` or `offline`."""
    path: str
    """Below `/sys`."""
    values: dict[str, str]

    @property
    def subsystem(self) -> str:
        """The bus or class: `pci`, `net`, `nvme`."""
        return self.values.get("SUBSYSTEM", "")


def parse_uevent(data: bytes) -> Uevent | None:
    """Read one message; None for what the kernel does not write (udev's begin with `libudev`)."""
    head, *words = data.rstrip(b"\0").split(b"\0")
    action, at, path = head.decode("utf-8", "replace").partition("@")
    if not at or not path.startswith("/"):
        return None
    values = {}
    for word in words:
        key, equals, value = word.decode("utf-8", "replace").partition("=")
        if equals:
            values[key] = value
    return Uevent(action, path, values)


class Uevents:
    """An open ear. Any user may listen; another user's messages are told from the kernel's, and left."""

    def __init__(self) -> None:
        """Begin to listen. Raises OSError where the kernel lets nobody (some containers)."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _PROTOCOL)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            self._socket.bind((0, _KERNEL_GROUP))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Give what to wait on; -1 when closed."""
        return self._socket.fileno()

    def take(self) -> list[Uevent | None]:
        """Give what has come. None among them: some were lost (ENOBUFS), or cannot be read: look at everything."""
        found: list[Uevent | None] = []
        while len(found) < _LARGEST:
            try:
                data, sender = self._socket.recvfrom(_LARGEST)
            except BlockingIOError:
                break
            except OSError:
                found.append(None)
                continue
            if sender[0] == 0:
                found.append(parse_uevent(data))
        return found

    def close(self) -> None:
        """Listen no more; safe twice."""
        self._socket.close()

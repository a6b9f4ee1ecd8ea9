"""The kernel that is asked: the seam between what is read of network functions and where it is read."""

import errno
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from collectors.sriov import ethtool
from collectors.sriov.ethtool import Driver, Ethtool, Feature
from collectors.sriov.genetlink import GenericNetlink, text_attribute
from collectors.sriov.netlink import (
    WITH_VFS,
    WITHOUT_COUNTERS,
    Link,
    NetlinkError,
    Rtnetlink,
    parse_links,
    too_long,
)

Found = TypeVar("Found")


class Kernel(Protocol):
    """What answers."""

    def link(self, index: int, mask: int) -> bytes:
        """Give the rtnetlink answer for an interface. Raises OSError."""

    def driver(self, interface: str, question: bytes, room: int) -> bytes:
        """Give the ethtool answer for an interface. Raises OSError."""

    def devlink(self, command: int, handle: tuple[str, str] | None) -> bytes:
        """Give the devlink answer for a card, by bus and address; None: for all. Raises OSError or NetlinkError."""

    def close(self) -> None:
        """Close; safe twice."""


class OwnKernel:
    """This machine's. Sockets are opened at the first question."""

    def __init__(self) -> None:
        self._netlink: Rtnetlink | None = None
        self._ethtool: Ethtool | None = None
        self._devlink: GenericNetlink | None = None

    def link(self, index: int, mask: int) -> bytes:
        """Ask over rtnetlink. Raises OSError."""
        if self._netlink is None:
            self._netlink = Rtnetlink()
        try:
            return self._netlink.ask(index, mask)
        except TimeoutError:
            self._netlink.close()  # with what may still come
            self._netlink = None
            raise

    def driver(self, interface: str, question: bytes, room: int) -> bytes:
        """Ask by ethtool. Raises OSError."""
        if self._ethtool is None:
            self._ethtool = Ethtool()
        return self._ethtool.ask(interface, question, room)

    def devlink(self, command: int, handle: tuple[str, str] | None) -> bytes:
        """Ask over generic netlink. Raises OSError or NetlinkError."""
        if self._devlink is None:
            self._devlink = GenericNetlink("devlink")
        body = b"" if handle is None else b"".join(text_attribute(kind, one) for kind, one in enumerate(handle, 1))
        try:
            return self._devlink.ask(command, body, dump=handle is None)
        except TimeoutError:
            self._devlink.close()  # with what may still come
            self._devlink = None
            raise

    def close(self) -> None:
        """Close; safe twice."""
        for one in (self._netlink, self._ethtool, self._devlink):
            if one is not None:
                one.close()
        self._netlink = self._ethtool = self._devlink = None


class NoKernel:
    """That of a recorded machine, which answers nothing."""

    def link(self, index: int, mask: int) -> bytes:
        """Refuse."""
        raise OSError(errno.EOPNOTSUPP, f"a recorded machine says nothing of interface {index} ({mask})")

    def driver(self, interface: str, question: bytes, room: int) -> bytes:
        """Refuse."""
        raise OSError(errno.EOPNOTSUPP, f"a recorded machine says nothing of {interface} ({len(question)}, {room})")

    def devlink(self, command: int, handle: tuple[str, str] | None) -> bytes:
        """Refuse."""
        raise OSError(errno.EOPNOTSUPP, f"a recorded machine says nothing of {handle} ({command})")

    def close(self) -> None:
        """Nothing is open."""


def kernel_of(root: Path) -> Kernel:
    """Give this machine's kernel for its own root, and one that answers nothing for any other."""
    return OwnKernel() if root == Path("/") else NoKernel()


def read_link(kernel: Kernel, index: int, *, vfs: bool = True, counters: bool = True) -> Link:
    """Give an interface, with its virtual functions; their counters are left out when the answer gets too long.

    Raises OSError or NetlinkError.
    """
    mask = (WITH_VFS if vfs else 0) | (0 if counters else WITHOUT_COUNTERS)
    try:
        return _only(parse_links(kernel.link(index, mask)), index)
    except (OSError, NetlinkError) as error:
        if not (vfs and counters and too_long(error)):
            raise
    return _only(parse_links(kernel.link(index, WITH_VFS | WITHOUT_COUNTERS)), index)


def _only(links: list[Link], index: int) -> Link:
    for link in links:
        if link.index == index:
            return link
    raise NetlinkError(f"the answer does not tell of interface {index}")


def read_driver(kernel: Kernel, interface: str) -> Driver:
    """Give what drives an interface; words that it does not tell are "". Raises nothing."""
    return _asked(lambda: ethtool.parse_driver(kernel.driver(interface, *ethtool.driver_question())), Driver())


def read_names(kernel: Kernel, interface: str, names: int) -> list[str]:
    """Give the names of a set (`ethtool.STATISTICS`, `ethtool.FEATURES`); [] when there is none. Raises nothing."""

    def ask() -> list[str]:
        count = read_count(kernel, interface, names)
        return ethtool.parse_names(kernel.driver(interface, *ethtool.names_question(names, count))) if count else []

    return _asked(ask, [])


def read_count(kernel: Kernel, interface: str, names: int) -> int:
    """Give how many names a set has; 0 when there is none. Raises nothing."""
    return _asked(lambda: ethtool.parse_count(kernel.driver(interface, *ethtool.count_question(names))), 0)


def read_values(kernel: Kernel, interface: str, count: int) -> list[int]:
    """Give the values of all counters, in the order of their names; [] when they cannot be had. Raises nothing."""
    return _asked(lambda: ethtool.parse_values(kernel.driver(interface, *ethtool.values_question(count))), [])


def read_features(kernel: Kernel, interface: str) -> list[Feature]:
    """Give the state of every feature. Raises nothing."""
    names = read_names(kernel, interface, ethtool.FEATURES)
    if not names:
        return []
    question = ethtool.features_question(len(names))
    return _asked(lambda: ethtool.parse_features(kernel.driver(interface, *question), names), [])


def _asked(ask: Callable[[], Found], none: Found) -> Found:
    try:
        return ask()
    except (OSError, struct.error):
        return none

"""Generic netlink: questions to one of the kernel's families by its name. Bytes in, messages out.

Source: linux/netlink.h, genetlink.h; net/netlink/genetlink.c; Documentation/userspace-api/netlink/intro.rst.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Final

from collectors.sriov.netlink import NetlinkError, attributes

_PROTOCOL: Final = 16
"""NETLINK_GENERIC."""
_HEADER: Final = struct.Struct("=IHHIIBBH")
"""struct nlmsghdr and struct genlmsghdr: length, type, flags, sequence, port; command, version, reserved."""
_BARE: Final = 16
_ERROR, _DONE = 2, 3
_REQUEST, _INTERRUPTED, _DUMP = 0x001, 0x010, 0x300
_CONTROL, _GET_FAMILY = 16, 3
_FAMILY_ID, _FAMILY_NAME, _GROUPS, _GROUP_NAME, _GROUP_ID = 1, 2, 7, 1, 2
_MEMBERSHIP, _NETLINK = 1, 270
"""NETLINK_ADD_MEMBERSHIP, SOL_NETLINK."""
_LARGEST: Final = 1 << 16
_MOST_BYTES: Final = 1 << 24
_ATTEMPTS: Final = 3
_SECONDS: Final = 5.0
_NUMBERS: Final = {1: "=B", 2: "=H", 4: "=I", 8: "=Q"}


class Fields:
    """The attributes of a message, or of an attribute that has some: by type, those of the same type in order."""

    def __init__(self, data: memoryview) -> None:
        """Read them. Raises NetlinkError."""
        self._found: dict[int, list[memoryview]] = {}
        for kind, content in attributes(data):
            self._found.setdefault(kind, []).append(content)

    def __contains__(self, kind: int) -> bool:
        return kind in self._found

    def content(self, kind: int) -> memoryview | None:
        """Give the bytes of the first of a type; None without any."""
        found = self._found.get(kind)
        return found[0] if found else None

    def number(self, kind: int) -> int | None:
        """Give an integer of whatever width it has; None without any."""
        data = self.content(kind)
        code = _NUMBERS.get(len(data)) if data is not None else None
        return None if data is None or code is None else int(struct.unpack(code, data)[0])

    def text(self, kind: int) -> str:
        """Give words; "" without any."""
        return bytes(self.content(kind) or b"").partition(b"\0")[0].decode("utf-8", "replace")

    def nested(self, kind: int) -> Iterator["Fields"]:
        """Give the attributes inside each of a type. Raises NetlinkError."""
        return (Fields(data) for data in self._found.get(kind, ()))


def text_attribute(kind: int, words: str) -> bytes:
    """Give an attribute of words."""
    data = words.encode() + b"\0"
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def parse_messages(data: bytes) -> Iterator[tuple[int, Fields]]:
    """Give command and attributes of each message of an answer. Raises NetlinkError."""
    for kind, _, body in _messages(data):
        if kind > _DONE and len(body) >= 4:
            yield body[0], Fields(body[4:])


def _messages(data: bytes) -> Iterator[tuple[int, tuple[int, int], memoryview]]:
    """Give type, (flags, sequence) and content of each message."""
    at = 0
    while at < len(data):
        if at + _BARE > len(data):
            raise NetlinkError("the answer ends within a header")
        length, kind, flags, sequence = struct.unpack_from("=IHHI", data, at)
        if length < _BARE or at + length > len(data):
            raise NetlinkError(f"a message of {length} bytes, of which {len(data) - at} came")
        yield kind, (flags, sequence), memoryview(data)[at + _BARE : at + length]
        at += length + 3 & ~3


class GenericNetlink:
    """An open socket for questions to one family. Which of them any user may ask is the family's to say."""

    def __init__(self, family: str) -> None:
        """Open. Raises OSError: ENOENT when the kernel has no such family."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, _PROTOCOL)
        self._sequence = 0
        self.fileno = self._socket.fileno
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(_SECONDS)
            self._family = _CONTROL
            answer = self.ask(_GET_FAMILY, text_attribute(_FAMILY_NAME, family), dump=False)
            self._known = next((fields for _, fields in parse_messages(answer)), Fields(memoryview(b"")))
            self._family = self._known.number(_FAMILY_ID) or 0
        except BaseException:
            self._socket.close()
            raise

    def ask(self, command: int, body: bytes, *, dump: bool) -> bytes:
        """Give the messages of the answer; `dump`: of all that there is. Raises OSError with the kernel's refusal.

        A list that changed while it was told is asked for again.
        """
        for attempt in range(_ATTEMPTS):
            self._sequence += 1
            flags = _REQUEST | (_DUMP if dump else 0)
            size = _HEADER.size + len(body)
            self._socket.send(_HEADER.pack(size, self._family, flags, self._sequence, 0, command, 1, 0) + body)
            answer, whole = self._answer(dump=dump)
            if whole or attempt == _ATTEMPTS - 1:
                return answer
        raise AssertionError

    def _answer(self, *, dump: bool) -> tuple[bytes, bool]:
        """Give what comes for the last question, and whether nothing changed meanwhile."""
        found = bytearray()
        whole = True
        while len(found) < _MOST_BYTES:
            data = self._socket.recv(_LARGEST)
            for kind, (flags, sequence), body in _messages(data):
                if sequence != self._sequence:
                    continue  # the answer to a question that timed out
                whole = whole and not flags & _INTERRUPTED
                if kind in (_ERROR, _DONE):
                    _refused(body)
                    return bytes(found), whole
                found += struct.pack("=IHHII", _BARE + len(body), kind, flags, sequence, 0)
                found += bytes(body) + bytes(-len(body) % 4)
                if not dump:
                    return bytes(found), whole
        raise NetlinkError(f"an answer of more than {_MOST_BYTES} bytes")

    def join(self, group: str) -> None:
        """Hear what the family tells a group of listeners, from now on, without waiting. Raises OSError."""
        groups = (
            one for several in self._known.nested(_GROUPS) for kind in range(1, 64) for one in several.nested(kind)
        )
        number = next((one.number(_GROUP_ID) for one in groups if one.text(_GROUP_NAME) == group), None)
        if number is None:
            raise OSError(2, f"the family has no group {group!r}")
        self._socket.setsockopt(_NETLINK, _MEMBERSHIP, number)
        self._socket.setblocking(False)

    def heard(self) -> bytes | None:
        """Give one message that the group was told; None when there is no further. Raises OSError: some were lost."""
        try:
            return self._socket.recv(_LARGEST)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Close; safe twice."""
        self._socket.close()


def _refused(body: memoryview) -> None:
    """Raise what the kernel refuses with; the end of a list may say it too."""
    if len(body) >= 4 and (number := struct.unpack_from("=i", body)[0]):
        raise OSError(-number, f"the kernel refuses ({-number})")

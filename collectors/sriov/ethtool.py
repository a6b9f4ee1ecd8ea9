"""What a network driver tells by ethtool: its counters by name, its offloads, its firmware.

Source: linux/ethtool.h; net/ethtool/ioctl.c. Any user may ask.
"""

import array
import fcntl
import socket
import struct
from typing import Final

import msgspec

_CALL: Final = 0x8946
"""SIOCETHTOOL."""
_DRIVER, _STRINGS, _VALUES, _COUNTS, _FEATURES = 0x03, 0x1B, 0x1D, 0x37, 0x3A
STATISTICS, FEATURES = 1, 4
"""Sets of names: ETH_SS_STATS, ETH_SS_FEATURES."""
_NAME_BYTES: Final = 32
_SPARE: Final = 4096
"""A driver may answer with more values than it said a moment ago (channels were added), and the kernel does not look at
how many fit: so much room is left beyond."""
_MOST: Final = 1 << 14
"""More names than any driver has."""


class Driver(msgspec.Struct, frozen=True):
    """What drives an interface."""

    name: str = ""
    firmware: str = ""


class Feature(msgspec.Struct, frozen=True):
    """One thing that the card can take off the host, or the kernel does in its place."""

    name: str
    active: bool
    available: bool
    """Whether it can be switched; what is active and cannot be is so for good."""


class Ethtool:
    """An open socket for questions about interfaces by name."""

    def __init__(self) -> None:
        """Open. Raises OSError."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def ask(self, interface: str, question: bytes, room: int) -> bytes:
        """Give what the driver answers, `room` bytes. Raises OSError: EOPNOTSUPP when it has no answer."""
        buffer = array.array("Q", bytes(room + 7 & ~7))
        memoryview(buffer).cast("B")[: len(question)] = question
        address, _ = buffer.buffer_info()
        fcntl.ioctl(self._socket, _CALL, struct.pack("=16sQ16x", interface.encode()[:15], address))
        return memoryview(buffer).cast("B")[:room].tobytes()

    def close(self) -> None:
        """Close; safe twice."""
        self._socket.close()


def driver_question() -> tuple[bytes, int]:
    """Give the question for the driver and its firmware, and the room that its answer takes."""
    return struct.pack("=I", _DRIVER), 196


def parse_driver(data: bytes) -> Driver:
    """Read `struct ethtool_drvinfo`."""
    return Driver(_text(data[4:36]), _text(data[68:100]))


def count_question(names: int) -> tuple[bytes, int]:
    """Give the question for how many names a set has."""
    return struct.pack("=IIQI", _COUNTS, 0, 1 << names, 0), 24


def parse_count(data: bytes) -> int:
    """Read `struct ethtool_sset_info`; 0 for a set that the driver does not have."""
    if len(data) < 20:
        return 0
    _, _, mask, count = struct.unpack_from("=IIQI", data)
    return min(int(count), _MOST) if mask else 0


def names_question(names: int, count: int) -> tuple[bytes, int]:
    """Give the question for the names of a set."""
    return struct.pack("=III", _STRINGS, names, count), 12 + (count + _SPARE) * _NAME_BYTES


def parse_names(data: bytes) -> list[str]:
    """Read `struct ethtool_gstrings`."""
    if len(data) < 12:
        return []
    count = min(struct.unpack_from("=I", data, 8)[0], (len(data) - 12) // _NAME_BYTES)
    return [_text(data[12 + at * _NAME_BYTES : 12 + (at + 1) * _NAME_BYTES]) for at in range(count)]


def values_question(count: int) -> tuple[bytes, int]:
    """Give the question for all counters."""
    return struct.pack("=II", _VALUES, count), 8 + (count + _SPARE) * 8


def parse_values(data: bytes) -> list[int]:
    """Read `struct ethtool_stats`, in the order of the names."""
    if len(data) < 8:
        return []
    count = min(struct.unpack_from("=I", data, 4)[0], (len(data) - 8) // 8)
    return list(struct.unpack_from(f"={count}Q", data, 8))


def features_question(count: int) -> tuple[bytes, int]:
    """Give the question for the state of all features."""
    words = (count + 31) // 32
    return struct.pack("=II", _FEATURES, words), 8 + words * 16


def parse_features(data: bytes, names: list[str]) -> list[Feature]:
    """Read `struct ethtool_gfeatures`."""
    if len(data) < 8:
        return []
    words = min(struct.unpack_from("=I", data, 4)[0], (len(data) - 8) // 16)
    found = []
    for at, name in enumerate(names[: words * 32]):
        available, _, active, _ = struct.unpack_from("=4I", data, 8 + at // 32 * 16)
        bit = 1 << at % 32
        if name:
            found.append(Feature(name, bool(active & bit), bool(available & bit)))
    return found


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace").strip()

"""What the kernel says of a network interface and its virtual functions over rtnetlink. Bytes in, facts out.

A reader of our own, of the few attributes that are kept: pyroute2 takes more memory than the whole agent has for this
source, does not know all attributes of virtual functions, and has a limit of its own for answers of many functions.
Source: linux/rtnetlink.h, if_link.h, netlink.h; net/core/rtnetlink.c, `rtnl_fill_vf`.
"""

import socket
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

from schemas.errors import MusterError

WITH_VFS, WITHOUT_COUNTERS = 1, 8
"""RTEXT_FILTER_VF, RTEXT_FILTER_SKIP_STATS."""
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR, _DONE, _NEWLINK, _GETLINK = 2, 3, 16, 18
_REQUEST: Final = 1
_TYPE: Final = 0x3FFF
"""Without the flags for nested attributes and for network byte order."""
_WRAP: Final = 1 << 16
_RUNNING: Final = 0x40
_EMSGSIZE: Final = 90
_MOST_BYTES: Final = 1 << 22
_ATTEMPTS: Final = 3

_ADDRESS, _NAME, _MTU, _OPERSTATE = 1, 3, 4, 16
_VF_COUNT, _VF_LIST, _COUNTERS, _CARRIER = 21, 22, 23, 33
_SWITCH_ID, _PORT_NAME, _CARRIER_UPS, _CARRIER_DOWNS, _PERMANENT = 36, 38, 47, 48, 54
_INTEGER: Final = struct.Struct("=I")
_LONG: Final = struct.Struct("=Q")
_VF_STATS: Final = 8
_MOST_KEPT: Final = 1024
"""Functions of which is kept what they were at the last look."""
_VLAN: Final = struct.Struct("=IIIH")


class NetlinkError(MusterError):
    """The kernel refuses, or its answer cannot be read."""

    code = "sriov.netlink"


class Counters(msgspec.Struct, frozen=True):
    """What a function received and sent; what the kernel does not tell is None."""

    receive_packets: int | None = None
    transmit_packets: int | None = None
    receive_bytes: int | None = None
    transmit_bytes: int | None = None
    receive_broadcast: int | None = None
    receive_multicast: int | None = None
    receive_dropped: int | None = None
    transmit_dropped: int | None = None

    @property
    def zero(self) -> bool:
        """Whether nothing was counted: so drivers answer that do not count, and those whose function is in reset."""
        return not any(getattr(self, name) for name in self.__struct_fields__)


class VirtualFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual function as its port keeps it; what its driver does not tell is None."""

    index: int
    mac: str = ""
    """"" when the port has given it none: it has one of its own then, which the port does not know."""
    vlan: int | None = None
    """0 for none."""
    vlan_qos: int | None = None
    vlan_protocol: str = ""
    """`802.1q` or `802.1ad`."""
    min_rate_mbps: int | None = None
    """Megabits a second; 0 for no limit."""
    max_rate_mbps: int | None = None
    spoof_check: bool | None = None
    trust: bool | None = None
    rss_query: bool | None = None
    link_state: str = ""
    """`auto`, `enable` or `disable`."""
    node_guid: str = ""
    port_guid: str = ""
    counters: Counters | None = None
    """None when they were not asked for. All zero from drivers that do not count: see `drivers`."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface; what the kernel does not tell is None."""

    index: int
    name: str = ""
    mac: str = ""
    permanent_mac: str = ""
    """What it was made with; an interface in a bond has another's as its `mac`."""
    mtu_bytes: int | None = None
    running: bool = False
    up: bool | None = None
    """Whether it has a carrier; None when its administrator has it down."""
    carrier_ups: int | None = None
    carrier_downs: int | None = None
    switch_id: str = ""
    """Which switch it is a port of, in hexadecimal; "" for none."""
    port_name: str = ""
    """`p0` is an uplink; `pf0vf3` stands for virtual function 3 (a representor)."""
    counters: Counters | None = None
    vf_count: int | None = None
    vfs: tuple[VirtualFunction, ...] = ()


def request(index: int, mask: int, sequence: int) -> bytes:
    """Give the message that asks for one interface by its index. `mask`: which of the extended facts."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + _ATTRIBUTE.pack(8, 29) + _INTEGER.pack(mask)
    return _HEADER.pack(_HEADER.size + len(body), _GETLINK, _REQUEST, sequence, 0) + body


def parse_links(data: bytes) -> list[Link]:
    """Read an answer, or several one after the other. Raises NetlinkError; OSError with the kernel's own refusal."""
    found = []
    at = 0
    while at < len(data):
        if at + _HEADER.size > len(data):
            raise NetlinkError("the answer ends within a header")
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            raise NetlinkError(f"a message of {length} bytes, of which {len(data) - at} came")
        body = memoryview(data)[at + _HEADER.size : at + length]
        if kind == _ERROR:
            _refused(body)
        elif kind == _NEWLINK:
            found.append(_link(body))
        elif kind == _DONE:
            break
        at += length + 3 & ~3
    return found


def _refused(body: memoryview) -> None:
    if len(body) < 4:
        raise NetlinkError("a refusal without a number")
    (number,) = struct.unpack_from("=i", body)
    if number:
        raise OSError(-number, f"the kernel refuses to tell of an interface ({-number})")


def _link(body: memoryview) -> Link:
    if len(body) < _LINK.size:
        raise NetlinkError("a message without an interface")
    _, _, index, flags, _ = _LINK.unpack_from(body)
    parts = _Parts(body[_LINK.size :])
    count = parts.integer(_VF_COUNT)
    counters = parts.get(_COUNTERS)
    carrier = parts.get(_CARRIER)
    up = None if carrier is None or not flags & 1 else bool(carrier[0])
    return Link(
        index=index,
        name=parts.text(_NAME),
        mac=_mac(parts.get(_ADDRESS)),
        permanent_mac=_mac(parts.get(_PERMANENT)),
        mtu_bytes=parts.integer(_MTU),
        running=bool(flags & _RUNNING),
        up=up,
        carrier_ups=parts.integer(_CARRIER_UPS),
        carrier_downs=parts.integer(_CARRIER_DOWNS),
        switch_id=bytes(parts.get(_SWITCH_ID) or b"").hex(),
        port_name=parts.text(_PORT_NAME),
        counters=None if counters is None else _interface_counters(counters),
        vf_count=count,
        vfs=tuple(_functions(parts.wrapped)) if count else (),
    )


class _Parts:
    """The attributes of an interface by type, the first of each."""

    def __init__(self, data: memoryview) -> None:
        self._found: dict[int, memoryview] = {}
        self.wrapped: list[memoryview] = []
        """The virtual functions, one by one."""
        at = 0
        while at + 4 <= len(data):
            length, kind = _ATTRIBUTE.unpack_from(data, at)
            kind &= _TYPE
            if length < 4 or at + length > len(data):
                raise NetlinkError(f"attribute {kind} has {length} bytes of {len(data) - at}")
            if kind == _VF_LIST:
                self.wrapped, length = _listed(data[at:], self.integer(_VF_COUNT) or 0, length)
            else:
                self._found.setdefault(kind, data[at + 4 : at + length])
            at += length + 3 & ~3

    def get(self, kind: int) -> memoryview | None:
        """Give an attribute's content; None for one without any."""
        return self._found.get(kind) or None

    def integer(self, kind: int) -> int | None:
        """Give a number of 32 bits."""
        value = self._found.get(kind)
        return None if value is None or len(value) < 4 else int(_INTEGER.unpack_from(value)[0])

    def text(self, kind: int) -> str:
        """Give words; "" for none."""
        return bytes(self._found.get(kind, b"")).partition(b"\0")[0].decode("utf-8", "replace")


def _listed(data: memoryview, count: int, length: int) -> tuple[list[memoryview], int]:
    """Give the functions of a list of `count`, and the list's true length.

    The length is written in 16 bits, and the list is longer from 200 functions on: then what is written is the rest,
    and the functions are counted instead. Raises NetlinkError when the two do not agree.
    """
    found: list[memoryview] = []
    at = 4
    while len(found) < count and at + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if kind & _TYPE != 1 or size < 4 or at + size > len(data):
            break
        found.append(data[at + 4 : at + size])
        at += size + 3 & ~3
        if at % _WRAP == length and len(found) == count:
            return found, at
    if at == length or not count:
        return found, length
    raise NetlinkError(f"a list of {count} functions, of which {len(found)} can be read")


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Give types and contents of attributes that follow each other. Raises NetlinkError when one is longer than all."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            raise NetlinkError("an attribute is longer than what it is in")
        yield kind & _TYPE, data[at + 4 : at + length]
        at += length + 3 & ~3


_FLAGS: Final = {4: "spoof_check", 7: "rss_query", 9: "trust"}
_LINK_STATES: Final = {0: "auto", 1: "enable", 2: "disable"}
_PROTOCOLS: Final = {0x8100: "802.1q", 0x88A8: "802.1ad"}
_UNTOLD: Final = 0xFFFFFFFF
"""What the kernel fills in before it asks the driver."""


def _functions(entries: list[memoryview]) -> Iterator[VirtualFunction]:
    """Read functions. All but the counters of each is mostly as at the look before, and then it is not read again."""
    at = -1
    for entry in entries:
        function = _as_before(entry, at)
        if function is None:
            function, at = _function(entry), _counters_at(entry)
        if function is not None:
            yield function


def _as_before(entry: memoryview, at: int) -> VirtualFunction | None:
    """Give a function whose counters are at `at`, as in the entry before it; None when they are not, or not alone."""
    if not 0 <= at <= len(entry) - 4:
        return None
    length, kind = _ATTRIBUTE.unpack_from(entry, at)
    if kind & _TYPE != _VF_STATS or length < 4 or at + length > len(entry):
        return None
    lasting = _lasting(bytes(entry[:at]), bytes(entry[at + (length + 3 & ~3) :]))
    if lasting is None:
        return None
    return msgspec.structs.replace(lasting, counters=_function_counters(entry[at + 4 : at + length]))


@lru_cache(_MOST_KEPT)
def _lasting(before: bytes, after: bytes) -> VirtualFunction | None:
    """Give a function by what is before and after its counters; None when that is not so, or tells of no function."""
    facts: dict[str, object] = {}
    try:
        _read(facts, memoryview(before))
        _read(facts, memoryview(after))
    except NetlinkError:
        return None
    if "index" not in facts or "counters" in facts:
        return None
    return VirtualFunction(**facts)  # type: ignore[arg-type]  # each set beside its own type


def _function(entry: memoryview) -> VirtualFunction | None:
    facts: dict[str, object] = {}
    _read(facts, entry)
    return VirtualFunction(**facts) if "index" in facts else None  # type: ignore[arg-type]  # as above


def _counters_at(entry: memoryview) -> int:
    """Give where the first counters of an entry that was read are; -1 when it has none."""
    at = 0
    while at + 4 <= len(entry):
        length, kind = _ATTRIBUTE.unpack_from(entry, at)
        if kind & _TYPE == _VF_STATS:
            return at
        at += length + 3 & ~3
    return -1


def _read(facts: dict[str, object], entry: memoryview) -> None:
    for kind, value in attributes(entry):
        if kind == _VF_STATS:
            facts["counters"] = _function_counters(value)
        elif kind == 12:
            _vlan(facts, value)
        elif len(value) >= 8:
            _fact(facts, kind, value)


def _fact(facts: dict[str, object], kind: int, value: memoryview) -> None:
    index, number = struct.unpack_from("=II", value)
    if kind == 1:
        facts["index"] = index
        mac = bytes(value[4:10])
        facts["mac"] = _mac(mac) if len(mac) == 6 and any(mac) else ""
    elif kind == 2 and len(value) >= 12:
        facts["vlan"], facts["vlan_qos"] = number, int(_INTEGER.unpack_from(value, 8)[0])
    elif kind in _FLAGS:
        facts[_FLAGS[kind]] = None if number == _UNTOLD else bool(number)
    elif kind == 5:
        facts["link_state"] = _LINK_STATES.get(number, "")
    elif kind == 6 and len(value) >= 12:
        facts["min_rate_mbps"], facts["max_rate_mbps"] = number, int(_INTEGER.unpack_from(value, 8)[0])
    elif kind in (10, 11) and len(value) >= 16:
        (guid,) = _LONG.unpack_from(value, 8)
        facts["node_guid" if kind == 10 else "port_guid"] = f"{guid:016x}" if guid else ""


def _vlan(facts: dict[str, object], value: memoryview) -> None:
    """Read the first of a function's VLANs, the outer one; only here its protocol is told."""
    for kind, one in attributes(value):
        if kind == 1 and len(one) >= 14:
            _, _, _, protocol = _VLAN.unpack_from(one)
            facts["vlan_protocol"] = _PROTOCOLS.get(socket.ntohs(protocol), "")
            return


_COUNTED: Final = {
    0: "receive_packets",
    1: "transmit_packets",
    2: "receive_bytes",
    3: "transmit_bytes",
    4: "receive_broadcast",
    5: "receive_multicast",
    7: "receive_dropped",
    8: "transmit_dropped",
}


_ALL_COUNTED: Final = struct.Struct(f"={'HHQ' * len(_COUNTED)}")


def _function_counters(data: memoryview) -> Counters:
    if len(data) == _ALL_COUNTED.size:
        parts = _ALL_COUNTED.unpack(data)
        if parts[0::3] == (12,) * len(_COUNTED) and parts[1::3] == tuple(_COUNTED):  # nearly always
            return Counters(*parts[2::3])
    return Counters(
        **{
            _COUNTED[kind]: _LONG.unpack_from(value)[0]
            for kind, value in attributes(data)
            if kind in _COUNTED and len(value) >= 8
        }
    )


def _interface_counters(data: memoryview) -> Counters | None:
    """Read `struct rtnl_link_stats64`: packets, bytes, errors and drops, received and sent."""
    if len(data) < 72:
        return None
    receive, transmit, received, sent, _, _, lost, unsent, multicast = struct.unpack_from("=9Q", data)
    return Counters(receive, transmit, received, sent, None, multicast, lost, unsent)


def _mac(data: memoryview | bytes | None) -> str:
    """Give an address as people write it; "" for none, and for one of all zeros."""
    return bytes(data).hex(":") if data and any(data) else ""


class Rtnetlink:
    """An open socket to the kernel, for questions about one interface each. Any user may ask."""

    def __init__(self) -> None:
        """Open. Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(5.0)
        except OSError:
            self._socket.close()
            raise

    def ask(self, index: int, mask: int) -> bytes:
        """Give the kernel's answer for an interface. Raises OSError: ENODEV when there is none."""
        self._sequence += 1
        self._socket.send(request(index, mask, self._sequence))
        for _ in range(_ATTEMPTS):  # the answer to a question that timed out may still come
            size = self._socket.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)
            data = self._socket.recv(min(size, _MOST_BYTES))
            if len(data) >= _HEADER.size and _HEADER.unpack_from(data)[3] == self._sequence:
                return data
        raise TimeoutError("the kernel answers other questions than this one")

    def close(self) -> None:
        """Close; safe twice."""
        self._socket.close()


def too_long(error: Exception) -> bool:
    """Whether the answer did not fit: then the same is asked for without counters."""
    return isinstance(error, NetlinkError) or (isinstance(error, OSError) and error.errno == _EMSGSIZE)

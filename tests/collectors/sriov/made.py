"""Answers of the kernel and machines made piece by piece: for what no recorded one has."""

import struct
from pathlib import Path

from collectors.sriov.ethtool import FEATURES, STATISTICS
from collectors.sriov.netlink import WITH_VFS, WITHOUT_COUNTERS
from tests.collectors.pci.made import function, link, write

PORT, OTHER = "0000:3b:00.0", "0000:3b:00.1"
UNTOLD = 0xFFFFFFFF


def attribute(kind: int, content: bytes) -> bytes:
    """Give an attribute; its length is written as the kernel does, in 16 bits, whatever it is."""
    data = struct.pack("=HH", (len(content) + 4) & 0xFFFF, kind) + content
    return data + bytes(-len(data) % 4)


def nested(kind: int, content: bytes) -> bytes:
    """Give an attribute of attributes."""
    return attribute(kind, content)


def mac_bytes(text: str) -> bytes:
    """Give the six bytes of an address."""
    return bytes.fromhex(text.replace(":", ""))


def vf_entry(
    index: int,
    *,
    mac: str = "00:00:00:00:00:00",
    vlan: int = 0,
    qos: int = 0,
    protocol: int = 0x8100,
    rates: tuple[int, int] = (0, 0),
    spoof: int = 1,
    trust: int = 0,
    state: int = 0,
    counts: tuple[int, ...] | None = (0,) * 8,
) -> bytes:
    """Give what a port says of a function. `counts`: packets, bytes, broadcast, multicast, drops as in `if_link.h`."""
    parts = [
        attribute(1, struct.pack("=I32s", index, mac_bytes(mac))),
        attribute(13, bytes(32)),
        attribute(2, struct.pack("=III", index, vlan, qos)),
        attribute(6, struct.pack("=III", index, *rates)),
        attribute(3, struct.pack("=II", index, rates[1])),
        attribute(4, struct.pack("=II", index, spoof)),
        attribute(5, struct.pack("=II", index, state)),
        attribute(7, struct.pack("=II", index, UNTOLD)),
        attribute(9, struct.pack("=II", index, trust)),
        nested(12, attribute(1, struct.pack("=III", index, vlan, qos) + struct.pack(">H", protocol))),
    ]
    if counts is not None:
        kinds = (0, 1, 2, 3, 4, 5, 7, 8)
        pairs = zip(kinds, counts, strict=True)
        parts.append(nested(8, b"".join(attribute(kind, struct.pack("=Q", count)) for kind, count in pairs)))
    return nested(1, b"".join(parts))


def answer(
    index: int,
    name: str = "ens1f0",
    *,
    mac: str = "b8:3f:d2:9e:41:6c",
    permanent: str = "",
    carrier: int = 1,
    downs: int = 2,
    counts: tuple[int, ...] = (10, 20, 1000, 2000, 0, 0, 3, 4, 5),
    vfs: list[bytes] | None = None,
    after: bytes = b"",
) -> bytes:
    """Give what the kernel answers of an interface. `counts`: the first nine of `rtnl_link_stats64`."""
    body = struct.pack("=BxHiII", 0, 1, index, 0x1 | 0x40, 0)
    parts = [
        attribute(3, name.encode() + b"\0"),
        attribute(4, struct.pack("=I", 1500)),
        attribute(1, mac_bytes(mac)),
        attribute(33, bytes([carrier])),
        attribute(47, struct.pack("=I", downs + 1)),
        attribute(48, struct.pack("=I", downs)),
        attribute(23, struct.pack("=9Q", *counts) + bytes(8 * 15)),
    ]
    if permanent:
        parts.append(attribute(54, mac_bytes(permanent)))
    if vfs is not None:
        parts += [attribute(21, struct.pack("=I", len(vfs))), nested(22, b"".join(vfs))]
    data = body + b"".join(parts) + after
    return struct.pack("=IHHII", 16 + len(data), 16, 0, 7, 0) + data


def refusal(number: int) -> bytes:
    """Give what the kernel answers when it refuses."""
    return struct.pack("=IHHIIi16x", 36, 2, 0, 7, 0, -number)


class Answers:
    """A kernel that answers as it is told."""

    def __init__(self) -> None:
        self.links: dict[int, bytes] = {}
        self.without_counters: dict[int, bytes] = {}
        """What is answered when no counters are asked for; the same, when there is nothing here."""
        self.counters: dict[str, dict[str, int]] = {}
        self.features: dict[str, dict[str, tuple[bool, bool]]] = {}
        """By interface and name: whether it is active, whether it can be switched."""
        self.firmware: dict[str, str] = {}
        self.cards: dict[tuple[int, tuple[str, str] | None], bytes] = {}
        """What devlink answers, by command and by whom it is asked of."""
        self.asked: list[tuple[int, int]] = []
        self.closed = 0

    def link(self, index: int, mask: int) -> bytes:
        """Answer."""
        self.asked.append((index, mask))
        if index not in self.links:
            raise OSError(19, "No such device")
        if mask & WITH_VFS and mask & WITHOUT_COUNTERS and index in self.without_counters:
            return self.without_counters[index]
        return self.links[index]

    def driver(self, interface: str, question: bytes, room: int) -> bytes:
        """Answer."""
        (command,) = struct.unpack_from("=I", question)
        if command == 0x03:
            return struct.pack(
                "=I32s32s32s", command, b"mlx5_core", b"6.12", self.firmware.get(interface, "N/A").encode()
            ).ljust(room, b"\0")
        names = self._names(interface, command, question)
        if command == 0x37:
            (mask,) = struct.unpack_from("=Q", question, 8)
            return struct.pack("=IIQI", command, 0, mask, len(names)).ljust(room, b"\0")
        if command == 0x1B:
            return (question + b"".join(name.encode().ljust(32, b"\0") for name in names)).ljust(room, b"\0")
        if command == 0x1D:
            values = list(self.counters[interface].values())
            return (struct.pack("=II", command, len(values)) + struct.pack(f"={len(values)}Q", *values)).ljust(
                room, b"\0"
            )
        return self._features(interface, question).ljust(room, b"\0")

    def devlink(self, command: int, handle: tuple[str, str] | None) -> bytes:
        """Answer."""
        if (command, handle) not in self.cards:
            raise OSError(95, "Operation not supported")
        return self.cards[command, handle]

    def _names(self, interface: str, command: int, question: bytes) -> list[str]:
        if command == 0x37:
            (mask,) = struct.unpack_from("=Q", question, 8)
            kind = STATISTICS if mask == 1 << STATISTICS else FEATURES
        elif command == 0x1B:
            kind = struct.unpack_from("=I", question, 4)[0]
        else:
            return []
        found = self.counters if kind == STATISTICS else self.features
        if interface not in found:
            raise OSError(95, "Operation not supported")
        return list(found[interface])

    def _features(self, interface: str, question: bytes) -> bytes:
        _, words = struct.unpack_from("=II", question)
        available, active = [0] * words, [0] * words
        for at, (on, can) in enumerate(self.features[interface].values()):
            active[at // 32] |= on << at % 32
            available[at // 32] |= can << at % 32
        return question[:8] + b"".join(struct.pack("=4I", available[at], 0, active[at], 0) for at in range(words))

    def close(self) -> None:
        """Count."""
        self.closed += 1


def port(root: Path, address: str = PORT, *, driver: str = "mlx5_core", total: int = 8, group: int | None = 10) -> Path:
    """Make a port with room for functions."""
    files = {"sriov_totalvfs": f"{total}\n", "sriov_numvfs": "0\n"} if total else {}
    return function(
        root, f"pci0000:3a/0000:3a:00.0/{address}", "15b3:101d", "020000", driver=driver, group=group, files=files
    )


def interface(
    root: Path, address: str, name: str, index: int, *, port_name: str = "", switch: str = "", speed: str = ""
) -> None:
    """Give a function a network interface."""
    where = (root / "sys/bus/pci/devices" / address).resolve().relative_to((root / "sys").resolve())
    folder = f"sys/{where}/net/{name}"
    write(root, f"{folder}/ifindex", f"{index}\n")
    for file, text in (("phys_port_name", port_name), ("phys_switch_id", switch), ("speed", speed)):
        if text:
            write(root, f"{folder}/{file}", f"{text}\n")
    if speed:
        write(root, f"{folder}/duplex", "full\n")
    link(root, f"sys/class/net/{name}", f"../../{folder.removeprefix('sys/')}")


def vf(
    root: Path, parent: str, index: int, address: str, *, driver: str = "mlx5_core", group: int | None = None
) -> Path:
    """Make a virtual function of a port."""
    where = (root / "sys/bus/pci/devices" / parent).resolve().relative_to((root / "sys/devices").resolve())
    folder = function(
        root,
        f"{where.parent}/{address}",
        "15b3:101e",
        "020000",
        driver=driver,
        group=20 + index if group is None else group,
    )
    link(root, f"sys/bus/pci/devices/{address}/physfn", f"../{parent}")
    link(root, f"sys/bus/pci/devices/{parent}/virtfn{index}", f"../{address}")
    made = root / "sys/bus/pci/devices" / parent / "sriov_numvfs"
    made.write_text(f"{int(made.read_text()) + 1}\n")
    return folder

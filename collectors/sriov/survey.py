"""One look at all network functions: what `/sys` shows, and what the kernel says of each port; and what changed."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from collectors.sriov.devlink import PCI, Reporter, read_health
from collectors.sriov.documents import Namer
from collectors.sriov.health import health_changes
from collectors.sriov.kernel import Kernel, read_link
from collectors.sriov.netlink import Link, NetlinkError, VirtualFunction
from collectors.sriov.sysfs import Port, VirtualPort, read_ports
from schemas.rows import Event, FieldValue, Severity

_WORDS: Final = (
    *("mac", "vlan", "vlan_qos", "vlan_protocol", "min_rate_mbps", "max_rate_mbps"),
    *("spoof_check", "trust", "rss_query", "link_state", "node_guid", "port_guid"),
)
_NAMES: Final = {
    "min_rate_mbps": "min_rate_bytes_per_second",
    "max_rate_mbps": "max_rate_bytes_per_second",
}
_MBIT_BYTES: Final = 125_000
_MOST_ALIKE: Final = 8
"""So many functions of a port whose same word changed in one look are told one by one."""


class Survey(msgspec.Struct, frozen=True):
    """What there is."""

    ports: tuple[Port, ...] = ()
    links: dict[str, Link] = {}
    """What the kernel says, by address of the port; none for a port without an interface, or that cannot be asked."""
    macs: dict[tuple[str, int], str] = {}
    """MAC addresses of ports, by address and inode: the last that each told: without driver it keeps its name."""
    health: dict[str, tuple[Reporter, ...]] = {}
    """What watches the health of each card, by PCI address of the function whose driver tells of it."""

    def namer(self) -> Namer:
        """Give what names the devices."""
        return Namer(self.ports, self.macs)

    def devices(self) -> dict[str, str]:
        """Give the names of all ports and virtual functions, by address."""
        namer = self.namer()
        found = {port.address: namer.port(port) for port in self.ports}
        return found | {address: name for port in self.ports for address, name in namer.vfs(port).items()}

    def interfaces(self) -> dict[str, str]:
        """Give the names of all ports and virtual functions that have an interface, by that."""
        devices = self.devices()
        functions: list[Port | VirtualPort] = [*self.ports, *(vf for port in self.ports for vf in port.vfs)]
        return {one.interface.name: devices[one.address] for one in functions if one.interface is not None}

    def mac(self, port: Port) -> str:
        """Give the MAC address that a port was made with; "" when it never told one."""
        return self.macs.get((port.address, port.inode), "")

    def told(self, port: Port) -> dict[int, VirtualFunction]:
        """Give what a port says of its functions, by index."""
        link = self.links.get(port.address)
        return {one.index: one for one in link.vfs} if link else {}


_NOTHING: Final = Survey()


def survey(root: Path, kernel: Kernel, before: Survey = _NOTHING) -> Survey:
    """Look. Raises nothing: what cannot be asked has no link. `before`: the last look."""
    ports = tuple(read_ports(root))
    links = {}
    for port in ports:
        if port.interface is not None:
            try:
                links[port.address] = read_link(kernel, port.interface.index, vfs=bool(port.vfs), counters=False)
            except (OSError, NetlinkError):
                continue
    macs = {}
    for port in ports:
        key, link = (port.address, port.inode), links.get(port.address)
        macs[key] = (link.permanent_mac or link.mac if link else "") or before.macs.get(key, "")
    health = {address: several for (bus, address), several in read_health(kernel).items() if bus == PCI}
    return Survey(ports, links, macs, health)


def changes(before: Survey, after: Survey) -> Iterator[Event]:
    """Give what is other than before. What could not be asked, before or now, has not changed."""
    old, new = before.namer(), after.namer()
    were = {port.address: port for port in before.ports}
    are = {port.address: port for port in after.ports}
    for address, port in were.items():
        if address not in are or are[address].inode != port.inode:
            yield _port(port, old.port(port), "gone")
    for address, port in are.items():
        last = were.get(address)
        if last is None or last.inode != port.inode:
            yield _port(port, new.port(port), "new")
        else:
            yield from _of_port(before, after, last, port, new)
    yield from health_changes(before.health, after.health, after.devices())


def _port(port: Port, device: str, what: str) -> Event:
    name = port.interface.name if port.interface else ""
    text = f"network port {port.address}{f' ({name})' if name else ''} "
    detail: dict[str, FieldValue] = {"address": port.address}
    if name:
        detail["interface"] = name
    if what == "gone":
        return Event("sriov.port.gone", text + "is gone", Severity.WARNING, device, detail)
    return Event("sriov.port.new", text + "appeared", Severity.NOTICE, device, detail)


def _of_port(before: Survey, after: Survey, last: Port, port: Port, namer: Namer) -> Iterator[Event]:
    device = namer.port(port)
    if {(vf.address, vf.inode) for vf in last.vfs} != {(vf.address, vf.inode) for vf in port.vfs}:
        detail: dict[str, FieldValue] = {"address": port.address, "before": len(last.vfs), "after": len(port.vfs)}
        text = f"{port.address} has {len(port.vfs)} virtual functions, after {len(last.vfs)}"
        if len(port.vfs) == len(last.vfs):
            text = f"the {len(port.vfs)} virtual functions of {port.address} were made anew"
        yield Event("sriov.functions", text, Severity.NOTICE, device, detail)
    yield from _changed(device, port.address, "interface", _name(last), _name(port))
    one, two = before.links.get(port.address), after.links.get(port.address)
    if one and two:
        yield from _changed(device, port.address, "mac", one.mac, two.mac)
        yield from _changed(device, port.address, "mtu_bytes", one.mtu_bytes, two.mtu_bytes)
    yield from _folded(port, device, list(_of_functions(before, after, last, port, namer)))


def _of_functions(before: Survey, after: Survey, last: Port, port: Port, namer: Namer) -> Iterator[Event]:
    was, now = before.told(last), after.told(port)
    there = {(vf.address, vf.inode): vf for vf in last.vfs}
    for vf in port.vfs:
        old = there.get((vf.address, vf.inode))
        if old is None:
            continue
        name = namer.vf(port, vf)
        yield from _changed(name, vf.address, "interface", _name(old), _name(vf))
        if vf.index in was and vf.index in now:
            for word in _WORDS:
                yield from _changed(name, vf.address, word, getattr(was[vf.index], word), getattr(now[vf.index], word))


def _folded(port: Port, device: str, events: list[Event]) -> Iterator[Event]:
    """Give events of functions; one for all of whatever has changed of many: a script that sets 256 is one thing."""
    often = Counter(str(event.detail["what"]) for event in events)
    yield from (event for event in events if often[str(event.detail["what"])] <= _MOST_ALIKE)
    for word, count in sorted(often.items()):
        if count > _MOST_ALIKE:
            detail: dict[str, FieldValue] = {"address": port.address, "what": word, "functions": count}
            text = f"{word} of {count} virtual functions of {port.address} is another"
            yield Event("sriov.changed", text, Severity.NOTICE, device, detail)


def _name(port: Port | VirtualPort) -> str:
    return port.interface.name if port.interface else ""


def _changed(device: str, address: str, word: str, before: FieldValue, after: FieldValue) -> Iterator[Event]:
    if before == after:
        return
    if word in _NAMES:
        word = _NAMES[word]
        before, after = (value * _MBIT_BYTES if isinstance(value, int) else value for value in (before, after))
    detail: dict[str, FieldValue] = {"address": address, "what": word, "before": _word(before), "after": _word(after)}
    text = f"{address} {word}: {_word(before) or 'none'} is now {_word(after) or 'none'}"
    yield Event("sriov.changed", text, Severity.NOTICE, device, detail)


def _word(value: FieldValue) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

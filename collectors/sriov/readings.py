"""Rows of network functions: one for each port, one for each of its virtual functions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from collectors.sriov.drivers import Trust
from collectors.sriov.ethtool import STATISTICS
from collectors.sriov.kernel import Kernel, read_count, read_link, read_names, read_values
from collectors.sriov.netlink import Counters, Link, NetlinkError, VirtualFunction
from collectors.sriov.sysfs import Interface, Port, VirtualPort, duplex, link_rate
from schemas.rows import FieldValue, Reading
from schemas.verbosity import Level

_WIRE: Final = {
    "link_downs_total": ("link_down_events_phy",),
    "receive_bytes_total": ("rx_bytes_phy", "rx_bytes.nic", "port.rx_bytes", "rx_bytes_nic", "port_rx_bytes"),
    "transmit_bytes_total": ("tx_bytes_phy", "tx_bytes.nic", "port.tx_bytes", "tx_bytes_nic", "port_tx_bytes"),
    "receive_packets_total": ("rx_packets_phy", "rx_pkts_nic", "port_rx_packets"),
    "transmit_packets_total": ("tx_packets_phy", "tx_pkts_nic", "port_tx_packets"),
    "receive_dropped_total": ("rx_discards_phy", "rx_dropped.nic", "port.rx_dropped"),
    "symbol_errors_total": ("rx_symbol_err_phy", "rx_pcs_symbol_err_phy"),
}
"""What counts at the wire, by the names that mlx5, ice, i40e, ixgbe and sfc give it."""
VF_COUNTERS: Final = tuple(
    f"{way}_{what}_total"
    for way, all_of in (
        ("receive", ("bytes", "packets", "multicast", "broadcast", "dropped")),
        ("transmit", ("bytes", "packets", "dropped")),
    )
    for what in all_of
)
"""Fields of a virtual function's row that are counted."""
_SWAPPED: Final = ("bytes", "packets")
"""What a representor tells: what it receives its function has sent."""


class Readings:
    """Reads ports. What asks the driver under the lock of all interfaces is read less often."""

    def __init__(self, root: Path, kernel: Kernel, trust: Trust) -> None:
        self._root = root
        self._kernel = kernel
        self._trust = trust
        self._names: dict[str, list[str]] = {}
        self._lasting: dict[str, dict[str, FieldValue]] = {}
        self.failed: dict[str, str] = {}
        """Why ports could not be read the last time, by address."""

    def forget(self) -> None:
        """Read everything anew at the next look: interfaces came or went."""
        self._names.clear()
        self._lasting.clear()

    def symbol_errors(self, port: Port) -> bool:
        """Whether the port's driver counts errors of the wire."""
        return port.interface is not None and self._place(port.interface.name, "symbol_errors_total") is not None

    def read(self, port: Port, device: str, devices: dict[str, str], level: Level, *, slow: bool) -> Iterator[Reading]:
        """Give the rows of a port. `devices`: the names of its functions by address. `slow`: ask for what lasts too."""
        self.failed.pop(port.address, None)
        link = self._link(port, level)
        fields: dict[str, FieldValue] = {"vfs": len(port.vfs) if port.total_vfs else None}
        if link is not None and port.interface is not None:
            fields |= self._port(port.interface.name, link, slow=slow)
        yield Reading("nic", fields, device)
        if level >= Level.STANDARD:
            known = {one.index: one for one in link.vfs} if link else {}
            for vf in port.vfs:
                row = self._vf(port, vf, known.get(vf.index), link)
                if any(value is not None for value in row.values()):
                    yield Reading("vf", row, devices[vf.address])

    def _link(self, port: Port, level: Level) -> Link | None:
        if port.interface is None:
            return None
        vfs = bool(port.vfs) and level >= Level.STANDARD
        name = f"{port.interface.name} ({port.address})"
        try:
            link = read_link(self._kernel, port.interface.index, vfs=vfs)
        except (OSError, NetlinkError) as error:
            self.failed[port.address] = f"{name}: {error}"
            return None
        if vfs and any(one.counters is None for one in link.vfs) and self._trust.counts(port.driver):
            self.failed[port.address] = f"{name}: the counters of {len(link.vfs)} functions do not fit into one answer"
        return link

    def _port(self, name: str, link: Link, *, slow: bool) -> dict[str, FieldValue]:
        counters = link.counters or Counters()
        fields: dict[str, FieldValue] = {
            "link_up": link.up,
            "link_downs_total": link.carrier_downs,
            "receive_bytes_total": counters.receive_bytes,
            "transmit_bytes_total": counters.transmit_bytes,
            "receive_packets_total": counters.receive_packets,
            "transmit_packets_total": counters.transmit_packets,
            "receive_dropped_total": counters.receive_dropped,
            "transmit_dropped_total": counters.transmit_dropped,
        }
        fields |= self._wire(name)
        known = self._lasting.get(name)
        if slow or known is None or known.get("link_up") != link.up:
            both = duplex(self._root, name)
            known = {
                "link_up": link.up,
                "link_rate_bytes_per_second": link_rate(self._root, name),
                "full_duplex": None if both is None else both == "full",
            }
            self._lasting[name] = known
        return fields | known

    def _wire(self, name: str) -> dict[str, FieldValue]:
        """Give what the driver counts at the wire."""
        places = {field: self._place(name, field) for field in _WIRE}
        if all(place is None for place in places.values()):
            return {}
        count = read_count(self._kernel, name, STATISTICS)
        if count != len(self._names[name]):  # a queue was added: all names have moved
            self._names.pop(name)
            return self._wire(name) if count else {}
        values = read_values(self._kernel, name, count)
        return {field: values[place] for field, place in places.items() if place is not None and place < len(values)}

    def _place(self, name: str, field: str) -> int | None:
        if name not in self._names:
            self._names[name] = read_names(self._kernel, name, STATISTICS)
        names = self._names[name]
        return next((names.index(word) for word in _WIRE[field] if word in names), None)

    def _vf(
        self, port: Port, vf: VirtualPort, told: VirtualFunction | None, link: Link | None
    ) -> dict[str, FieldValue]:
        fields: dict[str, FieldValue] = {}
        if told is not None:
            up = {"enable": True, "disable": False}.get(told.link_state)
            fields["vlan"] = told.vlan
            fields["link_up"] = link.up if told.link_state == "auto" and link else up
        counters = self._trust.believed(port.driver, (vf.address, vf.inode), told.counters if told else None)
        if counters is not None:
            return fields | {name: getattr(counters, name.removesuffix("_total")) for name in VF_COUNTERS}
        if self._trust.counts(port.driver):
            return fields
        return fields | self._beside(vf)

    def _beside(self, vf: VirtualPort) -> dict[str, FieldValue]:
        """Count by what stands for the function, or by its own interface, where its port does not count."""
        if vf.representor is not None:
            counters = self._counters(vf.representor) or Counters()
            return {
                f"{way}_{what}_total": getattr(counters, f"{other}_{what}")
                for way, other in (("receive", "transmit"), ("transmit", "receive"))
                for what in _SWAPPED
            }
        if vf.interface is not None:
            counters = self._counters(vf.interface) or Counters()
            return {name: getattr(counters, name.removesuffix("_total")) for name in VF_COUNTERS}
        return {}

    def _counters(self, interface: Interface) -> Counters | None:
        try:
            return read_link(self._kernel, interface.index, vfs=False).counters
        except (OSError, NetlinkError):
            return None

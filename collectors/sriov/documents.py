"""Network functions become capability documents, merged with those of the PCI bus by address."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from collectors.sriov.ethtool import Driver, Feature
from collectors.sriov.netlink import Link, VirtualFunction
from collectors.sriov.readings import VF_COUNTERS
from collectors.sriov.sysfs import Port, VirtualPort
from schemas.device import DeviceKind, Document, Part, Slot, Value

_MBIT_BYTES: Final = 125_000
_PLACEHOLDERS: Final = frozenset({"", "N/A", "n/a", "0.0.0", "unknown"})
_OFFLOADS: Final = (
    ("segmentation", ("tx-tcp-segmentation", "tx-tcp6-segmentation"), ("tx-generic-segmentation",)),
    ("udp-segmentation", ("tx-udp-segmentation",), ()),
    ("coalescing", ("rx-gro-hw", "rx-lro"), ("rx-gro",)),
    ("transmit-checksum", ("tx-checksum-ip-generic", "tx-checksum-ipv4"), ()),
    ("receive-checksum", ("rx-checksum",), ()),
    ("vlan", ("tx-vlan-hw-insert", "rx-vlan-hw-parse"), ()),
    ("tunnel-segmentation", ("tx-udp_tnl-segmentation", "tx-gre-segmentation"), ()),
    ("steering", ("rx-ntuple-filter",), ()),
    ("flows", ("hw-tc-offload",), ()),
    ("ipsec", ("esp-hw-offload",), ()),
    ("tls-transmit", ("tls-hw-tx-offload",), ()),
    ("tls-receive", ("tls-hw-rx-offload",), ()),
    ("macsec", ("macsec-hw-offload",), ()),
)
"""What is done, by which features of the card, and by which of the kernel in its place.

Source: net/ethtool/common.c, `netdev_features_strings`.
"""


class Namer:
    """Gives devices their names: a port by its own MAC address, unless it tells none or another tells the same."""

    def __init__(self, ports: Sequence[Port], macs: Mapping[tuple[str, int], str]) -> None:
        """Prepare. `macs`: what each port told, by address and inode."""
        own = {port.address: macs.get((port.address, port.inode), "") for port in ports}
        said = Counter(own.values())
        self.macs = {address: mac for address, mac in own.items() if mac and said[mac] == 1}
        """By address, the MAC addresses that are one port's alone."""
        self._ports = {port.address: f"nic:{self.macs.get(port.address, port.address)}" for port in ports}

    def port(self, port: Port) -> str:
        """Name a port."""
        return self._ports[port.address]

    def vf(self, port: Port, vf: VirtualPort) -> str:
        """Name a virtual function by its port and index, which outlive its making."""
        return f"vf:{self._ports[port.address].removeprefix('nic:')}/{vf.index}"

    def vfs(self, port: Port) -> dict[str, str]:
        """Name all functions of a port, by address."""
        return {vf.address: self.vf(port, vf) for vf in port.vfs}


def offloads(features: Iterable[Feature]) -> tuple[list[str], list[str]]:
    """Give what is done and where, and what the card could do and is off."""
    known = {feature.name: feature for feature in features}
    done, off = [], []
    for what, card, kernel in _OFFLOADS:
        there = [known[name] for name in card if name in known]
        if any(feature.active for feature in there):
            done.append(f"{what}=hardware")
            continue
        if any(name in known and known[name].active for name in kernel):
            done.append(f"{what}=software")
        if any(feature.available for feature in there):
            off.append(what)
    return done, off


def usable_as(*, has_group: bool, has_interface: bool) -> list[str]:
    """Give what a virtual machine can be given a function as (R000-5).

    `vfio` needs an IOMMU group. `vhost-user`: a switch in user space, which takes the function by vfio or its interface
    by AF_XDP. `virtio-net`: vhost on top of the host's interface. What the host's driver has a port of, it can have the
    functions of, whoever has them now.
    """
    found = ["vfio"] if has_group else []
    if has_group or has_interface:
        found.append("vhost-user")
    return [*found, "virtio-net"] if has_interface else found


def describe_port(
    port: Port, link: Link | None, namer: Namer, facts: dict[str, Value | None], driver: Driver, *, wire: bool
) -> Document:
    """Describe a port. `facts`: further words. `wire`: whether its driver counts errors of the wire."""
    mac = namer.macs.get(port.address)
    told: dict[str, Value | None] = {
        "interface": port.interface.name if port.interface else None,
        "mac": (link.mac or None) if link else None,
        "mtu_bytes": link.mtu_bytes if link else None,
        "link_up": link.up if link else None,
        "nic_firmware_version": None if driver.firmware in _PLACEHOLDERS else driver.firmware,
        "switch_id": (port.interface.switch_id or None) if port.interface else None,
        "usable_as": usable_as(has_group=port.has_group, has_interface=port.interface is not None),
        **facts,
    }
    return Document(
        namer.port(port),
        DeviceKind.NIC,
        merge_keys=[*([f"mac:{mac}"] if mac else []), f"pci:{port.address}"],
        slot=Slot(path=port.path, address=port.address),
        part=Part(),
        capabilities=_said(told),
        unsupported=[] if wire or port.interface is None else ["nic.symbol_errors_total"],
    )


def describe_vf(
    port: Port,
    vf: VirtualPort,
    told: VirtualFunction | None,
    namer: Namer,
    facts: dict[str, Value | None],
    *,
    counted: bool,
    own_mac: str = "",
) -> Document:
    """Describe a virtual function. `counted`: whether its port counts for it; `own_mac`: what its interface has."""
    words: dict[str, Value | None] = {
        "vf_index": vf.index,
        "interface": vf.interface.name if vf.interface else None,
        "usable_as": usable_as(has_group=vf.has_group, has_interface=port.interface is not None),
        **(_configured(told) if told else {}),
        **{name: value for name, value in facts.items() if value is not None},
    }
    if vf.representor is not None:
        words["representor"] = vf.representor.name
    if own_mac and own_mac != words.get("mac"):
        words["interface_mac"] = own_mac
    return Document(
        namer.vf(port, vf),
        DeviceKind.VF,
        merge_keys=[f"pci:{vf.address}"],
        parent=namer.port(port),
        slot=Slot(path=f"{port.path}/vf{vf.index}", address=vf.address),
        capabilities=_said(words),
        unsupported=sorted(_uncounted(vf, counted=counted)),
    )


def _configured(told: VirtualFunction) -> dict[str, Value | None]:
    return {
        "mac": told.mac or None,
        "vlan": told.vlan,
        "vlan_qos": told.vlan_qos if told.vlan else None,
        "vlan_protocol": (told.vlan_protocol or None) if told.vlan else None,
        "min_rate_bytes_per_second": (told.min_rate_mbps or 0) * _MBIT_BYTES or None,
        "max_rate_bytes_per_second": (told.max_rate_mbps or 0) * _MBIT_BYTES or None,
        "spoof_check": told.spoof_check,
        "trust": told.trust,
        "rss_query": told.rss_query,
        "link_state": told.link_state or None,
        "node_guid": told.node_guid or None,
        "port_guid": told.port_guid or None,
    }


def _uncounted(vf: VirtualPort, *, counted: bool) -> Iterable[str]:
    """Give the metrics that nobody can tell of the function, as it is bound now."""
    if counted or (vf.interface is not None and vf.representor is None):
        return ()
    if vf.representor is None:
        return (f"vf.{name}" for name in VF_COUNTERS)
    return (f"vf.{name}" for name in VF_COUNTERS if not name.endswith(("_bytes_total", "_packets_total")))


def _said(words: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in words.items() if value is not None and value != []}

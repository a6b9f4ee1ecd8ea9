"""What is measured of network devices and their virtual functions: the declarations that `sriov` and `simulated` share.

`nic` has one row for each physical function, `vf` one for each virtual function, as its physical function counts it.
Source: Linux `rtnetlink` (RTM_GETLINK, IFLA_STATS64, IFLA_VFINFO_LIST), ethtool statistics.
"""

from functools import partial
from typing import Final

from schemas.metrics import Category, Kind, MetricSpec, Unit, ValueType
from schemas.verbosity import Level

_metric = partial(
    MetricSpec,
    unit=Unit.COUNT,
    kind=Kind.GAUGE,
    type=ValueType.INT,
    level=Level.STANDARD,
    category=Category.USAGE,
)
_count = partial(_metric, kind=Kind.COUNTER)
_bytes = partial(_count, unit=Unit.BYTES)
_errors = partial(_count, category=Category.ERROR)
_flag = partial(_metric, unit=Unit.NONE, kind=Kind.STATE, type=ValueType.BOOL, category=Category.LOAD)

NIC_METRICS: Final[tuple[MetricSpec, ...]] = (
    _flag(
        name="nic.link_up",
        level=Level.ESSENTIAL,
        meaning="The port has a carrier.",
        source="/sys/class/net/*/carrier",
    ),
    _errors(
        name="nic.link_downs_total",
        level=Level.ESSENTIAL,
        meaning="Times that the port lost its carrier.",
        source="ethtool link_down_events_phy, else /sys/class/net/*/carrier_down_count",
    ),
    _bytes(
        name="nic.receive_bytes_total",
        meaning="Bytes that came in over the wire, for the host and all virtual functions.",
        source="ethtool rx_bytes_phy, else IFLA_STATS64",
    ),
    _bytes(
        name="nic.transmit_bytes_total",
        meaning="Bytes that went out over the wire, from the host and all virtual functions.",
        source="ethtool tx_bytes_phy, else IFLA_STATS64",
    ),
    _count(
        name="nic.receive_packets_total",
        meaning="Packets that came in over the wire.",
        source="ethtool rx_packets_phy, else IFLA_STATS64",
    ),
    _count(
        name="nic.transmit_packets_total",
        meaning="Packets that went out over the wire.",
        source="ethtool tx_packets_phy, else IFLA_STATS64",
    ),
    _errors(
        name="nic.receive_dropped_total",
        meaning="Packets dropped on the way in.",
        source="ethtool rx_discards_phy, else IFLA_STATS64",
    ),
    _errors(
        name="nic.symbol_errors_total",
        meaning="Errors of the physical layer: a bad cable or transceiver.",
        source="ethtool rx_symbol_err_phy",
    ),
    _metric(
        name="nic.link_rate_bytes_per_second",
        unit=Unit.BYTES_PER_SECOND,
        kind=Kind.STATE,
        meaning="Negotiated rate of the port; absent without carrier.",
        source="/sys/class/net/*/speed",
    ),
    _metric(
        name="nic.vfs",
        kind=Kind.STATE,
        level=Level.ESSENTIAL,
        meaning="Virtual functions that are there now.",
        source="/sys/bus/pci/devices/*/sriov_numvfs",
    ),
)
"""The columns of the measurement `nic`; the device is the physical function."""

PORT_METRICS: Final[tuple[MetricSpec, ...]] = (
    _errors(
        name="nic.transmit_dropped_total",
        meaning="Packets dropped on the way out.",
        source="IFLA_STATS64",
    ),
    _flag(
        name="nic.full_duplex",
        level=Level.DETAILED,
        meaning="Both directions at once; absent when the link does not tell.",
        source="/sys/class/net/*/duplex",
    ),
)
"""Further columns of the measurement `nic`, which no simulated port has."""

VF_METRICS: Final[tuple[MetricSpec, ...]] = (
    _bytes(
        name="vf.receive_bytes_total",
        meaning="Bytes that the function received; absent where nobody counts them.",
        source="IFLA_VF_STATS_RX_BYTES, else its representor or its own interface",
    ),
    _bytes(
        name="vf.transmit_bytes_total",
        meaning="Bytes that the function sent; absent where nobody counts them.",
        source="IFLA_VF_STATS_TX_BYTES, else its representor or its own interface",
    ),
    _count(
        name="vf.receive_packets_total",
        meaning="Packets that the function received; absent where nobody counts them.",
        source="IFLA_VF_STATS_RX_PACKETS, else its representor or its own interface",
    ),
    _count(
        name="vf.transmit_packets_total",
        meaning="Packets that the function sent; absent where nobody counts them.",
        source="IFLA_VF_STATS_TX_PACKETS, else its representor or its own interface",
    ),
    _count(
        name="vf.receive_multicast_total",
        meaning="Multicast packets that the function received.",
        source="IFLA_VF_STATS_MULTICAST",
    ),
    _count(
        name="vf.receive_broadcast_total",
        meaning="Broadcast packets that the function received.",
        source="IFLA_VF_STATS_BROADCAST",
    ),
    _errors(
        name="vf.receive_dropped_total",
        meaning="Packets dropped on their way to the function.",
        source="IFLA_VF_STATS_RX_DROPPED",
    ),
    _errors(
        name="vf.transmit_dropped_total",
        meaning="Packets of the function that were dropped, by the spoof check among others.",
        source="IFLA_VF_STATS_TX_DROPPED",
    ),
    _metric(
        name="vf.vlan",
        kind=Kind.STATE,
        meaning="VLAN that the function is bound to, 1 to 4094; 0 when it is bound to none.",
        source="IFLA_VF_VLAN",
    ),
    _flag(
        name="vf.link_up",
        meaning="The function has a link.",
        source="IFLA_VF_LINK_STATE, and the port's carrier when that is auto",
    ),
)
"""The columns of the measurement `vf`; the device is the virtual function."""

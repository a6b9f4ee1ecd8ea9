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

_health = partial(
    _errors, level=Level.STANDARD, attributes=("reporter",), source="devlink DEVLINK_CMD_HEALTH_REPORTER_GET"
)
HEALTH_METRICS: Final[tuple[MetricSpec, ...]] = (
    _health(
        name="nic_health.healthy",
        unit=Unit.NONE,
        kind=Kind.STATE,
        type=ValueType.BOOL,
        meaning="What the driver watches of the card (its firmware, its queues) is as it should be.",
    ),
    _health(name="nic_health.errors_total", meaning="Errors that were found."),
    _health(name="nic_health.recoveries_total", meaning="Times that the driver mended what it had found."),
)
"""The columns of `nic_health`: one row for each health reporter of a function, of the card (`fw`) or of one of its
ports (`tx/1`)."""

_rdma = partial(_count, attributes=("link",), source="/sys/class/infiniband/*/ports/*/counters")
_rdma_error = partial(_rdma, category=Category.ERROR)
_hw_error = partial(_rdma_error, source="/sys/class/infiniband/*/ports/*/hw_counters")
RDMA_METRICS: Final[tuple[MetricSpec, ...]] = (
    _flag(
        name="rdma.active",
        attributes=("link",),
        meaning="The link can carry traffic.",
        source="/sys/class/infiniband/*/ports/*/state",
    ),
    _metric(
        name="rdma.physical_state",
        unit=Unit.NONE,
        kind=Kind.STATE,
        type=ValueType.STR,
        attributes=("link",),
        meaning="State of the physical link: `LinkUp`, `Polling`, `Disabled`, `LinkErrorRecovery`.",
        source="/sys/class/infiniband/*/ports/*/phys_state",
    ),
    _metric(
        name="rdma.link_rate_bytes_per_second",
        unit=Unit.BYTES_PER_SECOND,
        kind=Kind.STATE,
        attributes=("link",),
        meaning="Rate of the link, one way; absent while it is not active.",
        source="/sys/class/infiniband/*/ports/*/rate",
    ),
    _rdma(name="rdma.receive_bytes_total", unit=Unit.BYTES, meaning="Bytes received, headers included."),
    _rdma(name="rdma.transmit_bytes_total", unit=Unit.BYTES, meaning="Bytes sent, headers included."),
    _rdma(name="rdma.receive_packets_total", meaning="Packets received."),
    _rdma(name="rdma.transmit_packets_total", meaning="Packets sent."),
    _rdma_error(name="rdma.receive_errors_total", meaning="Packets with an error received."),
    _rdma_error(
        name="rdma.transmit_dropped_total", meaning="Packets that were dropped because the port is down or congested."
    ),
    _rdma(
        name="rdma.transmit_waits_total",
        meaning="Ticks in which there was something to send and no room at the other end.",
    ),
    _rdma_error(name="rdma.symbol_errors_total", meaning="Minor errors of the physical link."),
    _rdma_error(name="rdma.integrity_errors_total", meaning="Times that errors of the link went beyond its threshold."),
    _rdma_error(name="rdma.link_downs_total", meaning="Times that the link went down."),
    _rdma_error(name="rdma.link_recoveries_total", meaning="Times that the link recovered from an error by itself."),
    _hw_error(name="rdma.out_of_sequence_total", meaning="Packets that came out of sequence."),
    _hw_error(name="rdma.sequence_errors_total", meaning="Times that the other end said that packets are missing."),
    _hw_error(name="rdma.timeouts_total", meaning="Times that no acknowledgement came in time."),
    _hw_error(name="rdma.retries_exceeded_total", meaning="Connections that were given up after all retries."),
    _hw_error(name="rdma.not_ready_total", meaning="Times that the other end was not ready to receive."),
    _hw_error(name="rdma.out_of_buffer_total", meaning="Packets dropped because nobody had posted a receive buffer."),
    _hw_error(name="rdma.duplicates_total", meaning="Requests that came twice."),
    _hw_error(name="rdma.send_errors_total", meaning="Packets that could not be sent."),
    _hw_error(name="rdma.congestion_sent_total", meaning="Notices of congestion that were sent to who sends too fast."),
    _hw_error(
        name="rdma.congestion_handled_total", meaning="Notices of congestion upon which this end sent more slowly."
    ),
    _hw_error(name="rdma.congestion_marked_total", meaning="Packets that came with a mark of congestion on their way."),
)
"""The columns of `rdma`: a row for each RDMA link of a function, `mlx5_0/1`; what a driver does not count is absent."""

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

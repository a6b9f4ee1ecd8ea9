"""RDMA links of network functions, as `/sys` shows them: state, rate, what the hardware counts. Anybody may read it.

A link belongs to the function that its device is on, and where that is none (RDMA in software) to the function whose
interface it is on. Drivers name what they count differently, and what one does not count is absent.
Source: Documentation/ABI/stable/sysfs-class-infiniband of Linux; hw_counters of mlx5, bnxt_re, irdma and rxe.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import link, names, read_integer, read_text
from collectors.pci_sysfs import addresses_in
from schemas.rows import FieldValue, Reading

CLASS: Final = "sys/class/infiniband"
_WORD_BYTES: Final = 4
"""What `port_rcv_data` and `port_xmit_data` count in."""
_GIGABIT_BYTES: Final = 125_000_000
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?) Gb/sec")
_UNTOLD: Final = frozenset({"<unknown>", "Unknown", ""})
COUNTED: Final[dict[str, tuple[str, ...]]] = {
    "receive_packets_total": ("counters/port_rcv_packets", "hw_counters/rcvd_pkts"),
    "transmit_packets_total": ("counters/port_xmit_packets", "hw_counters/sent_pkts"),
    "receive_errors_total": ("counters/port_rcv_errors",),
    "transmit_dropped_total": ("counters/port_xmit_discards",),
    "transmit_waits_total": ("counters/port_xmit_wait",),
    "symbol_errors_total": ("counters/symbol_error",),
    "integrity_errors_total": ("counters/local_link_integrity_errors",),
    "link_downs_total": ("counters/link_downed", "hw_counters/link_downed"),
    "link_recoveries_total": ("counters/link_error_recovery",),
    "out_of_sequence_total": ("hw_counters/out_of_sequence", "hw_counters/out_of_seq_request"),
    "sequence_errors_total": (
        "hw_counters/packet_seq_err",
        "hw_counters/seq_err_naks_rcvd",
        "hw_counters/rcvd_seq_err",
    ),
    "timeouts_total": ("hw_counters/local_ack_timeout_err", "hw_counters/to_retransmits"),
    "retries_exceeded_total": ("hw_counters/max_retry_exceeded", "hw_counters/retry_exceeded_err"),
    "not_ready_total": ("hw_counters/rnr_nak_retry_err", "hw_counters/rnr_naks_rcvd", "hw_counters/rcvd_rnr_err"),
    "out_of_buffer_total": ("hw_counters/out_of_buffer",),
    "duplicates_total": ("hw_counters/duplicate_request", "hw_counters/dup_req"),
    "send_errors_total": ("hw_counters/send_err",),
    "congestion_sent_total": ("hw_counters/np_cnp_sent", "hw_counters/tx_cnp", "hw_counters/cnpSent"),
    "congestion_handled_total": ("hw_counters/rp_cnp_handled", "hw_counters/rx_cnp", "hw_counters/cnpHandled"),
    "congestion_marked_total": ("hw_counters/np_ecn_marked_roce_packets", "hw_counters/RxECNMrkd"),
}
"""Fields of a row, each with the files that count it: the first that there is."""


class RdmaLink(msgspec.Struct, frozen=True):
    """One port of an RDMA device."""

    device: str
    """`mlx5_0`."""
    port: int
    folder: str
    address: str
    """PCI address of the function that it is on; "" for none."""
    interface: str
    """The network interface that it is on; "" when it is not told, as for InfiniBand."""
    layer: str
    """`Ethernet` (RoCE) or `InfiniBand`; "" when it is not told."""
    firmware: str = ""
    node_guid: str = ""

    @property
    def name(self) -> str:
        """Give its name, as `rdma link` gives it: `mlx5_0/1`."""
        return f"{self.device}/{self.port}"


def read_links(root: Path) -> list[RdmaLink]:
    """Give the links of all RDMA devices; [] without any."""
    found = []
    for device in names(root / CLASS):
        folder = f"{root}/{CLASS}/{device}"
        addresses = addresses_in(link(folder))
        firmware, guid = read_text(f"{folder}/fw_ver"), read_text(f"{folder}/node_guid").replace(":", "")
        for port in names(f"{folder}/ports"):
            place = f"{folder}/ports/{port}"
            if port.isdecimal():
                interface = read_text(f"{place}/gid_attrs/ndevs/0") or (
                    "" if addresses else read_text(f"{folder}/parent")
                )
                layer = read_text(f"{place}/link_layer")
                address = addresses[-1] if addresses else ""
                found.append(
                    RdmaLink(
                        device,
                        int(port),
                        place,
                        address,
                        interface,
                        "" if layer in _UNTOLD else layer,
                        firmware,
                        guid if guid.strip("0") else "",
                    )
                )
    return found


def owners(links: list[RdmaLink], addresses: Mapping[str, str], interfaces: Mapping[str, str]) -> dict[str, str]:
    """Give by a link's name the device whose it is; those of no device are left out.

    `addresses`, `interfaces`: devices by PCI address, and by network interface.
    """
    found = {}
    for one in links:
        device = addresses.get(one.address, "") if one.address else interfaces.get(one.interface, "")
        if device:
            found[one.name] = device
    return found


def state(found: RdmaLink) -> dict[str, FieldValue]:
    """Give state and rate of a link as they are now; None for what is not told."""
    word = _after_number(read_text(f"{found.folder}/state"))
    physical = _after_number(read_text(f"{found.folder}/phys_state"))
    rate = _RATE.match(read_text(f"{found.folder}/rate"))
    return {
        "active": None if not word else word == "ACTIVE",
        "physical_state": physical or None,
        "link_rate_bytes_per_second": int(float(rate[1]) * _GIGABIT_BYTES) if rate and word == "ACTIVE" else None,
    }


def read_row(found: RdmaLink, device: str) -> Reading:
    """Give the row of a link: its state, and what is counted."""
    fields = state(found)
    for field, file in (
        ("receive_bytes_total", "counters/port_rcv_data"),
        ("transmit_bytes_total", "counters/port_xmit_data"),
    ):
        words = read_integer(f"{found.folder}/{file}")
        fields[field] = None if words is None else words * _WORD_BYTES
    for field, files in COUNTED.items():
        counts = (read_integer(f"{found.folder}/{file}") for file in files)
        fields[field] = next((count for count in counts if count is not None), None)
    return Reading("rdma", fields, device, {"link": found.name})


def _after_number(text: str) -> str:
    """Give `ACTIVE` of `4: ACTIVE`."""
    return text.partition(": ")[2]

"""The extended SMART log of drives for data centres, page C0h.

Source: OCP Datacenter NVMe SSD Specification 2.5, 4.8.6 (SMART / Health Information Extended). The page is a vendor's
own unless it ends in the specification's number, so that is looked at first. Counts are of the drive's life.
"""

from typing import Final

from schemas.rows import FieldValue

PAGE: Final = 0xC0
BYTES: Final = 512
GUID: Final = bytes.fromhex("c5af1028eabff2a49c4f6f7cc914d5af")
"""Its number, as it lies in the page's last 16 bytes."""
_VERSION, _GUID = slice(494, 496), slice(496, 512)

WHOLE: Final = {
    "physical_written_bytes_total": (0, 16),
    "physical_read_bytes_total": (16, 16),
    "bad_user_blocks": (32, 6),
    "bad_system_blocks": (40, 6),
    "recovered_total": (48, 8),
    "uncorrectable_reads_total": (56, 8),
    "soft_ecc_errors_total": (64, 8),
    "end_to_end_detected_total": (72, 4),
    "end_to_end_corrected_total": (76, 4),
    "refreshes_total": (81, 7),
    "most_erased": (88, 4),
    "least_erased": (92, 4),
    "throttles_total": (96, 1),
    "throttle_state": (97, 1),
    "pcie_corrected_errors_total": (104, 8),
    "incomplete_shutdowns_total": (112, 4),
    "unaligned_total": (136, 8),
    "power_loss_protections_total": (160, 16),
    "endurance_bytes": (176, 16),
}
"""By field of the measurement `nvme_ocp`: offset and length of a little-endian number."""
PERCENT: Final = {"system_used_ratio": (80, 1), "free_ratio": (120, 1), "capacitor_ratio": (128, 2)}
"""Likewise, in percent."""
RETRAININGS: Final = {"link_retrainings_total": (192, 8)}
"""What pages from version 3 on have."""
_RETRAININGS_SINCE: Final = 3
_NO_CAPACITOR: Final = 0xFFFF


def parse_ocp(data: bytes) -> dict[str, FieldValue] | None:
    """Give the fields of `nvme_ocp`, exact to 128 bits; None for a page that is not this specification's."""
    if len(data) < BYTES or data[_GUID] != GUID:
        return None
    found: dict[str, FieldValue] = {name: _number(data, place) for name, place in WHOLE.items()}
    found |= {name: _number(data, place) / 100 for name, place in PERCENT.items()}
    if _number(data, PERCENT["capacitor_ratio"]) == _NO_CAPACITOR:  # the drive has none
        found["capacitor_ratio"] = None
    if int.from_bytes(data[_VERSION], "little") >= _RETRAININGS_SINCE:
        found |= {name: _number(data, place) for name, place in RETRAININGS.items()}
    return found


def _number(data: bytes, place: tuple[int, int]) -> int:
    offset, size = place
    return int.from_bytes(data[offset : offset + size], "little")

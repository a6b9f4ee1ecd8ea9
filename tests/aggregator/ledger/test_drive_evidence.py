"""When a drive counts as clean: sanitized and not written to since, or every name space of it formatted with erase."""

from typing import Any

import pytest

from aggregator.ledger.evidence import EvidenceError, check
from aggregator.ledger.model import Device
from aggregator.ledger.words import Lifecycle
from schemas.device import DeviceKind, Part
from tests.aggregator.ledger.worlds import readback

NEVER: dict[str, Any] = {"sanitize_status": "never", "data_written_since": True, "namespaces": [1, 2]}


def _device(kind: DeviceKind = DeviceKind.NVME) -> Device:
    part = Part(vendor="Samsung", serial="S64HNE0")
    return Device("d-1", "n-1", kind, part=part, lifecycle=Lifecycle.CLEANING, cleaning=9, released=8)


@pytest.mark.parametrize(
    "told",
    [
        {"sanitize_status": "completed", "data_written_since": False},
        {"sanitize_status": "completed-no-deallocate", "data_written_since": False},
        NEVER | {"formatted": [1, 2]},
        NEVER | {"sanitize_status": "", "data_written_since": None, "formatted": [1, 2]},
        # sanitized once, long ago: what cleaned it now is the format
        NEVER | {"sanitize_status": "completed", "formatted": [1, 2]},
    ],
)
def test_clean_drive_is_taken(told: dict[str, Any]) -> None:
    device = _device()
    check(device, readback(device, **told))


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"sanitize_status": "completed", "data_written_since": True}, "not written to since"),
        ({"sanitize_status": "completed", "data_written_since": None}, "not written to since"),
        (NEVER, "name spaces"),
        (NEVER | {"formatted": [1]}, r"\[2\] were not formatted"),
        (NEVER | {"namespaces": []}, "nothing was formatted"),
        ({"sanitize_status": "unsupported", "data_written_since": None}, "nothing was formatted"),
        (NEVER | {"sanitize_status": "running", "formatted": [1, 2]}, "running"),
        (NEVER | {"sanitize_status": "failed", "formatted": [1, 2]}, "failed"),
    ],
)
def test_drive_that_may_hold_data_is_refused(told: dict[str, Any], problem: str) -> None:
    device = _device()
    with pytest.raises(EvidenceError, match=problem):
        check(device, readback(device, **told))


def test_name_space_is_clean_by_its_own_format_alone() -> None:
    device = _device(DeviceKind.NVME_NAMESPACE)
    check(device, readback(device, **NEVER | {"namespaces": [2], "formatted": [2]}))
    with pytest.raises(EvidenceError, match="the one name space"):
        check(device, readback(device, **NEVER | {"formatted": [1, 2]}))


@pytest.mark.parametrize("capabilities", [{"pci_class": "010802"}, {"vf_online": True, "vf_index": 0}])
def test_function_of_a_drive_is_not_clean_by_a_reset(capabilities: dict[str, Any]) -> None:
    """Its name spaces keep what its tenant wrote. A function of a port has none."""
    device = _device(DeviceKind.VF)
    check(device, readback(device))
    device.capabilities = capabilities
    with pytest.raises(EvidenceError, match="a function of a drive"):
        check(device, readback(device))

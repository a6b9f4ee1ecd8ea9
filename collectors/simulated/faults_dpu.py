"""What can happen to a DPU: capabilities that go and come, resets and their causes, a boot that fails (R001-16).

Lines of the host's log are in the kernel's words. Source: Linux `drivers/net/ethernet/mellanox/mlx5/core/health.c`,
`drivers/pci/pcie/aer.c`, `drivers/pci/hotplug/pciehp_ctrl.c`; stages of the boot are Redfish's, ComputerSystem 1.22.
"""

from typing import Final

import msgspec

from collectors.simulated.fault_words import FaultKind, Line, Saying
from schemas.rows import Severity


class Stage(msgspec.Struct, frozen=True):
    """Where a DPU stands that does not run."""

    boot_progress: str
    """BootProgress.LastState."""
    boot_error: str = ""
    """Why it goes no further; "" while it does."""


STAGES: Final = {
    "dpu_crash": Stage("OSBootStarted"),
    "dpu_firmware_reset": Stage("PrimaryProcessorInitializationStarted"),
    "dpu_pcie_error": Stage("PCIResourceConfigStarted"),
    "dpu_boot_fails": Stage("MemoryInitializationStarted", "BL2: DDR training failed"),
}
"""By fault, where the DPU stands while it is in force."""


def _down(cause: str, why: str) -> Saying:
    return Saying("dpu.down", "{device} at {address} is down: " + why, Severity.ERROR, {"cause": cause})


def _up(cause: str) -> Saying:
    return Saying("dpu.up", "{device} at {address} runs again", Severity.NOTICE, {"cause": cause})


def _reset(name: str, cause: str, meaning: str, why: str, seconds: float, *lines: Line) -> FaultKind:
    return FaultKind(
        name=name,
        target="dpu",
        meaning=meaning,
        seconds=seconds,
        reset_cause=cause,
        events=(_down(cause, why),),
        lines=lines,
        recovery_events=(_up(cause),),
    )


def _capability(what: str, does: str, severity: Severity, capability: str, how: str) -> Saying:
    return Saying(
        f"dpu.capability.{what}", "{device} " + does, severity, {"capability": capability, "implementation": how}
    )


DPU_FAULTS: Final = (
    FaultKind(
        name="dpu_encryption_lost",
        target="dpu",
        meaning="A DPU's encryption hardware is switched off: its cores encrypt instead, at a fraction of the rate.",
        events=(
            _capability("removed", "no longer encrypts in hardware", Severity.WARNING, "encryption", "hardware"),
            _capability("added", "encrypts in software", Severity.NOTICE, "encryption", "software"),
        ),
        recovery_events=(
            _capability("removed", "no longer encrypts in software", Severity.NOTICE, "encryption", "software"),
            _capability("added", "encrypts in hardware", Severity.NOTICE, "encryption", "hardware"),
        ),
    ),
    FaultKind(
        name="dpu_service",
        target="dpu",
        meaning="A service is started on a DPU that compresses in software; when it ends, so does the capability.",
        events=(_capability("added", "compresses in software", Severity.NOTICE, "compression", "software"),),
        recovery_events=(
            _capability("removed", "no longer compresses in software", Severity.NOTICE, "compression", "software"),
        ),
    ),
    _reset(
        "dpu_crash",
        "crash",
        "The kernel of a DPU crashes, and it boots again.",
        "its kernel crashed",
        30.0,
    ),
    _reset(
        "dpu_firmware_reset",
        "firmware",
        "The firmware of a DPU stops, and is started again.",
        "its firmware stopped",
        20.0,
        Line("mlx5_core {address}: device's health compromised - reached miss count", Severity.ERROR),
    ),
    _reset(
        "dpu_power_loss",
        "power-loss",
        "A DPU loses its power: its host no longer sees it.",
        "it has no power",
        40.0,
        Line("pcieport {root}: pciehp: Slot({slot}): Link Down", Severity.INFORMATIONAL),
        Line("pcieport {root}: pciehp: Slot({slot}): Card not present", Severity.INFORMATIONAL),
    ),
    _reset(
        "dpu_pcie_error",
        "pcie-uncorrectable",
        "An uncorrectable error on PCIe resets a DPU.",
        "uncorrectable PCIe error",
        15.0,
        Line("pcieport {root}: AER: Uncorrected (Fatal) error message received from {address}", Severity.CRITICAL),
    ),
    FaultKind(
        name="dpu_boot_fails",
        target="dpu",
        meaning="A DPU is reset and does not boot: it says where it stands, and why.",
        events=(_down("boot-failed", "it does not boot: BL2: DDR training failed"),),
        recovery_events=(_up("boot-failed"),),
    ),
)
"""All kinds of faults of DPUs."""

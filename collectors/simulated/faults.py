"""The faults that a simulated node can have: a table, and what each does to the physics, the events and the log.

Lines of the log are in the kernel's and the drivers' own words. Source: NVIDIA Xid catalogue; Linux
`drivers/pci/hotplug/pciehp_ctrl.c`, `block/blk-core.c`, `drivers/iommu/iommu.c`; lines of real machines.
"""

from typing import Final

import msgspec

from collectors.simulated.effects import Effects
from collectors.simulated.fault_words import EVER, FaultKind, Line, Saying
from collectors.simulated.faults_dpu import DPU_FAULTS, STAGES
from collectors.simulated.spec import Fault
from schemas.errors import ConfigError, near_names
from schemas.rows import Severity


def _xid(code: int, text: str, program: str = "pid='<unknown>', name=<unknown>") -> Line:
    return Line(f"NVRM: Xid (PCI:{{pci}}): {code}, {program}, {text}", Severity.ERROR)


def _xid_event(code: int, text: str, severity: Severity = Severity.CRITICAL) -> Saying:
    return Saying("nvml.xid", f"Xid {code} on {{device}} at {{address}}: {text}", severity, {"xid": code})


_GPU_LOST = Saying("nvml.gpu.lost", "{device} at {address} no longer answers", Severity.CRITICAL)
_GPU_BACK = Saying("nvml.gpu.back", "{device} at {address} answers again", Severity.NOTICE)

LAST_VLAN: Final = 4094
FAULTS: Final[dict[str, FaultKind]] = {
    kind.name: kind
    for kind in (
        FaultKind(
            name="gpu_lost",
            target="gpu",
            meaning="The slot loses its GPU, as if it were pulled.",
            events=(_GPU_LOST,),
            lines=(
                Line("pcieport {root}: pciehp: Slot({slot}): Link Down", Severity.INFORMATIONAL),
                Line("pcieport {root}: pciehp: Slot({slot}): Card not present", Severity.INFORMATIONAL),
            ),
            recovery_events=(_GPU_BACK,),
            recovery_lines=(
                Line("pcieport {root}: pciehp: Slot({slot}): Card present", Severity.INFORMATIONAL),
                Line("pcieport {root}: pciehp: Slot({slot}): Link Up", Severity.INFORMATIONAL),
            ),
        ),
        FaultKind(
            name="xid_79",
            target="gpu",
            needs_driver=True,
            meaning="The GPU falls off the bus; it needs a reset.",
            events=(_xid_event(79, "GPU has fallen off the bus"), _GPU_LOST),
            lines=(
                _xid(79, "GPU has fallen off the bus."),
                Line("NVRM: GPU {address}: GPU has fallen off the bus.", Severity.ERROR),
            ),
            recovery_events=(_GPU_BACK,),
        ),
        FaultKind(
            name="xid_119",
            target="gpu",
            needs_driver=True,
            meaning="The GPU's own processor (GSP) stops answering, and with it every reading of this GPU.",
            seconds=60.0,
            events=(_xid_event(119, "timeout waiting for the GPU system processor"), _GPU_LOST),
            lines=(
                _xid(
                    119,
                    "Timeout after 6s of waiting for RPC response from GPU{index} GSP! "
                    "Expected function 76 (GSP_RM_CONTROL) (0x2080a0a4 0x4).",
                    "pid=4711, name=python3",
                ),
            ),
            recovery_events=(_GPU_BACK,),
        ),
        FaultKind(
            name="ecc_double_bit",
            target="gpu",
            needs_driver=True,
            meaning="Memory errors that ECC cannot correct (value: how many); a row waits to be replaced by a spare.",
            value=1.0,
            events=(
                _xid_event(48, "double bit ECC error", Severity.ERROR),
                Saying(
                    "nvml.ecc.uncorrected",
                    "{count} uncorrected memory errors on {device}",
                    Severity.ERROR,
                ),
            ),
            lines=(
                _xid(
                    48,
                    "An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer "
                    "at partition 4, subpartition 0.",
                    "pid=4711, name=python3",
                ),
            ),
            recovery_events=(Saying("nvml.row_remap.done", "A row of {device} was replaced", Severity.NOTICE),),
        ),
        FaultKind(
            name="thermal_runaway",
            target="gpu",
            needs_driver=True,
            meaning="The GPU's cooling fails: the air around it is warmer (value: degrees), and its clocks drop.",
            seconds=600.0,
            value=50.0,
        ),
        FaultKind(
            name="power_cap",
            target="gpu",
            needs_driver=True,
            meaning="Somebody lowers the GPU's power limit (value: watts).",
            value=200.0,
            events=(
                Saying(
                    "nvml.power_limit.changed",
                    "The power limit of {device} is now {count} W",
                    Severity.NOTICE,
                ),
            ),
            recovery_events=(
                Saying(
                    "nvml.power_limit.changed",
                    "The power limit of {device} is its default again",
                    Severity.NOTICE,
                ),
            ),
        ),
        FaultKind(
            name="nvlink_down",
            target="gpu",
            needs_driver=True,
            meaning="One NVLink of the GPU (link: which) goes down.",
            events=(
                _xid_event(74, "NVLink {link} failed", Severity.ERROR),
                Saying("nvml.nvlink.down", "NVLink {link} of {device} is down", Severity.ERROR),
            ),
            lines=(_xid(74, "NVLink: fatal error detected on link {link}(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)"),),
            recovery_events=(Saying("nvml.nvlink.up", "NVLink {link} of {device} is up again", Severity.NOTICE),),
        ),
        FaultKind(
            name="driver_reload",
            target="node",
            needs_driver=True,
            meaning="The GPU driver is unloaded and loaded again: no GPU can be read, then counters start from 0.",
            seconds=5.0,
            lines=(Line("nvidia-nvlink: Unregistered Nvlink Core, major device number 234", Severity.INFORMATIONAL),),
            events=(Saying("nvml.driver.gone", "The GPU driver was unloaded", Severity.WARNING),),
            recovery_lines=(
                Line(
                    "nvidia-nvlink: Nvlink Core is being initialized, major device number 234", Severity.INFORMATIONAL
                ),
                Line("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  {driver}", Severity.NOTICE),
            ),
            recovery_events=(
                Saying(
                    "nvml.driver.loaded", "The GPU driver {driver} was loaded; counters start from 0", Severity.NOTICE
                ),
            ),
        ),
        FaultKind(
            name="nvme_media_errors",
            target="nvme",
            meaning="The drive fails to read back data (value: errors a second).",
            seconds=60.0,
            value=1.0,
            events=(Saying("nvme.media_errors", "{device} cannot read back data intact", Severity.ERROR),),
            lines=(
                Line(
                    "critical medium error, dev nvme{index}n1, sector 1953525168 op 0x0:(READ) flags 0x80700 "
                    "phys_seg 1 prio class 2",
                    Severity.CRITICAL,
                ),
            ),
        ),
        FaultKind(
            name="nvme_spare_low",
            target="nvme",
            meaning="The drive runs out of spare blocks (value: the share that is left).",
            value=0.04,
            events=(
                Saying("nvme.critical_warning", "{device} has few spare blocks left", Severity.CRITICAL, {"bits": 1}),
            ),
        ),
        FaultKind(
            name="vf_missing",
            target="vf",
            meaning="A virtual function disappears; when it comes back, it counts from 0.",
            events=(Saying("sriov.vf.gone", "{device} at {address} is gone", Severity.ERROR),),
            lines=(Line("pci {address}: Removing from iommu group {group}", Severity.INFORMATIONAL),),
            recovery_events=(Saying("sriov.vf.new", "{device} at {address} is there", Severity.NOTICE),),
            recovery_lines=(Line("pci {address}: Adding to iommu group {group}", Severity.INFORMATIONAL),),
        ),
        FaultKind(
            name="vf_wrong_vlan",
            target="vf",
            meaning="A virtual function is made anew with another VLAN (value: which).",
            value=4000.0,
        ),
        FaultKind(name="vf_wrong_mac", target="vf", meaning="A virtual function is made anew with another MAC."),
        FaultKind(
            name="nvme_reformatted",
            target="nvme",
            meaning="The drive is formatted with the other size of sectors: 512 bytes instead of 4,096, or 4,096.",
        ),
        FaultKind(
            name="link_down",
            target="nic",
            meaning="A port loses its carrier.",
            seconds=30.0,
            events=(Saying("sriov.link.down", "{device} ({interface}) has no carrier", Severity.ERROR),),
            lines=(Line("mlx5_core {address} {interface}: Link down", Severity.INFORMATIONAL),),
            recovery_events=(Saying("sriov.link.up", "{device} ({interface}) has a carrier", Severity.NOTICE),),
            recovery_lines=(Line("mlx5_core {address} {interface}: Link up", Severity.INFORMATIONAL),),
        ),
        FaultKind(
            name="link_flap",
            target="nic",
            meaning="A port loses its carrier for a second, every other second (value: how many times).",
            value=5.0,
        ),
        FaultKind(
            name="bmc_dead",
            target="bmc",
            meaning="The BMC stops answering: nothing that it reads is reported.",
            events=(Saying("redfish.bmc.lost", "{device} no longer answers", Severity.ERROR),),
            recovery_events=(Saying("redfish.bmc.back", "{device} answers again", Severity.NOTICE),),
        ),
        FaultKind(
            name="node_silent",
            target="node",
            meaning="The node says nothing: no rows, no heartbeats, and it does nothing for claims.",
        ),
        *DPU_FAULTS,
        *(
            FaultKind(name=name, target="node", meaning=meaning)
            for name, meaning in (
                ("prepare_fails", "Hooks that make devices ready for a claim fail."),
                ("undo_fails", "Hooks that take devices away from a claim fail."),
                ("clean_fails", "Hooks that clean devices fail."),
                ("device_in_use", "Whatever a claim gives back is still in use."),
                ("evidence_bad", "What is read after a clean shows that it did not work."),
                ("evidence_missing", "Cleans are reported without evidence."),
                ("evidence_old", "The evidence of an older clean is handed in."),
                ("evidence_other_part", "The evidence of another part is handed in."),
            )
        ),
    )
}
"""All kinds of faults, by name."""
CLAIM_FAULTS: Final = frozenset(
    name for name in FAULTS if name == "device_in_use" or name.endswith("_fails") or name.startswith("evidence_")
)
"""Those of what a node does for claims."""


def check_fault(fault: Fault) -> FaultKind:
    """Give the kind of a fault. Raises ConfigError when there is none of that name."""
    kind = FAULTS.get(fault.fault)
    if kind is None:
        hint = near_names(fault.fault, set(FAULTS)) or f" Known: {', '.join(sorted(FAULTS))}."
        raise ConfigError(f"no fault {fault.fault!r}.{hint}")
    return kind


class Active(msgspec.Struct):
    """A fault on its way: waiting, in force, or over."""

    kind: FaultKind
    target: int
    link: int
    value: float
    start_ns: int
    end_ns: float
    """Nanoseconds since 1970; infinite when nothing but `clear` ends it."""
    begun: bool = False


def schedule(fault: Fault, now_ns: int) -> list[Active]:
    """Give when a fault begins and ends, counted from `now_ns`. A flapping link is many short faults."""
    kind = check_fault(fault)
    start = now_ns + round(fault.after_seconds * 1e9)
    value = kind.value if fault.value is None else fault.value
    if kind.name == "link_flap":
        down, second = FAULTS["link_down"], 1_000_000_000
        starts = [start + 2 * second * turn for turn in range(max(int(value), 1))]
        return [Active(down, fault.target, 0, 0.0, at, at + second) for at in starts]
    seconds = kind.seconds if fault.duration_seconds is None else fault.duration_seconds
    return [Active(kind, fault.target, fault.link, value, start, start + seconds * 1e9)]


def effects_of(active: list[Active]) -> Effects:
    """Add up what the faults in force do."""
    effects = Effects()
    for fault in active:
        if fault.begun:
            _apply(effects, fault)
    return effects


def _apply(effects: Effects, fault: Active) -> None:  # noqa: C901, PLR0912  # one case a fault: a table in code
    target = fault.target
    match fault.kind.name:
        case "gpu_lost" | "xid_79" | "xid_119":
            effects.gpus_lost.add(target)
        case "ecc_double_bit":
            effects.remap_pending.add(target)
        case "thermal_runaway":
            effects.heat_celsius[target] = effects.heat_celsius.get(target, 0.0) + fault.value
        case "power_cap":
            effects.limit_watts[target] = min(fault.value, effects.limit_watts.get(target, EVER))
        case "nvlink_down":
            effects.links_down.add((target, fault.link))
        case "driver_reload":
            effects.driver_gone = True
        case "nvme_media_errors":
            effects.media_errors_per_second[target] = fault.value
        case "nvme_spare_low":
            effects.spare_ratio[target] = min(fault.value, 1.0)
        case "vf_missing":
            effects.vfs_missing.add(target)
        case "vf_wrong_vlan":
            effects.vf_vlans[target] = min(int(fault.value), LAST_VLAN)
        case "vf_wrong_mac":
            effects.vfs_with_other_mac.add(target)
        case "nvme_reformatted":
            effects.drives_reformatted.add(target)
        case "link_down":
            effects.ports_down.add(target)
        case "bmc_dead":
            effects.bmc_dead = True
        case "node_silent":
            effects.silent = True
        case "dpu_power_loss":
            effects.dpus_gone.add(target)
        case "dpu_encryption_lost":
            effects.dpus_in_software.add(target)
        case "dpu_service":
            effects.dpu_services.add(target)
        case name if name in STAGES:
            effects.dpus_down[target] = STAGES[name]
        case name if name in CLAIM_FAULTS:
            effects.claims.add(name)

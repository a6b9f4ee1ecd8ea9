"""What the faults in force do to the physics, as plain facts that every step can look up fast."""

import msgspec

from collectors.simulated.faults_dpu import Stage
from collectors.simulated.partitions import Partition


class Effects(msgspec.Struct, kw_only=True):
    """The sum of all faults in force on one node; empty on a healthy one."""

    gpus_lost: set[int] = msgspec.field(default_factory=set)
    heat_celsius: dict[int, float] = msgspec.field(default_factory=dict)
    """By GPU, how much warmer its cooling air is."""
    limit_watts: dict[int, float] = msgspec.field(default_factory=dict)
    """By GPU, the power limit in force instead of its usual one."""
    remap_pending: set[int] = msgspec.field(default_factory=set)
    """GPUs with a memory row that waits for a reset."""
    links_down: set[tuple[int, int]] = msgspec.field(default_factory=set)
    """(GPU, NVLink)."""
    driver_gone: bool = False
    """The GPU driver is being reloaded: no GPU can be read."""
    media_errors_per_second: dict[int, float] = msgspec.field(default_factory=dict)
    spare_ratio: dict[int, float] = msgspec.field(default_factory=dict)
    """By drive, what is left of its spare blocks."""
    vfs_missing: set[int] = msgspec.field(default_factory=set)
    """Counted over all ports of the node."""
    vf_vlans: dict[int, int] = msgspec.field(default_factory=dict)
    """By function, the VLAN that it has instead of its own."""
    vfs_with_other_mac: set[int] = msgspec.field(default_factory=set)
    drives_reformatted: set[int] = msgspec.field(default_factory=set)
    """Drives with the other size of sectors."""
    ports_down: set[int] = msgspec.field(default_factory=set)
    dpus_down: dict[int, Stage] = msgspec.field(default_factory=dict)
    """By DPU, where it stands instead of running."""
    dpus_gone: set[int] = msgspec.field(default_factory=set)
    """Without power: not to be seen."""
    dpus_in_software: set[int] = msgspec.field(default_factory=set)
    """They encrypt without the help of their hardware."""
    dpu_services: set[int] = msgspec.field(default_factory=set)
    """On them runs a service that compresses."""
    reset_causes: dict[int, str] = msgspec.field(default_factory=dict)
    """By DPU, why it was reset last; what is over stays true."""
    bmc_dead: bool = False
    drivers: dict[str, str] = msgspec.field(default_factory=dict)
    """By address, the driver that a claim's hooks gave a function instead of its own."""
    partitions: tuple[Partition, ...] = ()
    """Of GPUs, as claims had them made."""
    claims: set[str] = msgspec.field(default_factory=set)
    """What goes wrong with the steps of claims: names of faults."""
    silent: bool = False
    """The node says nothing at all."""

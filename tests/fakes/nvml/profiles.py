"""What the fake's GPUs are at first: eight H100 SXM5 of 80 GB behind NVSwitches, MIG off, healthy and idle.

Made by hand after the public data sheets and the MIG user guide, in NVML's units (mW, mJ, MHz, bytes, degrees Celsius,
percent, nanoseconds of violation). Source: NVIDIA Multi-Instance GPU User Guide, H100 profiles.

What such a GPU does not have is no key here, so that NVML answers "not supported". A script may set it all the same:

| keys | are read as |
|---|---|
| `fan.count`, `fan.<n>.speed`, `.target`, `.rpm`, `fan.min`, `fan.max` | fans, in percent |
| `retired.0`, `retired.1` (`address,time;...`), `retired.pending`, `.pending.sbe`, `.pending.dbe` | retired pages |
| `ecc.<volatile or aggregate>.<corrected or uncorrected>.<l1, l2, register, texture, texture_shm, cbu>` | ECC |
| `nvlink.<n>.crc_flit`, `crc_data`, `replay`, `recovery`, `counter0`, `counter1`, `speed_mbps` | links before Hopper |
| `nvlink.<n>.tx_bytes`, `rx_bytes`, `recovery_events`, `recovery_failed`, `symbol_errors`, ... | Hopper and after |
| `power.module.instant`, `power.module.average` | power of the whole module |
| `platform.chassis_serial`, `.slot`, `.tray`, `.host`, `.peer_type`, `.module_id`, `.ib_guid` | place in a rack |
| `c2c.count`, `c2c.<n>.status`, `.bandwidth`, `.replay`, ... | chip to chip links |
| `bank_remapped.active`, `.inactive`, `.spare`, `.none`, `.pending` | remapped banks |
| `process.utilization` (`pid,time,sm,memory,encoder,decoder;...`), `samples.<type>` (`time,value;...`) | samples |
| `gpm.<metric>`, `gpm.<metric>.<GPU instance>` | metrics between two samples |
| `field.<id>.latency` | microseconds that a field says it took |

Of the machine: `process.<pid>.name`, `excluded.count`, `excluded.<n>.uuid`, `.bus`. The C sources have all names.
"""

import uuid
from dataclasses import dataclass

GIB = 1 << 30
_LINKS = 18

EVENTS = 0xFF1F
"""The event types that this GPU supports: all of NVML but power source change."""


@dataclass(frozen=True, slots=True)
class MigProfile:
    """A profile of GPU instances."""

    number: int  # NVML_GPU_INSTANCE_PROFILE_...
    id: int
    name: str
    slices: int
    memory_slices: int
    instances: int
    sm: int
    memory_mb: int
    starts: tuple[int, ...]
    decoders: int
    media: int = 0  # JPEG and optical flow engines
    copy_engines: int = 1


H100_MIG = (
    MigProfile(0, 19, "1g.10gb", 1, 1, 7, 16, 9984, (0, 1, 2, 3, 4, 5, 6), 1),
    MigProfile(7, 20, "1g.10gb+me", 1, 1, 1, 16, 9984, (0, 1, 2, 3, 4, 5, 6), 1, media=1),
    MigProfile(9, 15, "1g.20gb", 1, 2, 4, 26, 20096, (0, 2, 4, 6), 1),
    MigProfile(1, 14, "2g.20gb", 2, 2, 3, 32, 20096, (0, 2, 4), 2, copy_engines=2),
    MigProfile(2, 9, "3g.40gb", 3, 4, 2, 60, 40448, (0, 4), 3, copy_engines=3),
    MigProfile(3, 5, "4g.40gb", 4, 4, 1, 64, 40448, (0,), 4, copy_engines=4),
    MigProfile(4, 0, "7g.80gb", 7, 8, 1, 132, 81152, (0,), 7, media=1, copy_engines=8),
)
"""Which GPU instances an H100 of 80 GB can have, and where."""

COMPUTE_PROFILES = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4}
"""The number of the compute profile of so many slices; its id is the same number."""


def system() -> dict[str, str]:
    """Give the keys of the machine as a whole."""
    return {
        "driver.version": "570.124.06",
        "driver.branch": "r570_00",
        "driver.generation": "1",
        "nvml.version": "12.570.124.06",
        "cuda.version": "12080",
        "excluded.count": "0",
        "cc.cpu": "0",
        "cc.gpu": "1",
        "cc.environment": "0",
        "cc.feature": "0",
        "cc.devtools": "0",
        "cc.ready": "1",
        "topology": "50",  # NVML_TOPOLOGY_SYSTEM
        "p2p.read": "0",
        "p2p.write": "0",
        "p2p.nvlink": "0",
        "p2p.atomics": "0",
        "p2p.pci": "1",
    }


def topology(gpus: int) -> dict[str, str]:
    """Give the pairs of GPUs that share a processor: the first half, the second half."""
    half = (gpus + 1) // 2
    pairs = ((low, high) for high in range(gpus) for low in range(high) if (low < half) == (high < half))
    return {f"topology.{low}.{high}": "40" for low, high in pairs}  # NVML_TOPOLOGY_NODE


def h100(slot: int, gpus: int) -> dict[str, str]:
    """Give the keys of one GPU, without their prefix."""
    second = int(slot >= (gpus + 1) // 2)
    keys: dict[str, int | str] = {
        "present": 1,
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'fake-nvml-{slot}')}",
        "serial": f"16530230{slot:05d}",
        "brand": 14,
        "architecture": 9,
        "board.part": "692-2G520-0200-000",
        "board.id": 0x1B00 + 0x1000 * slot,
        "board.multi_gpu": 0,
        "module_id": (2, 4, 3, 1, 7, 5, 8, 6)[slot % 8],
        "minor": slot,
        "vbios": "96.00.A5.00.01",
        "inforom.image": "G520.0200.00.05",
        "inforom.oem": "2.1",
        "inforom.ecc": "7.16",
        "inforom.checksum": 0x5A17 + slot,
        "inforom.valid": 1,
        "cuda.major": 9,
        "cuda.minor": 0,
        "cores": 16896,
        "gsp.version": "570.124.06",
        "gsp.enabled": 1,
        "gsp.default": 1,
        "bus_type": 2,
        "irq": 200 + slot,
        "pci.domain": slot // 8,
        "pci.bus": 0x1B + 0x10 * (slot % 8),
        "pci.device": 0,
        "pci.device_id": 0x233010DE,
        "pci.subsystem_id": 0x16C110DE,
        "pci.base_class": 3,
        "pci.sub_class": 2,
        "persistence": 1,
        "compute_mode": 0,
        "display.mode": 1,
        "display.active": 0,
        "virtualization.mode": 0,
        "numa.node": second,
        "affinity.cpu.node": "0;ffffffffffffffff" if second else "ffffffffffffffff;0",
        "affinity.cpu.socket": "0;ffffffffffffffff" if second else "ffffffffffffffff;0",
        "affinity.memory.node": "2" if second else "1",
        "affinity.memory.socket": "2" if second else "1",
        "events.supported": EVENTS,
        "c2c.enabled": 0,
        "addressing_mode": 1,  # HMM
        "gpm.supported": 1,
        **dict.fromkeys(("gpm.1", "gpm.2", "gpm.3", "gpm.5", "gpm.10", "gpm.20", "gpm.21"), "0.0"),
        **_readings(),
        **_errors(),
        **_links(),
        **_mig(),
    }
    return {key: str(value) for key, value in keys.items()}


def _readings() -> dict[str, int | str]:
    clocks = {"graphics": (345, 1980), "sm": (345, 1980), "memory": (2619, 2619), "video": (765, 1545)}
    return {
        "temperature.gpu": 31,
        "temperature.memory": 38,
        "temperature.margin": 56,
        "temperature.threshold.shutdown": 92,
        "temperature.threshold.slowdown": 89,
        "temperature.threshold.mem_max": 95,
        "temperature.threshold.gpu_max": 87,
        "temperature.tlimit.shutdown": -5,
        "temperature.tlimit.slowdown": -2,
        "temperature.tlimit.memory": 0,
        "temperature.tlimit.gpu": 0,
        "power.usage": 70_000,
        "power.gpu.instant": 70_000,
        "power.gpu.average": 70_000,
        "power.memory.instant": 21_000,
        "power.memory.average": 21_000,
        "power.management": 1,
        "power.limit": 700_000,
        "power.limit.enforced": 700_000,
        "power.limit.default": 700_000,
        "power.limit.min": 200_000,
        "power.limit.max": 700_000,
        "energy": 1_234_567_890,
        **{f"clock.{name}.current": now for name, (now, _) in clocks.items()},
        **{f"clock.{name}.max": most for name, (_, most) in clocks.items()},
        "clock.graphics.application": 1980,
        "clock.memory.application": 2619,
        "clock.graphics.application_default": 1980,
        "clock.memory.application_default": 2619,
        "clock.memory.supported": "2619;1593",
        "clock.graphics.supported.2619": "1980;1965;1950;345",
        "clock.graphics.supported.1593": "1980;345",
        "clock.reasons": 1,  # idle
        "clock.reasons.supported": 0x1FF,
        "violation.reference": 1_700_000_000_000_000,
        **{f"violation.{name}": 0 for name in ("power", "thermal", "sync_boost", "board_limit", "low_utilization")},
        **{f"violation.{name}": 0 for name in ("reliability", "app_clocks", "base_clocks")},
        **{f"violation.{name}": 0 for name in ("sw_thermal", "hw_thermal", "hw_power_brake")},
        "pstate": 0,
        "utilization.gpu": 0,
        "utilization.memory": 0,
        "utilization.encoder": 0,
        "utilization.decoder": 0,
        "utilization.jpeg": 0,
        "utilization.ofa": 0,
        "utilization.period": 167_000,
        "encoder.sessions": 0,
        "encoder.fps": 0,
        "encoder.latency": 0,
        "memory.total": 85_520_809_984,
        "memory.reserved": 566 << 20,
        "memory.used": 4 << 20,
        "memory.bus_width": 5120,
        "bar1.total": 128 * GIB,
        "bar1.used": 1 << 20,
        "process.compute": "",
        "process.graphics": "",
        "process.mps": "",
        "accounting.mode": 0,
        "accounting.size": 4000,
        "accounting.pids": "",
        "samples.0": "",
    }


def _errors() -> dict[str, int | str]:
    places = ("total", "dram", "sram")
    return {
        "ecc.mode": 1,
        "ecc.mode.pending": 1,
        "ecc.mode.default": 1,
        **{
            f"ecc.{counter}.{kind}.{place}": 0
            for counter in ("volatile", "aggregate")
            for kind in ("corrected", "uncorrected")
            for place in places
        },
        **{f"sram.{counter}.{kind}": 0 for counter in ("volatile", "aggregate") for kind in ("parity", "secded")},
        "sram.volatile.corrected": 0,
        "sram.aggregate.corrected": 0,
        **{f"sram.bucket.{part}": 0 for part in ("l2", "sm", "pcie", "mcu", "other")},
        "sram.threshold_exceeded": 0,
        "remapped.corrected": 0,
        "remapped.uncorrected": 0,
        "remapped.pending": 0,
        "remapped.failure": 0,
        "remapped.histogram": "2560,0,0,0,0",
        "repair.channel": 0,
        "repair.tpc": 0,
        "recovery_action": 0,
        "reset.status": 0,
        "reset.drain": 0,
    }


def _links() -> dict[str, int | str]:
    counters = ("dl_replay", "dl_recovery", "dl_crc", "tx_kib", "rx_kib", "tx_raw_kib", "rx_raw_kib", "ecc_data")
    errors = ("correctable", "naks_received", "receiver_error", "bad_tlp", "naks_sent", "bad_dllp", "non_fatal")
    more = ("fatal", "unsupported_request", "lcrc", "lane", "l0_to_recovery", "replay", "replay_rollover")
    links = {
        "state": 1,
        "version": 6,  # NVLink 4.0
        "speed": 26562,
        "capabilities": 0b100111,
        "remote.type": 2,  # a switch
        "power_state": 0,
        **dict.fromkeys(counters, 0),
    }
    return {
        **{f"nvlink.{link}.{key}": value for link in range(_LINKS) for key, value in links.items()},
        **{f"nvlink.{link}.remote.address": f"0:{0x05 + link % 4:x}:0" for link in range(_LINKS)},
        **{f"nvlink.{link}.remote_link": link for link in range(_LINKS)},
        "nvlink.count": _LINKS,
        "nvlink.switch_links": _LINKS,
        "nvlink.speed": 26562,
        "pcie.generation": 5,
        "pcie.generation.max": 5,
        "pcie.generation.gpu_max": 5,
        "pcie.width": 16,
        "pcie.width.max": 16,
        "pcie.speed": 32000,
        "pcie.speed.max": 5,
        "pcie.tx_bytes": 0,
        "pcie.rx_bytes": 0,
        "pcie.tx_kib_per_second": 0,
        "pcie.rx_kib_per_second": 0,
        **{f"pcie.{name}": 0 for name in (*errors, *more)},
        "fabric.state": 3,
        "fabric.status": 0,
        "fabric.clique": 1,
        "fabric.cluster_uuid": "11" * 16,
        "fabric.health_mask": 0b10,  # full bandwidth
        "fabric.health_summary": 1,
    }


def _mig() -> dict[str, int | str]:
    keys: dict[str, int | str] = {"mig.mode": 0, "mig.mode.pending": 0, "mig.max": 7, "mig.generation": 0}
    for profile in H100_MIG:
        begin = f"mig.profile.{profile.number}."
        keys |= {
            f"{begin}id": profile.id,
            f"{begin}name": f"MIG {profile.name}",
            f"{begin}p2p": 0,
            f"{begin}slices": profile.slices,
            f"{begin}instances": profile.instances,
            f"{begin}sm": profile.sm,
            f"{begin}copy_engines": profile.copy_engines,
            f"{begin}decoders": profile.decoders,
            f"{begin}encoders": 0,
            f"{begin}jpegs": profile.media,
            f"{begin}ofas": profile.media,
            f"{begin}memory_mb": profile.memory_mb,
            f"{begin}placements": ";".join(f"{start},{profile.memory_slices}" for start in profile.starts),
        }
    for slices, number in COMPUTE_PROFILES.items():
        begin = f"mig.compute_profile.{number}."
        keys |= {f"{begin}id": number, f"{begin}name": f"MIG {slices}c", f"{begin}slices": slices}
        keys |= {f"{begin}instances": 7 // slices, f"{begin}sm": 16 * slices, f"{begin}copy_engines": slices}
        keys |= {f"{begin}decoders": slices, f"{begin}encoders": 0, f"{begin}jpegs": 0, f"{begin}ofas": 0}
    return keys

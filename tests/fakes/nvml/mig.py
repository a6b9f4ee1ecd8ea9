"""The MIG layout of one GPU: which GPU instances lie where, and the MIG devices that come of it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tests.fakes.nvml.gpu import Gpu, Value
from tests.fakes.nvml.profiles import COMPUTE_PROFILES, H100_MIG, MigProfile

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MigInstance:
    """A GPU instance: the name of its profile, where it starts, its compute instances by their slices.

    Without `compute`, one compute instance has it all.
    """

    profile: str
    start: int
    compute: tuple[int, ...] = ()


def lay_out(gpu: Gpu, instances: Sequence[MigInstance] | None) -> None:
    """Give a GPU this layout; None turns MIG off. Handles of the layout before become invalid, UUIDs are new."""
    generation = int(str(gpu.get("mig.generation"))) + 1
    values: dict[str, Value] = {key: None for key in gpu.names("mig.") if key.split(".")[1].isdigit()}
    values |= {"mig.mode": int(instances is not None), "mig.mode.pending": int(instances is not None)}
    values |= {"mig.generation": generation}
    whole: list[str] = []
    parts: list[str] = []
    devices: list[str] = []
    for gi, instance in enumerate(instances or (), start=1):
        profile = next(one for one in H100_MIG if one.name == instance.profile)
        if instance.start not in profile.starts:
            raise ValueError(f"{profile.name} cannot start at {instance.start}: only at {profile.starts}")
        whole.append(f"{gi},{profile.id},{instance.start},{profile.memory_slices}")
        at = 0
        for ci, slices in enumerate(instance.compute or (profile.slices,)):
            parts.append(f"{gi},{ci},{COMPUTE_PROFILES[slices]},{at},{slices}")
            devices.append(f"{gi},{ci}")
            values |= _device(gpu, profile, gi, ci, slices, generation)
            at += slices
    values |= {"mig.gi": ";".join(whole), "mig.ci": ";".join(parts), "mig.devices": ";".join(devices)}
    gpu.update(values)


def _device(gpu: Gpu, profile: MigProfile, gi: int, ci: int, slices: int, generation: int) -> dict[str, Value]:
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{gpu.uuid}/{gi}/{ci}/{generation}")
    label = profile.name if slices == profile.slices else f"{slices}c.{profile.name}"
    keys: dict[str, Value] = {
        "uuid": f"MIG-{identity}",
        "name": f"{gpu.name} MIG {label}",
        "minor": gpu.get("minor"),
        "memory.total": profile.memory_mb * _MIB,
        "memory.used": 13 * _MIB,
        "memory.reserved": 0,
        "bar1.total": gpu.get("bar1.total"),
        "bar1.used": 0,
        "process.compute": "",
        "process.graphics": "",
        "process.mps": "",
        "ecc.volatile.uncorrected.sram": 0,
        "sm": profile.sm * slices // profile.slices,
        "copy_engines": profile.copy_engines,
        "decoders": profile.decoders,
        "encoders": 0,
        "jpegs": profile.media,
        "ofas": profile.media,
        "gpu_slices": profile.slices,
        "compute_slices": slices,
        "memory_mb": profile.memory_mb,
    }
    return {f"mig.{gi}.{ci}.{key}": value for key, value in keys.items()}

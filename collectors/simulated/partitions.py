"""Partitions (MIG) of simulated GPUs: made and destroyed as claims ask for it."""

import msgspec

from collectors.simulated.hardware import VENDOR, Hardware
from collectors.simulated.identity import uuid
from schemas.claims import Made
from schemas.device import DeviceKind, Document, Part, Value
from schemas.mig import Plan, partition_uuid, read_placements, read_plan


class Partition(msgspec.Struct, frozen=True):
    """A partition that is there."""

    gpu: int
    plan: Plan
    generation: int

    @property
    def instance(self) -> int:
        """Id of its GPU instance: given again to whatever is made in its place later."""
        return self.plan.place.start + 1


def why_not(hardware: Hardware, there: tuple[Partition, ...], gpu: int, text: str) -> str:
    """Say why a partition cannot be made as the driver would; "" when it can."""
    plan = read_plan(text)
    known = read_placements(list(hardware.model.mig))
    if plan is None or not any(plan.profile == one.profile and plan.place in one.places for one in known):
        return f"nvidia-smi mig -cgi {text}: no such profile or placement: simulated"
    for other in there:
        if other.gpu == gpu and other.plan.place.mask & plan.place.mask:
            return f"nvidia-smi mig -cgi {text}: Insufficient Resources: {other.plan} is there: simulated"
    return ""


def made(hardware: Hardware, one: Partition) -> Made:
    """Give the ids of a partition, as the driver gives them."""
    return Made(_uuid(hardware, one), one.instance, 0, one.generation)


def _uuid(hardware: Hardware, one: Partition) -> str:
    return f"MIG-{uuid(hardware.seed, hardware.name, 'mig', one.gpu * 16 + one.instance)}"


def describe_partition(hardware: Hardware, one: Partition) -> Document:
    """Give the document of a partition."""
    parent = hardware.gpus[one.gpu]
    device = f"gpu-partition:{parent.partition(':')[2]}/{one.instance}/0/{one.generation}"
    told: dict[str, Value] = {
        "simulated": True,
        "mig_profile": one.plan.profile,
        "mig_placement": str(one.plan.place),
        "mig_gpu_instance": one.instance,
        "mig_compute_instance": 0,
        "mig_generation": one.generation,
        "memory_bytes": hardware.model.memory_bytes // 8 * one.plan.place.size,
    }
    return Document(
        device,
        DeviceKind.GPU_PARTITION,
        [device],
        parent,
        part=Part(
            vendor=VENDOR,
            model=f"{VENDOR} {hardware.model.name} {one.plan.profile}",
            uuid=partition_uuid(_uuid(hardware, one), one.generation),
        ),
        capabilities=told,
    )

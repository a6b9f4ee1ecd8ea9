"""Makes the evidence of a clean from what the device shows. What nothing here can read is said to be unsupported.

A reader for a kind of device is a function; sources that can ask more (the sanitize log of a drive, a GPU's memory
check) bring theirs along.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from collectors.claims.order import Order
from collectors.claims.readback import Reading, keeps_for_others, read_device
from collectors.pci_sysfs import DEVICES, read_function
from schemas.device import DeviceKind
from schemas.evidence import (
    UNSUPPORTED,
    FunctionReadback,
    GpuReadback,
    NvmeReadback,
    PartitionReadback,
    Readback,
    VfReadback,
    readback_of,
)
from schemas.mig import read_place, read_plan


class Seen(msgspec.Struct, frozen=True):
    """What a reader is given."""

    root: Path
    order: Order
    reading: Reading
    reset_seen: bool
    before: object = None
    """What `note` gave before the hook."""


Reader = Callable[[Seen], dict[str, object]]
"""Gives the fields of a kind's document beside those that all have."""


def note(root: Path, order: Order) -> object:
    """Take down, before the hook, what the evidence of a kind of device is compared with; None for most.

    Of a drive it is an open trace of what is done to it from now on.
    """
    if order.device.kind in (DeviceKind.NVME.value, DeviceKind.NVME_NAMESPACE.value):
        from collectors.nvme.formats import FormatTrace

        return FormatTrace.open(root, order.device.address or order.device.parent)
    if order.device.kind == DeviceKind.VF.value:
        from collectors.sriov import evidence as functions

        return functions.shown(root, order.device.address)
    if order.device.kind != DeviceKind.GPU.value:
        return None
    from collectors.nvml import evidence

    found = evidence.shown(root, order.device.address, order.library)
    return None if found is None else found.marks


def evidence_of(
    root: Path, order: Order, clock: Callable[[], int] = time.time_ns, *, before: object = None
) -> tuple[Reading, Readback]:
    """Reset the device where that can be seen, read it, and give its evidence. `before`: what `note` gave."""
    reset = order.reset and reset_function(root, order.device.address)
    reading = read_device(root, order.device)
    seen = Seen(root, order, reading, reset, before)
    kind = readback_of(DeviceKind(order.device.kind), planned=bool(order.device.profile))
    fields = {
        "device": order.device.device,
        "part": reading.part,
        "clean": order.device.clean,
        "read_ns": clock(),
        "hook": order.name,
        "in_use": reading.in_use is not False,
        **READERS[kind](seen),
    }
    return reading, msgspec.convert(fields, kind)  # type: ignore[return-value]  # one of them


def reset_function(root: Path, address: str) -> bool:
    """Reset a function through the kernel, which tells whether the device came back; false when it cannot be.

    Only what no host driver has: under one the host would lose it. Source: Documentation/ABI/testing/sysfs-bus-pci,
    `reset` and `reset_method`.
    """
    if not address:
        return False
    try:
        function = read_function(root, address)
        if function is None or not keeps_for_others(function.driver) or not function.reset_methods:
            return False
        with (root / DEVICES / address / "reset").open("wb", buffering=0) as file:
            file.write(b"1")
    except OSError:
        return False
    return True


def _nvme(seen: Seen) -> dict[str, object]:
    """Ask the drive for its sanitize log, and the trace for formats; without rights or driver nothing tells."""
    from collectors.nvme import evidence
    from collectors.nvme.formats import FormatTrace

    device = seen.order.device
    address = device.address or device.parent
    trace = seen.before if isinstance(seen.before, FormatTrace) else None
    formats = trace.found() if trace is not None else []
    if trace is not None:
        trace.close()
    found = evidence.shown(seen.root, address, formats) or evidence.unread(seen.root, address)
    if device.kind == DeviceKind.NVME_NAMESPACE.value:
        found = evidence.of_space(seen.root, address, device.part, found)
    return msgspec.structs.asdict(found)


def _gpu(seen: Seen) -> dict[str, object]:
    """Ask NVIDIA's driver, where it has the GPU; a reset by the operator's hook is seen by what counts anew."""
    from collectors.nvml import evidence

    users = len(seen.reading.users)
    found = evidence.shown(seen.root, seen.order.device.address, seen.order.library)
    if found is None or found.processes is None:
        return {"reset_seen": seen.reset_seen, "processes": users, "memory_check": UNSUPPORTED}
    before = seen.before if isinstance(seen.before, evidence.Marks) else None
    return {
        "reset_seen": seen.reset_seen or found.reset_since(before),
        "processes": max(users, found.processes),
        "memory_check": found.memory_check,
        "memory_used_bytes": found.memory_used_bytes,
    }


def _partition(seen: Seen) -> dict[str, object]:
    """Ask NVIDIA's driver what is in the partition's place on its GPU, and how the memory of that is."""
    from collectors.nvml import evidence

    users = len(seen.reading.users)
    plan = read_plan(seen.order.device.profile)
    found = evidence.shown(seen.root, seen.order.device.parent, seen.order.library)
    if plan is None or found is None or found.partitions is None:
        return {"gone": False, "processes": users, "memory_check": UNSUPPORTED}
    taken = [place for place in map(read_place, found.partitions) if place is None or place.mask & plan.place.mask]
    return {"gone": not taken, "processes": users, "memory_check": found.memory_check}


def _vf(seen: Seen) -> dict[str, object]:
    from collectors.sriov import evidence

    found = evidence.shown(seen.root, seen.order.device.address)
    before = seen.before.mac if isinstance(seen.before, evidence.Shown) else ""
    return {"vlan": found.vlan, "mac": found.mac, "mac_before": before, "reset_seen": seen.reset_seen}


def _function(seen: Seen) -> dict[str, object]:
    return {"reset_seen": seen.reset_seen, "driver": seen.reading.driver}


READERS: Final[dict[type, Reader]] = {
    NvmeReadback: _nvme,
    GpuReadback: _gpu,
    PartitionReadback: _partition,
    VfReadback: _vf,
    FunctionReadback: _function,
}
"""By kind of document, who reads what it says."""

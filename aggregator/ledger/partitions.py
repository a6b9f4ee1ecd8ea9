"""Partitions of GPUs (MIG): where they are, where one more could lie, and those that are made for claims.

A partition that a claim asks for by profile is a device from the grant on: *planned*, a part of its GPU, in a place
that is nobody else's. Its node makes it with the preparation, and confirms it with its ids; it destroys it with the
clean. Then it is no device any more: nothing of it can be given to anybody, but its place can.
"""

import hashlib
from base64 import b32encode
from collections.abc import Iterable, Iterator

import msgspec

from aggregator.ledger.model import Device, Held, part_key
from aggregator.ledger.state import State
from aggregator.ledger.words import Lifecycle, Mode, Reach
from schemas.claims import Made
from schemas.device import DeviceKind
from schemas.mig import (
    WHOLE,
    Place,
    Placements,
    Plan,
    partition_serial,
    partition_slot,
    partition_uuid,
    read_place,
    read_placements,
    read_plan,
)


def placements(gpu: Device) -> tuple[Placements, ...]:
    """Give the profiles of partitions that can be made on a GPU, with their places; () when it tells none."""
    return read_placements(gpu.capabilities.get("mig_placements")) if gpu.kind is DeviceKind.GPU else ()


def is_there(partition: Device) -> bool:
    """Tell whether a partition takes a place, or is to: one that was made for a claim ends with its clean."""
    if partition.reach is Reach.ABSENT or not partition.views:
        return partition.hold is not None or bool(partition.planned and partition.lifecycle is not Lifecycle.FREE)
    return True


def slices(partition: Device) -> int:
    """Give the slices of memory that a partition takes, as a mask; all of its GPU's when it does not say which."""
    plan = read_plan(partition.planned)
    place = plan.place if plan else read_place(str(partition.capabilities.get("mig_placement", "")))
    return WHOLE if place is None else place.mask


def partitions(state: State, gpu: str) -> Iterator[Device]:
    """Yield the partitions of a GPU that take a place."""
    for name in state.found.parts.get(gpu, ()):
        part = state.devices[name]
        if part.kind is DeviceKind.GPU_PARTITION and is_there(part):
            yield part


def planned_in(state: State, gpu: str, place: Place) -> Iterator[Device]:
    """Yield the partition that is made, or to be made, for a claim in a place of a GPU."""
    return (one for one in partitions(state, gpu) if one.planned and slices(one) == place.mask)


def part_of(gpu: Device, plan: Plan) -> str:
    """Name a partition before it has a UUID: by its GPU's part, and its plan."""
    return f"{part_key(gpu)}/{plan}"


def hold_for(state: State, gpu: Device, plan: Plan, claim: str) -> Held:
    """Give what a claim holds for which a partition is to be made."""
    seed = f"{gpu.id} {plan} {claim}"
    digest = b32encode(hashlib.blake2b(seed.encode(), digest_size=20).digest()).decode().lower()
    length = next(
        number for number in range(7, len(digest) + 1) if f"gpu-partition-{digest[:number]}" not in state.devices
    )
    name = f"gpu-partition-{digest[:length]}"
    return Held(name, gpu.node, Mode.DRIVER, part_of(gpu, plan), str(plan), parent=gpu.id)


def make_planned(state: State, holds: Iterable[Held]) -> None:
    """Let planned partitions that are none yet be devices: free, to be taken at once by the claim that they are for."""
    new = [held for held in holds if held.parent and held.device not in state.devices]
    if len({held.node for held in new}) > 1:  # devices of one moment stand in the order of their nodes, as kept
        order = {name: place for place, name in enumerate(state.nodes)}
        new.sort(key=lambda held: order[held.node])
    for held in new:
        _make(state, held)


def _make(state: State, held: Held) -> None:
    gpu, plan = state.devices[held.parent], read_plan(held.profile)
    assert plan is not None
    device = Device(
        held.device,
        held.node,
        DeviceKind.GPU_PARTITION,
        slot=partition_slot(gpu.slot, plan.place),
        parent=gpu.id,
        lifecycle=Lifecycle.FREE,
        boot=state.nodes[held.node].boot,
        first=state.sequence,
        planned=held.profile,
    )
    state.devices[device.id] = device
    state.nodes[held.node].devices[device.id] = None
    state.index(device)


def name_made(state: State, device: Device, made: Made) -> None:
    """Let a partition be the one that its node made."""
    state.unindex(device)
    serial = partition_serial(made.gpu_instance, made.compute_instance, made.generation)
    device.part = msgspec.structs.replace(device.part, uuid=partition_uuid(made.uuid, made.generation), serial=serial)
    state.index(device)

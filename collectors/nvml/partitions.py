"""MIG: what a GPU can be divided into, where each partition can lie, and the partitions that there are.

A partition is (GPU, GPU instance, compute instance, generation): the driver gives numbers, and with them UUIDs, again.
Source: NVIDIA Multi-Instance GPU user guide; NVML API reference, Multi Instance GPU Management.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from collectors.nvml.gpus import Gpu
from collectors.nvml.keeping import Keep
from collectors.nvml.library import Asker, Missing
from schemas.device import Value
from schemas.mig import Place

_MEBI: Final = 1 << 20
_MOST_PROFILES: Final = 32
"""More than any library knows; beyond its own it says that the number is not valid."""
_MOST_INSTANCES: Final = 16
"""More GPU instances of one profile no GPU has."""
_WORD: Final = re.compile(r"\d+(?:c\.\d+)?g\.\d+gb\S*")


class Profile(msgspec.Struct, frozen=True):
    """One way of dividing a GPU."""

    name: str
    """`1g.10gb`."""
    number: int
    """The driver's id of it on this GPU."""
    starts: tuple[int, ...] = ()
    size: int = 0
    """Where a partition of it may begin, and how many slices of memory it takes; 0 when not told."""


class Partition(msgspec.Struct, frozen=True):
    """A partition with a compute instance: what programs are given."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    generation: int
    asker: Asker
    parent: str
    """The id of its GPU."""
    profile: str = ""
    placement: str = ""
    attributes: dict[str, Value] = {}

    @property
    def device(self) -> str:
        """Its id: numbers alone would be those of another one later."""
        place = f"{self.parent.removeprefix('gpu:')}/{self.gpu_instance}/{self.compute_instance}"
        return f"gpu-partition:{place}/{self.generation}"


def mode_of(gpu: Gpu) -> tuple[bool, bool] | None:
    """Give whether MIG is on, and will be after a reset; None where there is none. Raises GpuLostError."""
    found = gpu.asker.ask("nvmlDeviceGetMigMode")
    return None if found is None else (bool(found[0]), bool(found[1]))


def profiles_of(gpu: Gpu) -> list[Profile]:
    """Give what a GPU can be divided into, as far as the driver tells it in the present mode.

    Raises GpuLostError, NewProcessError.
    """
    found: dict[str, Profile] = {}
    for number in range(_MOST_PROFILES):
        info = gpu.asker.first(
            ("nvmlDeviceGetGpuInstanceProfileInfo", number, 2), ("nvmlDeviceGetGpuInstanceProfileInfo", number, 1)
        )
        if info is not None:
            name = _profile_name(info)
            starts, size = _placements(gpu, info.id)
            found.setdefault(name, Profile(name, info.id, starts, size))
    return sorted(found.values(), key=lambda one: (one.size, one.name))


def _profile_name(info: Any) -> str:
    name = getattr(info, "name", b"")
    text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
    match = _WORD.search(text)
    return match[0] if match else f"{info.sliceCount}g.{round(info.memorySizeMB / 1024)}gb"


def _placements(gpu: Gpu, number: int) -> tuple[tuple[int, ...], int]:
    """Give where partitions of a profile may begin, whatever is there now, and their size."""
    from ctypes import byref, c_uint

    asker, nvml = gpu.asker, gpu.asker.nvml
    count = c_uint(0)
    name = "nvmlDeviceGetGpuInstancePossiblePlacements"
    if asker.hand(name, (number,), number, None, byref(count)) is None or not count.value:
        return (), 0
    room = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    if asker.hand(name, (number,), number, room, byref(count)) is None:
        return (), 0
    places = [(place.start, place.size) for place in room[: count.value]]
    return tuple(sorted(start for start, _ in places)), max((size for _, size in places), default=0)


def words_of(profiles: list[Profile]) -> dict[str, Value]:
    """Give profiles and possible placements in the words of capability documents."""
    placed = [one for one in profiles if one.starts]
    return {
        **({"mig_profiles": [one.name for one in profiles]} if profiles else {}),
        **(
            {"mig_placements": [f"{one.name}:{{{','.join(map(str, one.starts))}}}:{one.size}" for one in placed]}
            if placed
            else {}
        ),
    }


def partitions_of(gpu: Gpu, keep: Keep, missing: Missing) -> list[Partition]:
    """Give the partitions that there are now. Raises GpuLostError, NewProcessError."""
    if not gpu.divided:
        keep.partitions_are(set(), gpu.identity.uuid)
        return []
    found = list(_partitions(gpu, keep, missing))
    keys = {_key(gpu, one.gpu_instance, one.compute_instance) for one in found}
    keep.partitions_are(keys, gpu.identity.uuid)
    return found


def _key(gpu: Gpu, gpu_instance: int, compute_instance: int) -> str:
    return f"{gpu.identity.uuid}/{gpu_instance}/{compute_instance}"


def _partitions(gpu: Gpu, keep: Keep, missing: Missing) -> Iterator[Partition]:
    asker = gpu.asker
    names = {profile.number: profile.name for profile in profiles_of(gpu)}
    for index in range(asker.ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
        handle = _handle(asker, index)
        if handle is None:
            continue
        own = Asker(asker.nvml, handle, missing)
        uuid = own.ask("nvmlDeviceGetUUID")
        instance, compute = own.ask("nvmlDeviceGetGpuInstanceId"), own.ask("nvmlDeviceGetComputeInstanceId")
        if not uuid or instance is None or compute is None:
            continue
        profile, placement = _place(asker, instance)
        yield Partition(
            uuid=uuid,
            gpu_instance=instance,
            compute_instance=compute,
            generation=keep.generation(_key(gpu, instance, compute), uuid, placement),
            asker=own,
            parent=gpu.device,
            profile=names.get(profile, "") or _named(own),
            placement=placement,
            attributes=_attributes(own),
        )


def _handle(asker: Asker, index: int) -> object | None:
    """Give the handle of a partition by number; numbers are never remembered as lacking, for partitions come and go."""
    try:
        handle: object = asker.nvml.nvmlDeviceGetMigDeviceHandleByIndex(asker.handle, index)
    except (asker.nvml.NVMLError, AttributeError):
        return None
    return handle


def _place(asker: Asker, instance: int) -> tuple[int, str]:
    """Give the profile's number and the place of a GPU instance; -1 and "" when not told."""
    nvml = asker.nvml
    try:
        info = nvml.nvmlGpuInstanceGetInfo(nvml.nvmlDeviceGetGpuInstanceById(asker.handle, instance))
    except nvml.NVMLError as error:
        if error.value == 4:
            asker.denied.add("nvmlDeviceGetGpuInstanceById")
        return -1, ""
    except AttributeError:
        return -1, ""
    return info.profileId, str(Place(info.placement.start, info.placement.size))


def _named(own: Asker) -> str:
    match = _WORD.search(own.ask("nvmlDeviceGetName") or "")
    return match[0] if match else ""


def _attributes(own: Asker) -> dict[str, Value]:
    told = own.first(("nvmlDeviceGetAttributes_v2",), ("nvmlDeviceGetAttributes",))
    if told is None:
        return {}
    return {
        "memory_bytes": told.memorySizeMB * _MEBI,
        "multiprocessors": told.multiprocessorCount,
        "copy_engines": told.sharedCopyEngineCount,
    }


def partition_places(gpu: Gpu) -> frozenset[str] | None:
    """Give the places, `<start>:<size>`, that GPU instances take, those without a compute instance too.

    None when this process may not ask. Raises GpuLostError, NewProcessError.
    """
    from ctypes import byref, c_uint

    mode, asker, nvml = mode_of(gpu), gpu.asker, gpu.asker.nvml
    if mode is None or not mode[0]:
        return frozenset()
    found = set()
    for profile in profiles_of(gpu):
        count = c_uint(0)
        room = (nvml.c_nvmlGpuInstance_t * _MOST_INSTANCES)()
        if asker.hand("nvmlDeviceGetGpuInstances", (profile.number,), profile.number, room, byref(count)) is None:
            return None
        for instance in room[: count.value]:
            try:
                info = nvml.nvmlGpuInstanceGetInfo(instance)
            except nvml.NVMLError:
                return None
            found.add(str(Place(info.placement.start, info.placement.size)))
    return frozenset(found)

"""MIG in the fake: modes, profiles with their possible placements, instances, devices, and what a new layout does."""

from collections.abc import Iterator
from ctypes import byref, c_uint
from types import ModuleType
from typing import Any

import pytest

from tests.fakes.nvml import FakeNvml, MigInstance, Process
from tests.fakes.nvml.profiles import H100_MIG

LAYOUT = [MigInstance("3g.40gb", 0, compute=(1, 2)), MigInstance("2g.20gb", 4), MigInstance("1g.10gb", 6)]


@pytest.fixture
def nvml(fake_nvml: FakeNvml) -> Iterator[ModuleType]:
    with fake_nvml.binding() as pynvml:
        pynvml.nvmlInit()
        yield pynvml


def devices(nvml: ModuleType, handle: Any) -> list[Any]:
    """Give the MIG devices, as a program walks them: by index up to the most there can be."""
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except nvml.NVMLError_NotFound:
            break
    return found


def placements(nvml: ModuleType, handle: Any, profile: int) -> list[tuple[int, int]]:
    count = c_uint()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile, None, byref(count))
    room = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile, room, byref(count))
    return [(one.start, one.size) for one in room]


def test_profiles_and_their_possible_placements(nvml: ModuleType) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    found: dict[str, tuple[object, ...]] = {}
    for number in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        try:
            info = nvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number)
        except nvml.NVMLError_NotSupported:
            continue
        one = nvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number, version=1)
        for name, _ in one._fields_:
            assert getattr(one, name) == getattr(info, name)
        found[info.name] = (number, info.id, info.sliceCount, info.instanceCount, info.multiprocessorCount)
        found[info.name] += (info.memorySizeMB, info.decoderCount, info.copyEngineCount, info.jpegCount, info.ofaCount)
        found[info.name] += (placements(nvml, handle, info.id),)
    expected: dict[str, tuple[object, ...]] = {
        f"MIG {one.name}": (
            *(one.number, one.id, one.slices, one.instances, one.sm, one.memory_mb, one.decoders, one.copy_engines),
            *(one.media, one.media, [(start, one.memory_slices) for start in one.starts]),
        )
        for one in H100_MIG
    }
    assert expected == found
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        placements(nvml, handle, 99)


def test_a_layout_as_devices_with_identity_memory_and_attributes(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(1)
    assert [0, 0] == nvml.nvmlDeviceGetMigMode(handle)
    assert [] == devices(nvml, handle)
    fake_nvml.set_mig(1, LAYOUT)
    assert [1, 1] == nvml.nvmlDeviceGetMigMode(handle)
    migs = devices(nvml, handle)
    ids = [(nvml.nvmlDeviceGetGpuInstanceId(one), nvml.nvmlDeviceGetComputeInstanceId(one)) for one in migs]
    assert [(1, 0), (1, 1), (2, 0), (3, 0)] == ids
    names = [str(nvml.nvmlDeviceGetName(one)).rpartition("MIG ")[2] for one in migs]
    assert ["1c.3g.40gb", "2c.3g.40gb", "2g.20gb", "1g.10gb"] == names
    assert 4 == len({nvml.nvmlDeviceGetUUID(one) for one in migs})
    sizes = [(nvml.nvmlDeviceGetAttributes(one).memorySizeMB, nvml.nvmlDeviceGetMemoryInfo(one).total) for one in migs]
    assert [(mb, mb << 20) for mb in (40448, 40448, 20096, 9984)] == sizes
    attributes = nvml.nvmlDeviceGetAttributes(migs[1])
    assert (3, 2, 40) == (
        *(attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount),
        attributes.multiprocessorCount,
    )
    for mig in migs:
        assert 1 == nvml.nvmlDeviceIsMigDeviceHandle(mig).value
        parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
        assert 1 == nvml.nvmlDeviceGetIndex(parent)
        again = nvml.nvmlDeviceGetHandleByUUID(nvml.nvmlDeviceGetUUID(mig))
        assert nvml.nvmlDeviceGetUUID(mig) == nvml.nvmlDeviceGetUUID(again)
        with pytest.raises(nvml.NVMLError_NotSupported):
            nvml.nvmlDeviceGetUtilizationRates(mig)
    assert 0 == nvml.nvmlDeviceIsMigDeviceHandle(handle).value
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetGpuInstanceId(handle)
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 7)


def test_state_of_a_mig_device_is_its_own(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    fake_nvml.set_mig(0, LAYOUT)
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    first, second = devices(nvml, handle)[:2]
    fake_nvml.gpus[0].set("mig.1.0.memory.used", 5 << 30)
    fake_nvml.gpus[0].set("mig.1.0.process.compute", Process(77, used=1, gi=1, ci=0).as_written())
    assert (5 << 30, 13 << 20) == tuple(nvml.nvmlDeviceGetMemoryInfo(one).used for one in (first, second))
    assert [[77], []] == [[one.pid for one in nvml.nvmlDeviceGetComputeRunningProcesses(h)] for h in (first, second)]


def test_instances_by_profile_by_id_and_their_compute_instances(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    room, count = (nvml.c_nvmlGpuInstance_t * 7)(), c_uint()
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetGpuInstances(handle, 19, room, byref(count))
    fake_nvml.set_mig(0, [*LAYOUT, MigInstance("1g.10gb", 3)])
    nvml.nvmlDeviceGetGpuInstances(handle, 19, room, byref(count))
    infos = [nvml.nvmlGpuInstanceGetInfo(one) for one in room[: count.value]]
    assert [(3, 19, 6, 1), (4, 19, 3, 1)] == [(i.id, i.profileId, i.placement.start, i.placement.size) for i in infos]
    assert 0 == nvml.nvmlDeviceGetIndex(infos[0].device)
    instance = nvml.nvmlDeviceGetGpuInstanceById(handle, 1)
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetGpuInstanceById(handle, 9)
    profile = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, nvml.NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE, 0)
    first = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, 1, 0, version=1)
    assert (1, 2, 32, "MIG 2c") == (profile.id, profile.sliceCount, profile.multiprocessorCount, profile.name)
    assert (1, 2, 32) == (first.id, first.sliceCount, first.multiprocessorCount)
    parts, count = (nvml.c_nvmlComputeInstance_t * 7)(), c_uint()
    nvml.nvmlGpuInstanceGetComputeInstances(instance, profile.id, parts, byref(count))
    assert 1 == count.value
    for part in (parts[0], nvml.nvmlGpuInstanceGetComputeInstanceById(instance, 1)):
        info = nvml.nvmlComputeInstanceGetInfo(part)
        assert (1, 1, 1, 2) == (info.id, info.profileId, info.placement.start, info.placement.size)
        assert 1 == nvml.nvmlGpuInstanceGetInfo(info.gpuInstance).id


def test_what_still_fits(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(0)

    def room() -> dict[str, int]:
        return {one.name: nvml.nvmlDeviceGetGpuInstanceRemainingCapacity(handle, one.id) for one in H100_MIG}

    assert {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "7g.80gb": 1}.items() <= room().items()
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    assert {"1g.10gb": 3, "1g.20gb": 2, "2g.20gb": 1, "3g.40gb": 1, "7g.80gb": 0}.items() <= room().items()
    fake_nvml.set_mig(0, [MigInstance("1g.10gb", 1), MigInstance("1g.10gb", 4)])
    assert {"1g.10gb": 5, "2g.20gb": 1, "3g.40gb": 0, "4g.40gb": 0}.items() <= room().items()


def test_a_new_layout_makes_old_handles_invalid_and_new_uuids(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    fake_nvml.set_mig(0, LAYOUT)
    (old, *_), instance = devices(nvml, handle), nvml.nvmlDeviceGetGpuInstanceById(handle, 1)
    uuid = nvml.nvmlDeviceGetUUID(old)
    fake_nvml.set_mig(0, LAYOUT)
    for call, argument in ((nvml.nvmlDeviceGetUUID, old), (nvml.nvmlGpuInstanceGetInfo, instance)):
        with pytest.raises(nvml.NVMLError_InvalidArgument):
            call(argument)
    assert uuid != nvml.nvmlDeviceGetUUID(devices(nvml, handle)[0])
    fake_nvml.set_mig(0, None)
    assert ([0, 0], []) == (nvml.nvmlDeviceGetMigMode(handle), devices(nvml, handle))
    assert not any(key.startswith("mig.1.") for key in fake_nvml.gpus[0].names("mig."))


def test_mig_devices_of_a_lost_gpu_are_lost_with_it(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    fake_nvml.set_mig(0, LAYOUT)
    mig = devices(nvml, nvml.nvmlDeviceGetHandleByIndex(0))[0]
    fake_nvml.lose(0)
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlDeviceGetUUID(mig)


def test_a_place_that_no_instance_can_have_is_a_mistake_of_the_script(fake_nvml: FakeNvml) -> None:
    with pytest.raises(ValueError, match="cannot start at 3"):
        fake_nvml.set_mig(0, [MigInstance("3g.40gb", 3)])

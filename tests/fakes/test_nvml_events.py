"""Event sets of the fake: scripted events arrive where they are registered for, waits end in time, errors at once."""

import threading
import time
from collections.abc import Iterator
from ctypes import byref
from types import ModuleType
from typing import Any

import pytest

from tests.fakes.nvml import ANY, FakeNvml, MigInstance


@pytest.fixture
def nvml(fake_nvml: FakeNvml) -> Iterator[ModuleType]:
    with fake_nvml.binding() as pynvml:
        pynvml.nvmlInit()
        yield pynvml


def listen(nvml: ModuleType, gpus: range, types: int) -> Any:
    events = nvml.nvmlEventSetCreate()
    for gpu in gpus:
        nvml.nvmlDeviceRegisterEvents(nvml.nvmlDeviceGetHandleByIndex(gpu), types, events)
    return events


def test_an_xid_arrives_with_its_gpu_its_code_and_its_mig_instance(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    events = listen(nvml, range(8), nvml.nvmlEventTypeXidCriticalError)
    fake_nvml.xid(5, 79)
    fake_nvml.xid(6, 31, gi=2, ci=1)
    for gpu, code, gi, ci in ((5, 79, ANY, ANY), (6, 31, 2, 1)):
        event = nvml.nvmlEventSetWait(events, 5000)
        assert fake_nvml.gpus[gpu].uuid == nvml.nvmlDeviceGetUUID(event.device)
        assert (nvml.nvmlEventTypeXidCriticalError, code) == (event.eventType, event.eventData)
        assert (gi, ci) == (event.gpuInstanceId, event.computeInstanceId)
    nvml.nvmlEventSetFree(events)


def test_a_wait_ends_in_a_timeout_not_before_and_not_long_after(nvml: ModuleType) -> None:
    events = listen(nvml, range(8), nvml.nvmlEventTypeXidCriticalError)
    begun = time.monotonic()
    with pytest.raises(nvml.NVMLError_Timeout):
        nvml.nvmlEventSetWait(events, 300)
    assert 0.29 < time.monotonic() - begun < 10
    with pytest.raises(nvml.NVMLError_Timeout):
        nvml.nvmlEventSetWait(events, 0)
    nvml.nvmlEventSetFree(events)


def test_only_what_is_registered_for_and_only_from_then_on(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    fake_nvml.xid(0, 13)
    events = listen(nvml, range(2), nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventMigConfigChange)
    fake_nvml.xid(2, 13)
    fake_nvml.event(0, nvml.nvmlEventTypePState, 8)
    fake_nvml.event(1, nvml.nvmlEventMigConfigChange)
    assert nvml.nvmlEventMigConfigChange == nvml.nvmlEventSetWait(events, 5000).eventType
    with pytest.raises(nvml.NVMLError_Timeout):
        nvml.nvmlEventSetWait(events, 0)
    nvml.nvmlEventSetFree(events)


def test_each_set_gets_its_own(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    sets = [listen(nvml, range(8), nvml.nvmlEventTypeXidCriticalError) for _ in range(2)]
    fake_nvml.xid(0, 48)
    assert [48, 48] == [nvml.nvmlEventSetWait(events, 5000).eventData for events in sets]
    for events in sets:
        nvml.nvmlEventSetFree(events)


def test_a_type_that_is_not_supported_is_refused(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    events = nvml.nvmlEventSetCreate()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypePowerSourceChange, events)
    fake_nvml.gpus[0].set("events.supported", None)
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
    fake_nvml.set_mig(1, [MigInstance("1g.10gb", 0)])
    mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(nvml.nvmlDeviceGetHandleByIndex(1), 0)
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceRegisterEvents(mig, nvml.nvmlEventTypeXidCriticalError, events)
    nvml.nvmlEventSetFree(events)


def test_a_lost_gpu_gives_its_xid_and_then_an_error_at_once_each_time(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    events = listen(nvml, range(8), nvml.nvmlEventTypeXidCriticalError)
    fake_nvml.xid(3, 79)
    fake_nvml.lose(3)
    assert 79 == nvml.nvmlEventSetWait(events, 5000).eventData
    begun = time.monotonic()
    for _ in range(20):
        with pytest.raises(nvml.NVMLError_GpuIsLost):
            nvml.nvmlEventSetWait(events, 60_000)
    assert time.monotonic() - begun < 30
    nvml.nvmlEventSetFree(events)


def test_events_after_the_loss_still_come_before_the_error(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    events = listen(nvml, range(8), nvml.nvmlEventTypeXidCriticalError)
    fake_nvml.lose(3)
    fake_nvml.xid(4, 94)
    assert 94 == nvml.nvmlEventSetWait(events, 5000).eventData
    nvml.nvmlEventSetFree(events)


@pytest.mark.parametrize("end", ["event", "lost", "driver"])
def test_a_wait_that_has_begun_ends_with_what_happens(nvml: ModuleType, fake_nvml: FakeNvml, end: str) -> None:
    events = listen(nvml, range(8), nvml.nvmlEventTypeXidCriticalError)
    ended: list[object] = []

    def wait() -> None:
        try:
            ended.append(nvml.nvmlEventSetWait(events, 60_000).eventData)
        except nvml.NVMLError as error:
            ended.append(error.value)

    thread = threading.Thread(target=wait)
    thread.start()
    while not fake_nvml.calls("nvmlEventSetWait_v2"):
        time.sleep(0.001)
    {
        "event": lambda: fake_nvml.xid(0, 63),
        "lost": lambda: fake_nvml.lose(0),
        "driver": lambda: fake_nvml.reload_driver("575.51.03"),
    }[end]()
    thread.join(50)
    assert {"event": [63], "lost": [15], "driver": [18]}[end] == ended


def test_of_a_storm_the_last_of_the_ring_are_kept(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    events = listen(nvml, range(8), nvml.nvmlEventTypeXidCriticalError)
    for code in range(1000):
        fake_nvml.xid(0, code)
    codes = []
    with pytest.raises(nvml.NVMLError_Timeout):
        while True:
            codes.append(nvml.nvmlEventSetWait(events, 0).eventData)
    assert list(range(1000 - 256, 1000)) == codes
    nvml.nvmlEventSetFree(events)


def test_the_first_version_of_wait_writes_no_mig_instances(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    events = listen(nvml, range(1), nvml.nvmlEventTypeXidCriticalError)
    fake_nvml.xid(0, 43, gi=1, ci=1)
    data = nvml.c_nvmlEventData_t(gpuInstanceId=77, computeInstanceId=78)
    raw: Any = nvml.nvmlLib
    assert 0 == raw.nvmlEventSetWait(events, byref(data), 5000)
    assert (43, 77, 78) == (data.eventData, data.gpuInstanceId, data.computeInstanceId)
    nvml.nvmlEventSetFree(events)

"""The real binding reads what the state says: every function of the fake, every field, each value from its own key."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from ctypes import CDLL, byref, c_uint, c_ulonglong, create_string_buffer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.fakes.nvml import ANY, Answer, FakeNvml, Gpu, MigInstance, Process
from tests.fakes.nvml.build import library
from tests.fakes.nvml_tables import CLOCKS, FIELDS, PAIRS, PLACES, SCALARS, THRESHOLDS

GPU = 3
_FIXED = (
    "present",
    "pci.",
    "mig.",
    "events.",
    "inforom.",
    "gsp.",
    "affinity.",
    "process.",
    "accounting.pids",
    "fabric.",
)


@pytest.fixture
def nvml(fake_nvml: FakeNvml) -> Iterator[ModuleType]:
    with fake_nvml.binding() as pynvml:
        pynvml.nvmlInit()
        yield pynvml
        pynvml.nvmlShutdown()


@pytest.fixture
def gpu(fake_nvml: FakeNvml) -> Gpu:
    """A GPU in whose state each number is there once, so that no value can come from another's key."""
    gpu = fake_nvml.gpus[GPU]
    numbers = [key for key in gpu.names() if isinstance(gpu.get(key), int) and not key.startswith(_FIXED)]
    extra = ["fan.count", "fan.0.speed", "fan.1.speed", "fan.0.target", "fan.0.rpm", "fan.min", "fan.max"]
    extra += ["temperature.gpu_max", "power.source", "virtualization.host_vgpu", "power.module.instant"]
    extra += [
        f"ecc.{a}.{b}.{c}" for a in ("volatile", "aggregate") for b in ("corrected", "uncorrected") for c in PLACES
    ]
    extra += [f"clock.{c}.boost_max" for c in CLOCKS] + [f"clock.{c}.application_default" for c in CLOCKS]
    extra += [f"clock.{c}.application" for c in CLOCKS] + [f"temperature.threshold.{name}" for name in THRESHOLDS]
    extra += [f"{key.replace('%u', '5')}" for key in FIELDS.values() if "%s" not in key]
    gpu.update({key: 1000 + at for at, key in enumerate(dict.fromkeys([*numbers, *extra]))})
    return gpu


def value(field: Any) -> float | None:
    """Give a field's value by the type that it says it has; None where its return code is not success."""
    members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    return None if field.nvmlReturn else getattr(field.value, members[field.valueType])


@pytest.mark.parametrize("function", sorted(SCALARS))
def test_a_function_of_one_value_gives_that_of_its_key(nvml: ModuleType, gpu: Gpu, function: str) -> None:
    call = getattr(nvml, f"nvmlDeviceGet{function}")
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.set("retired.pending", 1)
    said = gpu.get(SCALARS[function])
    assert said is not None
    assert str(said) == str(call(handle))
    gpu.set(SCALARS[function], None)
    with pytest.raises(nvml.NVMLError_NotSupported):
        call(handle)
    gpu.set(SCALARS[function], Answer(999))
    with pytest.raises(nvml.NVMLError_Unknown):
        call(handle)


@pytest.mark.parametrize("function", sorted(PAIRS))
def test_a_function_of_two_values_gives_both_in_order(nvml: ModuleType, gpu: Gpu, function: str) -> None:
    gpu.update({"mig.mode": 0, "mig.mode.pending": 1, "gsp.default": 0})
    call = getattr(nvml, f"nvmlDeviceGet{function}")
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    assert [gpu.get(key) for key in PAIRS[function]] == list(call(handle))


def test_each_field_is_that_of_its_key_with_a_type_and_a_time(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    ids = [(getattr(nvml, f"NVML_FI_DEV_{name}"), 5) for name in FIELDS]
    fields = nvml.nvmlDeviceGetFieldValues(handle, ids)
    expected = {name: gpu.get(key.replace("%u", "5")) for name, key in FIELDS.items()}
    assert expected == {name: value(field) for name, field in zip(FIELDS, fields, strict=True)}
    assert all(field.timestamp > 1_600_000_000_000_000 and field.latencyUsec > 0 for field in fields)


def test_a_field_fails_for_itself_and_an_unknown_one_is_an_invalid_argument(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.memory_temperature = None
    fields = nvml.nvmlDeviceGetFieldValues(handle, [82, 83, 4000])
    assert [nvml.NVML_ERROR_NOT_SUPPORTED, 0, nvml.NVML_ERROR_INVALID_ARGUMENT] == [one.nvmlReturn for one in fields]


def test_a_field_may_lie_on_its_own_in_any_type(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.set_field(82, 511, kind="uint")
    gpu.set_field(83, -5, kind="sll")
    gpu.set_field(186, 0.5, kind="double")
    gpu.set_field(138, Answer(4), scope=2)
    fields = nvml.nvmlDeviceGetFieldValues(handle, [82, 83, 186, (138, 2), (138, 5)])
    assert [511, -5, 0.5, None, gpu.get("nvlink.5.tx_kib")] == [value(one) for one in fields]
    gpu.set_field(82, None)
    assert gpu.memory_temperature == value(nvml.nvmlDeviceGetFieldValues(handle, [82])[0])


def test_power_has_scopes_and_links_have_a_sum(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    average, instant = nvml.NVML_FI_DEV_POWER_AVERAGE, nvml.NVML_FI_DEV_POWER_INSTANT
    fields = nvml.nvmlDeviceGetFieldValues(handle, [average, instant, (instant, 1), (instant, 2), (average, 1)])
    keys = ["power.gpu.average", "power.gpu.instant", "power.module.instant", "power.memory.instant"]
    assert [*(gpu.get(key) for key in keys), None] == [value(one) for one in fields]
    sums = nvml.nvmlDeviceGetFieldValues(handle, [(138, ANY), nvml.NVML_FI_DEV_NVLINK_ECC_DATA_ERROR_COUNT_TOTAL])
    for name, total in zip(("tx_kib", "ecc_data"), sums, strict=True):
        assert sum(int(str(gpu.get(f"nvlink.{link}.{name}"))) for link in range(18)) == value(total)


def test_old_fields_of_links_go_on_elsewhere_from_link_six(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.set_link(6, replay=61)
    gpu.set_link(11, replay=111, speed_mbps=26562)
    names = ("REPLAY_ERROR_COUNT_L6", "REPLAY_ERROR_COUNT_L11", "SPEED_MBPS_L11", "REPLAY_ERROR_COUNT_L7")
    fields = nvml.nvmlDeviceGetFieldValues(handle, [getattr(nvml, f"NVML_FI_DEV_NVLINK_{name}") for name in names])
    assert [61, 111, 26562, None] == [value(one) for one in fields]


def test_texts_and_addresses_of_identity(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    assert ("2.1", "7.16") == tuple(nvml.nvmlDeviceGetInforomVersion(handle, at) for at in (0, 1))
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetInforomVersion(handle, nvml.NVML_INFOROM_POWER)
    nvml.nvmlDeviceValidateInforom(handle)
    gpu.set("inforom.valid", value=False)
    with pytest.raises(nvml.NVMLError_CorruptedInforom):
        nvml.nvmlDeviceValidateInforom(handle)
    assert gpu.get("gsp.version") == nvml.nvmlDeviceGetGspFirmwareVersion(handle).decode()
    gpu.update({"pci.domain": 0x1_0001, "pci.bus": 0x3B, "pci.device": 2})
    pci = nvml.nvmlDeviceGetPciInfo(handle)
    assert ("00010001:3B:02.0", "0001:3B:02.0") == (pci.busId, pci.busIdLegacy)
    assert (0x10001, 0x3B, 2, 0x233010DE, 0x16C110DE) == (
        *(pci.domain, pci.bus, pci.device),
        *(pci.pciDeviceId, pci.pciSubSystemId),
    )
    extended = nvml.nvmlPciInfoExt_v1_t(version=nvml.nvmlPciInfoExt_v1)
    nvml.nvmlDeviceGetPciInfoExt(handle, byref(extended))
    assert (3, 2, "00010001:3B:02.0") == (extended.baseClass, extended.subClass, extended.busId)


def test_platform_of_a_rack_machine(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    info = nvml.c_nvmlPlatformInfo_v2_t()
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetPlatformInfo(handle, byref(info))
    gpu.update({"platform.chassis_serial": "1820325191357", "platform.slot": 7, "platform.tray": 3, "platform.host": 1})
    gpu.update({"platform.peer_type": 1, "platform.module_id": 2})
    nvml.nvmlDeviceGetPlatformInfo(handle, byref(info))
    said = (info.chassisSerialNumber, info.slotNumber, info.trayIndex, info.hostId, info.peerType, info.moduleId)
    assert ("1820325191357", "\x07", "\x03", "\x01", "\x01", "\x02") == said


def test_temperatures_and_thresholds(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.temperature = 61
    assert 61 == nvml.nvmlDeviceGetTemperature(handle, 0) == nvml.nvmlDeviceGetTemperatureV(handle, 0)
    gpu.temperature = -4
    assert -4 == nvml.nvmlDeviceGetTemperatureV(handle, 0)
    assert gpu.get("temperature.gpu_max") == nvml.nvmlDeviceGetTemperatureV(handle, 1)
    for number, name in enumerate(THRESHOLDS):
        said = gpu.get(f"temperature.threshold.{name}")
        assert said == nvml.nvmlDeviceGetTemperatureThreshold(handle, number)


def test_clocks_of_all_kinds(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    single: dict[str, Callable[[Any, int], int]] = {
        "current": nvml.nvmlDeviceGetClockInfo,
        "max": nvml.nvmlDeviceGetMaxClockInfo,
        "application": nvml.nvmlDeviceGetApplicationsClock,
        "application_default": nvml.nvmlDeviceGetDefaultApplicationsClock,
        "boost_max": nvml.nvmlDeviceGetMaxCustomerBoostClock,
    }
    for number, name in enumerate(CLOCKS):
        for kind, call in single.items():
            assert gpu.get(f"clock.{name}.{kind}") == call(handle, number)
        for at, kind in enumerate(("current", "application", "application_default", "boost_max")):
            assert gpu.get(f"clock.{name}.{kind}") == nvml.nvmlDeviceGetClock(handle, number, at)
    assert [2619, 1593] == nvml.nvmlDeviceGetSupportedMemoryClocks(handle)
    assert [1980, 345] == nvml.nvmlDeviceGetSupportedGraphicsClocks(handle, 1593)
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetSupportedGraphicsClocks(handle, 7)


def test_utilisation_sessions_and_violations(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    assert (gpu.utilization, gpu.memory_utilization) == (rates.gpu, rates.memory)
    sessions = nvml.nvmlDeviceGetEncoderStats(handle)
    assert tuple(gpu.get(f"encoder.{key}") for key in ("sessions", "fps", "latency")) == sessions
    time = nvml.nvmlDeviceGetViolationStatus(handle, nvml.NVML_PERF_POLICY_TOTAL_BASE_CLOCKS)
    expected = (gpu.get("violation.base_clocks"), gpu.get("violation.reference"))
    assert expected == (time.violationTime, time.referenceTime)


def test_samples_since_a_time(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.set("samples.0", "100,70000;200,71000;300,72000")
    kind, samples = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_TOTAL_POWER_SAMPLES, 100)
    assert nvml.NVML_VALUE_TYPE_UNSIGNED_INT == kind
    assert [(200, 71000), (300, 72000)] == [(one.timeStamp, one.sampleValue.uiVal) for one in samples]
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetSamples(handle, nvml.NVML_TOTAL_POWER_SAMPLES, 300)


def test_version_one_of_memory_counts_reserved_as_used(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.update({"memory.total": 1 << 37, "memory.used": 5 << 33, "memory.reserved": 3 << 20})
    one, two = nvml.nvmlDeviceGetMemoryInfo(handle), nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    assert (1 << 37, (5 << 33) + (3 << 20)) == (one.total, one.used)
    assert (1 << 37, 5 << 33, 3 << 20) == (two.total, two.used, two.reserved)
    assert one.free == two.free == one.total - one.used
    gpu.update({"bar1.total": 1 << 37, "bar1.used": 1 << 33})
    bar = nvml.nvmlDeviceGetBAR1MemoryInfo(handle)
    assert (1 << 37, 1 << 33, (1 << 37) - (1 << 33)) == (bar.bar1Total, bar.bar1Used, bar.bar1Free)


def test_fans(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.set("fan.count", 2)
    assert gpu.get("fan.1.speed") == nvml.nvmlDeviceGetFanSpeed_v2(handle, 1)
    assert gpu.get("fan.0.target") == nvml.nvmlDeviceGetTargetFanSpeed(handle, 0)
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlDeviceGetFanSpeed_v2(handle, 2)


def test_ecc_by_location_and_in_total(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    for kind, type_name in enumerate(("corrected", "uncorrected")):
        for counter, counter_name in enumerate(("volatile", "aggregate")):
            begin = f"ecc.{counter_name}.{type_name}"
            total = nvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter)
            assert gpu.get(f"{begin}.total") == total
            said = [nvml.nvmlDeviceGetMemoryErrorCounter(handle, kind, counter, at) for at in range(8)]
            assert [gpu.get(f"{begin}.{place}") for place in PLACES] == said
            four = nvml.nvmlDeviceGetDetailedEccErrors(handle, kind, counter)
            assert said[:4] == [four.l1Cache, four.l2Cache, four.deviceMemory, four.registerFile]
    assert [gpu.get("ecc.mode.default")] == nvml.nvmlDeviceGetDefaultEccMode(handle)


def test_setting_ecc_keeps_the_totals_right(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[0].set_ecc(location="dram", uncorrected=True, volatile=2, aggregate=5)
    fake_nvml.gpus[0].set_ecc(location="sram", uncorrected=True, volatile=1, aggregate=1)
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert (3, 6) == tuple(nvml.nvmlDeviceGetTotalEccErrors(handle, 1, counter) for counter in (0, 1))


def test_sram_status_with_its_buckets(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    status = nvml.c_nvmlEccSramErrorStatus_v1_t()
    nvml.nvmlDeviceGetSramEccErrorStatus(handle, byref(status))
    said = [getattr(status, name) for name, _ in status._fields_[1:]]
    order = ["aggregate.parity", "aggregate.secded", "aggregate.corrected"]
    order += ["volatile.parity", "volatile.secded", "volatile.corrected"]
    order += [f"bucket.{part}" for part in ("l2", "sm", "pcie", "mcu", "other")] + ["threshold_exceeded"]
    assert [gpu.get(f"sram.{key}") for key in order] == said


def test_rows_and_pages(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    keys = ("corrected", "uncorrected", "pending", "failure")
    assert tuple(gpu.get(f"remapped.{key}") for key in keys) == nvml.nvmlDeviceGetRemappedRows(handle)
    gpu.set("remapped.histogram", "2555,4,3,2,1")
    rows = nvml.nvmlDeviceGetRowRemapperHistogram(handle)
    assert (2555, 4, 3, 2, 1) == (rows.max, rows.high, rows.partial, rows.low, rows.none)
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetRetiredPages(handle, 1)
    gpu.retire_page(0x7F_0000_1000, double_bit=True, at=1_700_000_000)
    gpu.retire_page(0xFFFF_0000_0000_1000, double_bit=True)
    assert [0x7F_0000_1000, 0xFFFF_0000_0000_1000] == nvml.nvmlDeviceGetRetiredPages(handle, 1)
    assert {"address": 0x7F_0000_1000, "timestamp": 1_700_000_000} == nvml.nvmlDeviceGetRetiredPages_v2(handle, 1)[0]
    sbe, dbe = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_RETIRED_SBE, nvml.NVML_FI_DEV_RETIRED_DBE])
    assert (None, 2) == (value(sbe), value(dbe))


def test_links_by_their_own_functions(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    assert gpu.get("nvlink.5.version") == nvml.nvmlDeviceGetNvLinkVersion(handle, 5)
    assert gpu.get("nvlink.5.state") == nvml.nvmlDeviceGetNvLinkState(handle, 5)
    gpu.set_link(5, capabilities=0b100101)
    gpu.update({"nvlink.5.remote.type": 2, "nvlink.5.remote.address": "10:c5:1f"})
    assert 2 == nvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, 5)
    assert "00000010:C5:1F.0" == nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, 5).busId
    assert [1, 0, 1, 0, 0, 1] == [nvml.nvmlDeviceGetNvLinkCapability(handle, 5, at) for at in range(6)]
    names = ("dl_replay", "dl_recovery", "crc_flit", "crc_data", "ecc_data")
    said = [nvml.nvmlDeviceGetNvLinkErrorCounter(handle, 5, at) for at in range(5)]
    assert [gpu.get(f"nvlink.5.{name}") for name in names] == said
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetNvLinkState(handle, 18)
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlDeviceGetNvLinkState(handle, nvml.NVML_NVLINK_MAX_LINKS)
    throughput = [nvml.nvmlDeviceGetPcieThroughput(handle, at) for at in (0, 1)]
    assert [gpu.get("pcie.tx_kib_per_second"), gpu.get("pcie.rx_kib_per_second")] == throughput


def test_the_fabric_in_all_versions_of_its_structure(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.update({"fabric.cluster_uuid": bytes(range(16)).hex(), "fabric.clique": 32766, "fabric.status": 3})
    gpu.update({"fabric.state": 2, "fabric.health_mask": 0x1A, "fabric.health_summary": 2})
    first, second, third = (
        nvml.c_nvmlGpuFabricInfo_t(),
        nvml.c_nvmlGpuFabricInfo_v2_t(),
        nvml.c_nvmlGpuFabricInfo_v3_t(),
    )
    nvml.nvmlDeviceGetGpuFabricInfo(handle, byref(first))
    nvml.nvmlDeviceGetGpuFabricInfoV(handle, byref(second))
    nvml.nvmlDeviceGetGpuFabricInfoV(handle, byref(third))
    for info in (first, second, third):
        assert (bytes(range(16)), 32766, 3, 2) == (bytes(info.clusterUuid), info.cliqueId, info.status, info.state)
    assert (0x1A, 0x1A, 2) == (second.healthMask, third.healthMask, third.healthSummary)
    second.version = 7
    with pytest.raises(nvml.NVMLError_ArgumentVersionMismatch):
        nvml.nvmlDeviceGetGpuFabricInfoV(handle, byref(second))


def test_processes_of_all_kinds(nvml: ModuleType, gpu: Gpu, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    assert [] == nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    gpu.set_processes("compute", [Process(101, used=5 << 33, gi=1, ci=2, protected=7), Process(102, used=None)])
    gpu.set_processes("graphics", [Process(103)])
    gpu.set_processes("mps", [Process(104), Process(105)])
    for version in ("", "_v2", "_v3"):
        first, second = getattr(nvml, f"nvmlDeviceGetComputeRunningProcesses{version}")(handle)
        assert (101, 5 << 33, 1, 2) == (first.pid, first.usedGpuMemory, first.gpuInstanceId, first.computeInstanceId)
        assert (102, None, ANY) == (second.pid, second.usedGpuMemory, second.gpuInstanceId)
        graphics = getattr(nvml, f"nvmlDeviceGetGraphicsRunningProcesses{version}")(handle)
        mps = getattr(nvml, f"nvmlDeviceGetMPSComputeRunningProcesses{version}")(handle)
        assert [[103], [104, 105]] == [[one.pid for one in graphics], [one.pid for one in mps]]
    with pytest.raises(TypeError):  # the binding cannot store its own None in the structure
        nvml.nvmlDeviceGetRunningProcessDetailList(handle, nvml.nvmlProcessDetailList_v1, 0)
    gpu.set_processes("compute", [Process(101, used=5 << 33, gi=1, ci=2, protected=7)])
    (one,) = nvml.nvmlDeviceGetRunningProcessDetailList(handle, nvml.nvmlProcessDetailList_v1, 0)
    said = (one.pid, one.usedGpuMemory, one.gpuInstanceId, one.computeInstanceId, one.usedGpuCcProtectedMemory)
    assert (101, 5 << 33, 1, 2, 7) == said
    fake_nvml.set("process.101.name", "/usr/bin/python3")
    assert "/usr/bin/python3" == nvml.nvmlSystemGetProcessName(101)
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlSystemGetProcessName(102)


def test_utilisation_and_accounting_by_process(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.set("process.utilization", "101,500,10,20,30,40;102,600,1,2,3,4")
    (one,) = nvml.nvmlDeviceGetProcessUtilization(handle, 500)
    assert (102, 600, 1, 2, 3, 4) == (one.pid, one.timeStamp, one.smUtil, one.memUtil, one.encUtil, one.decUtil)
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetProcessUtilization(handle, 600)
    gpu.update({"accounting.pids": "101;102", "accounting.101": f"10,20,{5 << 33},4000,1700000000,1"})
    assert [101, 102] == nvml.nvmlDeviceGetAccountingPids(handle)
    stats = nvml.nvmlDeviceGetAccountingStats(handle, 101)
    said = (stats.gpuUtilization, stats.memoryUtilization, stats.maxMemoryUsage, stats.time, stats.startTime)
    assert (10, 20, 5 << 33, 4000, 1700000000, 1) == (*said, stats.isRunning)


def test_topology_between_gpus(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(8)]
    assert nvml.NVML_TOPOLOGY_NODE == nvml.nvmlDeviceGetTopologyCommonAncestor(handles[0], handles[3])
    assert nvml.NVML_TOPOLOGY_SYSTEM == nvml.nvmlDeviceGetTopologyCommonAncestor(handles[0], handles[4])
    fake_nvml.set_topology(5, 2, level=30, read=5, write=4, nvlink=3, atomics=2, pci=1)
    for one, other in ((2, 5), (5, 2)):
        assert 30 == nvml.nvmlDeviceGetTopologyCommonAncestor(handles[one], handles[other])
        said = [nvml.nvmlDeviceGetP2PStatus(handles[one], handles[other], at) for at in range(5)]
        assert [5, 4, 3, 2, 1] == said
    near = nvml.nvmlDeviceGetTopologyNearestGpus(handles[2], nvml.NVML_TOPOLOGY_NODE)
    assert [0, 1, 3, 5] == [nvml.nvmlDeviceGetIndex(one) for one in near]


def test_affinity_as_words_of_a_mask(nvml: ModuleType, gpu: Gpu) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    gpu.update({"affinity.cpu.node": "ff;1", "affinity.cpu.socket": "ffff;3", "affinity.memory.node": "2"})
    assert [0xFF, 1, 0] == list(nvml.nvmlDeviceGetCpuAffinity(handle, 3))
    assert [0xFF, 1] == list(nvml.nvmlDeviceGetCpuAffinityWithinScope(handle, 2, nvml.NVML_AFFINITY_SCOPE_NODE))
    assert [0xFFFF, 3] == list(nvml.nvmlDeviceGetCpuAffinityWithinScope(handle, 2, nvml.NVML_AFFINITY_SCOPE_SOCKET))
    assert [2] == list(nvml.nvmlDeviceGetMemoryAffinity(handle, 1, nvml.NVML_AFFINITY_SCOPE_NODE))
    with pytest.raises(nvml.NVMLError_InsufficientSize):
        nvml.nvmlDeviceGetCpuAffinity(handle, 1)


def test_the_machine_and_its_handles(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    assert (8, "570.124.06", "12.570.124.06", 12080, 12080) == (
        nvml.nvmlDeviceGetCount(),
        nvml.nvmlSystemGetDriverVersion(),
        nvml.nvmlSystemGetNVMLVersion(),
        nvml.nvmlSystemGetCudaDriverVersion(),
        nvml.nvmlSystemGetCudaDriverVersion_v2(),
    )
    gpu = fake_nvml.gpus[5]
    handles = [
        nvml.nvmlDeviceGetHandleByIndex(5),
        nvml.nvmlDeviceGetHandleByUUID(str(gpu.uuid)),
        nvml.nvmlDeviceGetHandleBySerial(str(gpu.serial)),
        nvml.nvmlDeviceGetHandleByPciBusId("00000000:6B:00.0"),
        nvml.nvmlDeviceGetHandleByPciBusId("0000:6b:00.0"),
        nvml.nvmlDeviceGetHandleByPciBusId("6b:00.0"),
    ]
    assert {5} == {nvml.nvmlDeviceGetIndex(handle) for handle in handles}
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetHandleByUUID("GPU-0")
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlDeviceGetHandleByIndex(8)
    fake_nvml.set("excluded.count", 1)
    fake_nvml.set("excluded.0.uuid", "GPU-excluded")
    fake_nvml.set("excluded.0.bus", 0xAB)
    assert 1 == nvml.nvmlGetExcludedDeviceCount()
    excluded = nvml.nvmlGetExcludedDeviceInfoByIndex(0)
    assert ("GPU-excluded", "00000000:AB:00.0") == (excluded.uuid, excluded.pci.busId)


@pytest.mark.parametrize("gpus", [0, 1, 16])
def test_machines_of_other_sizes(tmp_path: Path, gpus: int) -> None:
    with FakeNvml.build(tmp_path, gpus=gpus) as fake, fake.binding() as pynvml:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())]
        addresses = {pynvml.nvmlDeviceGetPciInfo(handle).busId for handle in handles}
        assert gpus == len(handles) == len(addresses) == len({pynvml.nvmlDeviceGetUUID(handle) for handle in handles})


def test_more_gpus_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="65 GPUs"):
        FakeNvml.build(tmp_path, gpus=65)


def test_confidential_computing_of_the_machine(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    with fake_nvml.change():
        for at, key in enumerate(("cpu", "gpu", "environment", "feature", "devtools", "ready"), start=1):
            fake_nvml.set(f"cc.{key}", at)
    capabilities, state = nvml.nvmlSystemGetConfComputeCapabilities(), nvml.nvmlSystemGetConfComputeState()
    assert (1, 2) == (capabilities.cpuCaps, capabilities.gpusCaps)
    assert (3, 4, 5, 6) == (
        *(state.environment, state.ccFeature, state.devToolsMode),
        nvml.nvmlSystemGetConfComputeGpusReadyState(),
    )


def test_functions_that_the_binding_has_no_name_for_are_called_as_in_c(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    raw: Any = nvml.nvmlLib
    assert [0, 0, 0, 0] == [raw.nvmlInit_v2(), raw.nvmlInit(), raw.nvmlShutdown(), raw.nvmlShutdown()]
    handle, count = nvml.nvmlDeviceGetHandleByIndex(0), c_uint(4)
    fake_nvml.gpus[0].set_processes("compute", [Process(101, used=7)])
    entries = (c_ulonglong * 8)()  # two words each: pid and bytes
    for mode in ("Compute", "Graphics", "MPSCompute"):
        count.value = 4
        assert 0 == getattr(raw, f"nvmlDeviceGet{mode}RunningProcesses")(handle, byref(count), entries)
    assert (101, 7) == (entries[0], entries[1])
    assert "GPU is lost" == nvml.nvmlErrorString(nvml.NVML_ERROR_GPU_IS_LOST)
    text = create_string_buffer(4)
    assert nvml.NVML_ERROR_INSUFFICIENT_SIZE == raw.nvmlDeviceGetName(handle, text, c_uint(4))
    assert nvml.NVML_ERROR_INVALID_ARGUMENT == raw.nvmlDeviceGetGpuFabricInfo(handle, None)


def exported() -> set[str]:
    """Give all functions of the library."""
    listing = subprocess.run(["nm", "-D", "--defined-only", library()], capture_output=True, text=True, check=True)
    return {line.split()[2] for line in listing.stdout.splitlines()}


def test_no_two_functions_share_a_counter() -> None:
    from tests.fakes.nvml.control import counter_of

    assert 170 < len(exported()) == len({counter_of(function) for function in exported()})


def test_every_function_refuses_before_init_and_none_reaches_past_null(fake_nvml: FakeNvml) -> None:
    """With handles and pointers of zero each function still answers; this is what a caller's mistake gets."""
    raw = CDLL(str(fake_nvml.library))
    harmless = {"nvmlErrorString", "nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags"}
    for function in sorted(exported() - harmless):
        assert 1 == getattr(raw, function)(*[None] * 6), function
    assert 0 == raw.nvmlInitWithFlags(0)
    fake_nvml.set_mig(0, [MigInstance("1g.10gb", 0)])
    for function in sorted(exported() - harmless - {"nvmlShutdown"}):
        assert 2 == getattr(raw, function)(*[None] * 6), function
    assert 0 == raw.nvmlShutdown()


def test_metrics_between_two_samples(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    gpu, handle = fake_nvml.gpus[0], nvml.nvmlDeviceGetHandleByIndex(0)
    gpu.update({"gpm.2": 87.5, "gpm.5": 12.25, "gpm.2.1": 3.5})
    assert 1 == nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice
    samples = [nvml.nvmlGpmSampleAlloc() for _ in range(4)]
    for sample in samples[:2]:
        nvml.nvmlGpmSampleGet(handle, sample)
    for sample in samples[2:]:
        nvml.nvmlGpmMigSampleGet(handle, 1, sample)
    get = nvml.c_nvmlGpmMetricsGet_t(version=1, numMetrics=3, sample1=samples[0], sample2=samples[1])
    for at, metric in enumerate((2, 5, 400)):
        get.metrics[at].metricId = metric
    nvml.nvmlGpmMetricsGet(get)
    assert (87.5, 12.25, 3) == (get.metrics[0].value, get.metrics[1].value, get.metrics[2].nvmlReturn)
    get.sample1, get.sample2 = samples[2:]
    nvml.nvmlGpmMetricsGet(get)
    assert (3.5, 3) == (get.metrics[0].value, get.metrics[1].nvmlReturn)
    for one, two in ((samples[0], samples[2]), (samples[1], samples[0])):
        get.sample1, get.sample2 = one, two
        with pytest.raises(nvml.NVMLError_InvalidArgument):
            nvml.nvmlGpmMetricsGet(get)
    for sample in samples:
        nvml.nvmlGpmSampleFree(sample)
    gpu.set("gpm.supported", value=False)
    assert 0 == nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice


def test_what_newer_drivers_tell(nvml: ModuleType, gpu: Gpu, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(GPU)
    assert fake_nvml.get("driver.branch") == nvml.nvmlSystemGetDriverBranch().branch
    assert gpu.get("c2c.enabled") == nvml.nvmlDeviceGetC2cModeInfoV(handle).isC2cEnabled
    assert gpu.get("addressing_mode") == nvml.nvmlDeviceGetAddressingMode(handle)
    rows = nvml.c_nvmlRemappedRowsInfo_v2_t()
    nvml.nvmlDeviceGetRemappedRows_v2(handle, byref(rows))
    kinds = ("corrected", "corrected_inactive", "uncorrected", "uncorrected_inactive", "pending", "failure")
    assert [gpu.get(f"remapped.{kind}") for kind in kinds] == [getattr(rows, name) for name, _ in rows._fields_]
    banks = nvml.c_nvmlEccBankRemapperStatus_v1_t()
    nvml.nvmlDeviceGetBankRemapperStatus_v1(handle, byref(banks))
    states = (banks.activeRemappings, banks.inactiveRemappings, banks.bPending)
    groups = (banks.histogram.maxSpareGroupCount, banks.histogram.noSpareGroupCount)
    names = ("active", "inactive", "pending", "spare", "none")
    assert tuple(gpu.get(f"bank_remapped.{name}") for name in names) == (*states, *groups)

"""What goes wrong with GPUs and drivers, scripted: each fault is what the binding then sees, until it is taken back."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path
from types import ModuleType

import pytest

from tests.fakes.nvml import DRIVER_520_LACKS, Answer, FakeNvml, Process


@pytest.fixture
def nvml(fake_nvml: FakeNvml) -> Iterator[ModuleType]:
    with fake_nvml.binding() as pynvml:
        pynvml.nvmlInit()
        yield pynvml


def test_a_lost_gpu_fails_every_call_and_the_others_go_on(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    lost, other = nvml.nvmlDeviceGetHandleByIndex(2), nvml.nvmlDeviceGetHandleByIndex(3)
    fake_nvml.lose(2)
    for call in (nvml.nvmlDeviceGetUUID, nvml.nvmlDeviceGetIndex, nvml.nvmlDeviceGetPowerUsage):
        with pytest.raises(nvml.NVMLError_GpuIsLost):
            call(lost)
        call(other)
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlDeviceGetFieldValues(lost, [82])
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlDeviceGetHandleByIndex(2)
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlDeviceGetTopologyCommonAncestor(other, lost)
    assert 8 == nvml.nvmlDeviceGetCount()
    fake_nvml.restore(2)
    assert fake_nvml.gpus[2].uuid == nvml.nvmlDeviceGetUUID(lost)


def test_an_unplugged_gpu_is_gone_from_the_count_and_higher_indices_move(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    third, fourth = nvml.nvmlDeviceGetHandleByIndex(2), nvml.nvmlDeviceGetHandleByIndex(3)
    fake_nvml.unplug(2)
    assert 7 == nvml.nvmlDeviceGetCount()
    assert 2 == nvml.nvmlDeviceGetIndex(fourth)
    assert fake_nvml.gpus[3].uuid == nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(2))
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlDeviceGetName(third)
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetHandleByUUID(str(fake_nvml.gpus[2].uuid))
    fake_nvml.restore(2)
    assert (8, 3) == (nvml.nvmlDeviceGetCount(), nvml.nvmlDeviceGetIndex(fourth))


def test_a_gpu_that_needs_a_reset_says_so_and_its_handle_is_still_given(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    fake_nvml.require_reset(1)
    handle = nvml.nvmlDeviceGetHandleByIndex(1)
    with pytest.raises(nvml.NVMLError_ResetRequired):
        nvml.nvmlDeviceGetName(handle)


@pytest.mark.parametrize("code", [4, 9, 18, 999])
def test_init_fails_as_scripted_and_works_afterwards(fake_nvml: FakeNvml, code: int) -> None:
    fake_nvml.init_returns(code)
    with fake_nvml.binding() as pynvml:
        with pytest.raises(pynvml.NVMLError) as error:
            pynvml.nvmlInit()
        assert code == error.value.value
        with pytest.raises(pynvml.NVMLError_Uninitialized):
            pynvml.nvmlDeviceGetCount()
        fake_nvml.init_returns(0)
        pynvml.nvmlInit()
        assert 8 == pynvml.nvmlDeviceGetCount()


def test_sessions_are_counted(nvml: ModuleType) -> None:
    nvml.nvmlInit()
    nvml.nvmlShutdown()
    assert 8 == nvml.nvmlDeviceGetCount()
    nvml.nvmlShutdown()
    with pytest.raises(nvml.NVMLError_Uninitialized):
        nvml.nvmlDeviceGetCount()
    with pytest.raises(nvml.NVMLError_Uninitialized):
        nvml.nvmlShutdown()


def test_a_reloaded_driver_is_a_mismatch_for_whoever_had_the_library_and_none_for_others(fake_nvml: FakeNvml) -> None:
    with fake_nvml.binding() as pynvml:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        fake_nvml.reload_driver("575.51.03")
        for call in (lambda: pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetCount, pynvml.nvmlInit):
            with pytest.raises(pynvml.NVMLError_LibRmVersionMismatch):
                call()
        pynvml.nvmlShutdown()
        with pytest.raises(pynvml.NVMLError_LibRmVersionMismatch):
            pynvml.nvmlInit()
    assert "575.51.03" == child(fake_nvml, "print(pynvml.nvmlSystemGetDriverVersion())").stdout.strip()


def test_all_calls_may_fail_for_a_while(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    fake_nvml.all_return(999)
    for call in (nvml.nvmlDeviceGetCount, lambda: nvml.nvmlDeviceGetName(handle), nvml.nvmlInit):
        with pytest.raises(nvml.NVMLError_Unknown):
            call()
    fake_nvml.all_return(0)
    assert 8 == nvml.nvmlDeviceGetCount()


def test_a_machine_without_the_library(fake_nvml: FakeNvml) -> None:
    fake_nvml.remove_library()
    said = child(fake_nvml, "", init="try: pynvml.nvmlInit()\nexcept pynvml.NVMLError as error: print(error.value)")
    real = find_library("nvidia-ml") is not None  # then the child has found that one
    assert said.stdout.strip() == ("" if real else "12")


def test_an_older_driver_lacks_functions_and_has_the_rest(tmp_path: Path) -> None:
    with FakeNvml.build(tmp_path, gpus=1, missing=DRIVER_520_LACKS) as fake, fake.binding() as pynvml:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        assert 31 == pynvml.nvmlDeviceGetTemperature(handle, 0)
        assert 1 == pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        for call in (pynvml.nvmlDeviceGetCurrentClocksEventReasons, pynvml.nvmlDeviceGetModuleId):
            with pytest.raises(pynvml.NVMLError_FunctionNotFound):
                call(handle)


def test_one_call_fails_on_one_gpu_or_on_all(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    first, second = nvml.nvmlDeviceGetHandleByIndex(0), nvml.nvmlDeviceGetHandleByIndex(1)
    fake_nvml.returns("nvmlDeviceGetPowerUsage", nvml.NVML_ERROR_NOT_SUPPORTED, gpu=0)
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetPowerUsage(first)
    assert 70_000 == nvml.nvmlDeviceGetPowerUsage(second)
    fake_nvml.returns("nvmlDeviceGetPowerUsage", nvml.NVML_ERROR_NO_PERMISSION)
    with pytest.raises(nvml.NVMLError_NoPermission):
        nvml.nvmlDeviceGetPowerUsage(second)
    fake_nvml.heal("nvmlDeviceGetPowerUsage")
    assert 70_000 == nvml.nvmlDeviceGetPowerUsage(second)
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetPowerUsage(first)
    fake_nvml.heal()
    assert 70_000 == nvml.nvmlDeviceGetPowerUsage(first)
    fake_nvml.returns("*", nvml.NVML_ERROR_UNKNOWN, gpu=1)
    with pytest.raises(nvml.NVMLError_Unknown):
        nvml.nvmlDeviceGetName(second)
    nvml.nvmlDeviceGetName(first)


def test_a_call_fails_only_so_many_times(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    nvml.nvmlDeviceGetCount()
    fake_nvml.returns("nvmlDeviceGetCount_v2", nvml.NVML_ERROR_IN_USE, times=2)
    for _ in range(2):
        with pytest.raises(nvml.NVMLError_InUse):
            nvml.nvmlDeviceGetCount()
    assert 8 == nvml.nvmlDeviceGetCount()


def test_a_slow_call_takes_its_time_and_others_do_not(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    first, second = nvml.nvmlDeviceGetHandleByIndex(0), nvml.nvmlDeviceGetHandleByIndex(1)
    fake_nvml.sleeps("nvmlDeviceGetPowerUsage", 0.3, gpu=0)
    begun = time.monotonic()
    nvml.nvmlDeviceGetPowerUsage(first)
    assert time.monotonic() - begun >= 0.3
    begun = time.monotonic()
    nvml.nvmlDeviceGetPowerUsage(second)
    assert time.monotonic() - begun < 0.3


def test_a_call_that_hangs_holds_up_no_other_thread_and_ends_when_healed(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    first, second = nvml.nvmlDeviceGetHandleByIndex(0), nvml.nvmlDeviceGetHandleByIndex(1)
    fake_nvml.sleeps("nvmlDeviceGetPowerUsage", gpu=0)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(nvml.nvmlDeviceGetPowerUsage(first)))
    thread.start()
    try:
        for _ in range(50):
            assert 70_000 == nvml.nvmlDeviceGetPowerUsage(second)
        thread.join(0.2)
        assert thread.is_alive()
    finally:
        fake_nvml.heal()
        thread.join(20)
    assert [70_000] == answers


def test_a_call_that_crashes_ends_its_process_by_a_signal(fake_nvml: FakeNvml) -> None:
    fake_nvml.crashes("nvmlDeviceGetPowerUsage", gpu=1)
    code = "for at in (0, 1): print(pynvml.nvmlDeviceGetPowerUsage(pynvml.nvmlDeviceGetHandleByIndex(at)), flush=True)"
    said = child(fake_nvml, code)
    assert (-11, "70000") == (said.returncode, said.stdout.strip())


def test_lists_that_never_fit(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    fake_nvml.gpus[0].set_processes("compute", [Process(at) for at in range(1, 40)])
    assert 39 == len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    fake_nvml.never_enough("nvmlDeviceGetComputeRunningProcesses_v3")
    with pytest.raises(nvml.NVMLError_InsufficientSize):
        nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    fake_nvml.heal()
    assert 39 == len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))


def test_values_that_cannot_be(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handle, gpu = nvml.nvmlDeviceGetHandleByIndex(0), fake_nvml.gpus[0]
    gpu.power, gpu.temperature, gpu.energy = 0xFFFFFFFF, 511, 0xFFFF_FFFF_FFFF_FFFF
    assert (0xFFFFFFFF, 511, 0xFFFF_FFFF_FFFF_FFFF) == (
        nvml.nvmlDeviceGetPowerUsage(handle),
        nvml.nvmlDeviceGetTemperatureV(handle, 0),
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle),
    )
    (energy,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION])
    assert 0xFFFF_FFFF_FFFF_FFFF == energy.value.ullVal


def test_calls_are_counted_by_name_refused_ones_too(nvml: ModuleType, fake_nvml: FakeNvml) -> None:
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    fake_nvml.forget_calls()
    for _ in range(3):
        nvml.nvmlDeviceGetFieldValues(handle, [82])
    fake_nvml.lose(0)
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlDeviceGetFieldValues(handle, [82])
    assert (4, 0) == (fake_nvml.calls("nvmlDeviceGetFieldValues"), fake_nvml.calls("nvmlDeviceGetName"))


def test_two_processes_see_the_same_state_and_are_counted_together(fake_nvml: FakeNvml) -> None:
    code = (
        "handle = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
        "for line in sys.stdin: print(pynvml.nvmlDeviceGetTemperature(handle, 0), flush=True)"
    )
    processes = [start(fake_nvml, code) for _ in range(2)]
    try:
        for celsius in range(40, 60):
            fake_nvml.gpus[0].temperature = celsius
            assert [celsius, celsius] == [ask(process) for process in processes]
        assert 40 == fake_nvml.calls("nvmlDeviceGetTemperature")
    finally:
        for process in processes:
            process.communicate()
    assert [0, 0] == [process.returncode for process in processes]


def test_changes_of_a_block_are_seen_together(fake_nvml: FakeNvml) -> None:
    """A child reads two values in one call, while the script moves both, always to the same number."""
    code = (
        "handle = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
        "for _ in range(3000):\n"
        "    one, two = pynvml.nvmlDeviceGetMigMode(handle)\n"
        "    assert one == two, (one, two)"
    )
    process = start(fake_nvml, code)
    gpu = fake_nvml.gpus[0]
    at = 0
    while process.poll() is None:
        at += 1
        with fake_nvml.change():
            gpu.set("mig.mode", at)
            gpu.set("mig.mode.pending", at)
    process.communicate()
    assert 0 == process.returncode
    assert at > 5


def test_an_answer_stands_in_the_place_of_a_value(fake_nvml: FakeNvml) -> None:
    gpu = fake_nvml.gpus[0]
    gpu.power = Answer(21)
    assert Answer(21) == gpu.power == gpu.get("power.usage")
    gpu.power = None
    assert gpu.power is None


def start(fake: FakeNvml, code: str, init: str = "pynvml.nvmlInit()") -> "subprocess.Popen[str]":
    """Start a process that has the binding, finds this NVML, and does `code`."""
    command = [sys.executable, "-c", f"import sys, pynvml\n{init}\n{code}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=fake.env, stdin=pipe, stdout=pipe, text=True)


def child(fake: FakeNvml, code: str, init: str = "pynvml.nvmlInit()") -> "subprocess.CompletedProcess[str]":
    process = start(fake, code, init)
    stdout, _ = process.communicate(timeout=120)
    return subprocess.CompletedProcess(code, process.returncode, stdout)


def ask(process: "subprocess.Popen[str]") -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return int(process.stdout.readline())

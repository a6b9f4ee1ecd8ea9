"""Each thing that can be wrong with library, driver or GPU is a state of its own, and never a zero."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from collectors.contract import Context
from collectors.nvml import NvmlCollector
from collectors.nvml.collector import NvmlConfig
from collectors.nvml.presence import look
from schemas.errors import NewProcessError, NoDataError, StartupError
from schemas.rows import Event, Item, Severity
from tests.collectors.nvml.help import Machine, machine
from tests.fakes.nvml import Answer, FakeNvml, Process
from tests.needs import REPOSITORY


def _devices(made: Machine) -> set[str]:
    return {row.device for row in made.rows()}


# --- before there is a GPU --------------------------------------------------------------------------------------------


def _bus(root: Path, *drivers: str) -> Path:
    """Make a machine below `root` with one GPU for each driver that is named, "" for none."""
    for number, driver in enumerate(drivers):
        folder = root / f"sys/bus/pci/devices/0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text("0x10de\n")
        (folder / "class").write_text("0x030200\n")
        if driver:
            (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
    return root


def _start(root: Path) -> None:
    NvmlCollector(NvmlConfig(), Context(subject="node-a", log=logging.getLogger("nvml"), root=root)).start()


def _started_apart(root: Path, config: NvmlConfig, *, before: str = "") -> str:
    """Start in a process that has loaded no library yet, after some code, and give what StartupError says."""
    code = (
        f"{before}\nimport logging; from pathlib import Path; from collectors.contract import Context\n"
        "from collectors.nvml import NvmlCollector; from schemas.errors import StartupError\n"
        f"context = Context(subject='n', log=logging.getLogger('n'), root=Path({str(root)!r}))\n"
        f"try: NvmlCollector(NvmlCollector.Config(library={config.library!r}), context).start()\n"
        "except StartupError as error: print(error)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout


@pytest.mark.parametrize(
    ("drivers", "text"),
    [
        ((), "no NVIDIA GPU here"),
        (("vfio-pci", "vfio-pci"), "2 NVIDIA GPUs are bound to vfio-pci"),
        (("nouveau",), "bound to nouveau"),
        (("", ""), "driver is not loaded"),
    ],
)
def test_machine_without_the_driver_has_nothing_to_read_and_says_why(
    tmp_path: Path, drivers: tuple[str, ...], text: str
) -> None:
    """R002-5: GPUs bound to vfio-pci are not NVML's."""
    with pytest.raises(NoDataError, match=text):
        _start(_bus(tmp_path, *drivers))


def test_driver_of_some_gpus_is_enough(tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build\nGCC version: 12\n"
    )
    found = look(_bus(tmp_path, "vfio-pci", "nvidia"))
    assert ("", "570.124.06") == (found.missing, found.version)


def test_library_that_is_not_there_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert "libnvidia-ml.so.1 is not here: install" in _started_apart(tmp_path, NvmlConfig())


def test_binding_that_is_not_there_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    without = "import sys; sys.modules['pynvml'] = None"
    assert "pip install nvidia-ml-py" in _started_apart(tmp_path, NvmlConfig(), before=without)


def test_library_of_a_wrong_path_is_told(tmp_path: Path) -> None:
    assert "/none/lib.so cannot be loaded" in _started_apart(tmp_path, NvmlConfig(library="/none/lib.so"))


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (9, NewProcessError, "modprobe nvidia"),
        (18, NewProcessError, "upgraded and not reloaded"),
        (999, NewProcessError, "daemon-reload"),
        (4, StartupError, "run the agent as root"),
        (20, StartupError, "kernel log"),
    ],
)
def test_what_the_library_says_at_first_is_told_with_its_remedy(
    fake_nvml: FakeNvml, code: int, error: type[StartupError], text: str
) -> None:
    fake_nvml.init_returns(code)
    with pytest.raises(StartupError, match=text) as caught, machine(fake_nvml):
        pass
    assert error is caught.type
    assert caught.value.retry


def test_driver_without_a_gpu_has_nothing_to_read(tmp_path: Path) -> None:
    with FakeNvml.build(tmp_path, gpus=0) as fake:
        with pytest.raises(NoDataError, match="shows no GPU"), machine(fake):
            pass


# --- the library is older than the binding ----------------------------------------------------------------------------


def test_calls_that_an_older_driver_has_not_are_tried_once_and_older_ones_are_used(tmp_path: Path) -> None:
    missing = (
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetMarginTemperature",
        "nvmlDeviceGetGpuFabricInfoV",
    )
    with FakeNvml.build(tmp_path, missing=missing) as fake:
        fake.gpus[0].temperature, fake.gpus[0].clock_reasons = 55, 4
        with machine(fake) as made:
            row = made.row()
            unsupported = made.document().unsupported
    assert (55.0, 4) == (row["temperature_celsius"], row["throttle_reasons"])
    assert "memory_used_bytes" in row
    assert "memory_reserved_bytes" not in row
    assert "gpu.temperature_margin_celsius" in unsupported


# --- one GPU ----------------------------------------------------------------------------------------------------------


def test_lost_gpu_is_told_once_and_the_others_go_on(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        assert 8 == len(_devices(made))
        fake_nvml.lose(3)
        for _ in range(3):
            made.later(5.0)
            assert 7 == len(_devices(made))
            assert made.device(3) not in _devices(made)
        assert "GPU is lost" in made.partial
        (told,) = made.events()
        assert ("nvml.gpu.lost", made.device(3), Severity.CRITICAL) == (told.type, told.device, told.severity)
        assert "0000:4b:00.0" == told.detail["address"]
        assert made.device(3) not in made.documents(), "the inventory has it as absent"
        fake_nvml.restore(3)
        made.later(5.0)
        assert made.device(3) in _devices(made)
        assert [("nvml.gpu.back", made.device(3))] == made.told()
        assert made.device(3) in made.documents()


def test_one_field_that_says_lost_loses_the_gpu(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[0].set_field(83, Answer(15))
    with machine(fake_nvml) as made:
        assert made.device(0) not in _devices(made)
        assert [("nvml.gpu.lost", made.device(0))] == made.told()


def test_gpu_that_was_lost_before_the_start_is_counted_and_cannot_be_named(fake_nvml: FakeNvml) -> None:
    fake_nvml.lose(2)
    with machine(fake_nvml) as made:
        assert 7 == len(_devices(made))
        assert "GPU 2 cannot be asked" in made.partial


def test_gpu_that_needs_a_reset_is_described_as_that(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        made.items()
        fake_nvml.require_reset(1)
        made.items()
        assert [("nvml.gpu.reset_required", made.device(1))] == made.told()
        told = made.document(1)
        assert (True, "NVIDIA H100 80GB HBM3") == (told.capabilities["reset_required"], told.part.model)
        fake_nvml.restore(1)
        assert "reset_required" not in made.document(1).capabilities
        fake_nvml.require_reset(1)
        assert made.document(1).capabilities["reset_required"] is True, "whoever asks first finds out"


def test_gpu_that_was_unplugged_is_gone_and_numbers_of_others_do_not_matter(
    fake_nvml: FakeNvml, tmp_path: Path
) -> None:
    gpus = tmp_path / "root/proc/driver/nvidia/gpus"
    for bus in range(0x1B, 0x1B + 0x80, 0x10):
        (gpus / f"0000:{bus:02x}:00.0").mkdir(parents=True)
    with machine(fake_nvml, root=tmp_path / "root") as made:
        before = _devices(made)
        fake_nvml.unplug(0)
        (gpus / "0000:1b:00.0").rmdir()
        made.later()
        assert before - {made.device(0)} == _devices(made)
        made.later()
        made.items()
        assert ["nvml.gpu.lost", "nvml.gpu.gone"] == [type_ for type_, _ in made.told()]
        made.later()
        made.items()
        assert "" == made.partial, "what is gone is no failure"


def test_gpu_that_came_later_needs_a_new_process(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    gpus = tmp_path / "root/proc/driver/nvidia/gpus"
    (gpus / "0000:1b:00.0").mkdir(parents=True)
    with machine(fake_nvml, root=tmp_path / "root") as made:
        made.items()
        (gpus / "0000:99:00.0").mkdir()
        made.later()
        with pytest.raises(NewProcessError, match=r"0000:99:00\.0"):
            made.items()


def test_value_that_fails_for_the_moment_costs_nothing_else(fake_nvml: FakeNvml) -> None:
    fake_nvml.returns("nvmlDeviceGetFieldValues", 999, gpu=0)
    with machine(fake_nvml) as made:
        row = made.row()
    assert "energy_joules_total" not in row
    assert 31.0 == row["temperature_celsius"]


def test_rights_that_lack_are_named_with_what_is_lost(fake_nvml: FakeNvml) -> None:
    fake_nvml.returns("nvmlDeviceGetSerial", 4)
    with machine(fake_nvml) as made:
        document = made.document()
        assert 8 == len(made.rows())
        assert "not permitted: nvmlDeviceGetSerial; run the agent as root" in made.partial
    assert (["nvmlDeviceGetSerial"], "") == (document.capabilities["not_permitted"], document.part.serial)


def test_lost_gpu_is_absent_whatever_may_not_be_asked(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    fake_nvml.returns("nvmlDeviceGetSerial", 4)
    with machine(fake_nvml) as made:
        assert 8 == len(made.documents())
        fake_nvml.lose(3)
        made.items()
        assert (7, "") == (len(made.documents()), made.partial), "what was described before is not kept"


def test_list_of_programs_that_never_fits_is_absent(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[0].set_processes("compute", [Process(1, 1)])
    for mode in ("Compute", "Graphics", "MPSCompute"):
        fake_nvml.never_enough(f"nvmlDeviceGet{mode}RunningProcesses_v3")
        fake_nvml.never_enough(f"nvmlDeviceGet{mode}RunningProcesses_v2")
    with machine(fake_nvml) as made:
        assert "processes" not in made.row()


# --- the driver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 9, 18])
def test_driver_that_goes_under_the_collector_needs_a_new_process_and_is_told(fake_nvml: FakeNvml, code: int) -> None:
    with machine(fake_nvml) as made:
        made.items()
        fake_nvml.all_return(code)
        found: list[Item] = []
        with pytest.raises(NewProcessError, match="unloaded or reloaded"):
            found.extend(made.collector.collect())
        fake_nvml.all_return(0)
    assert ["nvml.driver.gone"] == [item.type for item in found if isinstance(item, Event)]


def test_next_process_tells_what_driver_there_is_now(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    _boot(tmp_path)
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path) as made:
        assert [] == made.told(), "there is nothing to compare with"
    kept = tmp_path / "seen.json"
    kept.write_text(kept.read_text().replace("570.124.06", "565.57.01"))  # as another driver left it
    fake_nvml.unplug(7)
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path) as made:
        loaded, gone = made.events()
    assert ("nvml.driver.loaded", "570.124.06", "565.57.01") == (
        loaded.type,
        loaded.detail["version"],
        loaded.detail["version_before"],
    )
    assert ("nvml.gpu.gone", made.device(7)) == (gone.type, gone.device)
    fake_nvml.restore(7)
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path) as made:
        assert [("nvml.gpu.new", made.device(7))] == made.told()


def test_gpu_that_went_is_told_though_the_process_that_noticed_it_told_nobody(
    fake_nvml: FakeNvml, tmp_path: Path
) -> None:
    _boot(tmp_path)
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path):
        pass
    fake_nvml.unplug(7)
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path):
        pass  # its watch never turned
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path) as made:
        assert [("nvml.gpu.gone", made.device(7))] == made.told()


def _boot(tmp_path: Path) -> None:
    boot = tmp_path / "root/proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("this-boot")


# --- a GPU that hangs its reader --------------------------------------------------------------------------------------


def test_gpu_whose_reader_never_came_back_is_left_alone_for_longer_each_time(
    fake_nvml: FakeNvml, tmp_path: Path
) -> None:
    _boot(tmp_path)
    uuid = str(fake_nvml.gpus[5].uuid)
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path):
        pass
    for times, seconds in ((1, 60), (2, 120), (3, 240)):
        (tmp_path / "asked").write_text(uuid)  # as a process that was killed leaves it
        with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path) as made:
            hung = [event for event in made.events() if event.type == "nvml.gpu.hung"]
            assert [(times, seconds)] == [(event.detail["times"], event.detail["seconds"]) for event in hung]
            assert 7 == len(_devices(made))
            made.later(seconds - 1)
            assert 7 == len(_devices(made))
            made.later(1)
            assert 8 == len(_devices(made))


def test_gpu_that_was_asked_when_the_machine_went_down_is_not_to_blame(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    _boot(tmp_path)
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path):
        pass
    (tmp_path / "asked").write_text(str(fake_nvml.gpus[5].uuid))
    (tmp_path / "root/proc/sys/kernel/random/boot_id").write_text("another-boot")
    with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path) as made:
        assert 8 == len(_devices(made))


def test_gpu_that_answers_leaves_no_mark(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    with machine(fake_nvml, state_dir=tmp_path) as made:
        made.items()
        made.documents()
        assert "" == (tmp_path / "asked").read_text().strip()


# --- what changes -----------------------------------------------------------------------------------------------------


def _after(made: Machine) -> list[tuple[str, str]]:
    made.later()
    made.items()
    return made.told()


def test_changes_are_told_once(fake_nvml: FakeNvml) -> None:
    gpu = fake_nvml.gpus[0]
    changes: tuple[tuple[Callable[[], None], str], ...] = (
        (lambda: gpu.set("remapped.pending", 1), "nvml.row_remap.pending"),
        (lambda: gpu.set("remapped.failure", 1), "nvml.row_remap.failed"),
        (lambda: gpu.set_ecc(location="dram", uncorrected=True, volatile=2), "nvml.ecc.uncorrected"),
        (lambda: gpu.set("recovery_action", 4), "nvml.gpu.recovery_action"),
        (lambda: gpu.set("recovery_action", 0), "nvml.gpu.recovery_action"),
        (lambda: gpu.set("power.limit.enforced", 500_000), "nvml.power_limit.changed"),
        (lambda: gpu.set_link(4, state=0), "nvml.nvlink.down"),
        (lambda: gpu.set_link(4, state=1), "nvml.nvlink.up"),
        (lambda: gpu.set("fabric.state", 2), "nvml.fabric.changed"),
        (lambda: gpu.set_processes("compute", [Process(7, 1)]), "nvml.gpu.taken"),
        (lambda: gpu.set_processes("compute", []), "nvml.gpu.left"),
    )
    with machine(fake_nvml) as made:
        made.items()
        assert [] == _after(made)
        for change, expected in changes:
            change()
            assert [(expected, made.device(0))] == _after(made)
            assert [] == _after(made)


def test_row_that_was_replaced_is_told(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        made.items()
        fake_nvml.gpus[0].set("remapped.uncorrected", 3)
        assert [("nvml.row_remap.done", made.device(0))] == _after(made)


def test_what_a_gpu_needs_stands_in_its_document(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[0].recovery_action = 2
    with machine(fake_nvml) as made:
        assert "reboot" == made.document(0).capabilities["recovery_action"]

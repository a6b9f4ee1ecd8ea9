"""The collector in real helpers of an agent: what hangs, crashes or is reloaded harms only itself, and it goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from collectors._lending import lent
from collectors.status import CollectorSetup, State
from schemas.device import decode_document
from schemas.rows import EVENT
from tests.collectors.runtime.rig import FAST, Rig, running
from tests.fakes.nvml import FakeNvml


@contextmanager
def _agent(fake: FakeNvml, folder: Path) -> Iterator[Rig]:
    """Run the collector, with a folder that outlives its helpers, until the block ends."""
    (folder / "root/proc/sys/kernel/random").mkdir(parents=True)
    (folder / "root/proc/sys/kernel/random/boot_id").write_text("this-boot")
    options = msgspec.structs.replace(FAST, state_dir=folder / "state", root=folder / "root")
    setup = CollectorSetup(
        name="nvml",
        factory="collectors.nvml:NvmlCollector",
        config={"library": str(fake.library), "health_every_seconds": 0.4, "links_every_seconds": 0.4},
        interval=0.2,
        timeout=1.0,
    )
    with running(setup, options=options) as rig:
        rig.until(lambda: _devices(rig))
        yield rig


def _devices(rig: Rig) -> set[str]:
    """Give the GPUs of the last rows that were taken."""
    blocks = [parcel.block for parcel in rig.intake.parcels("nvml") if parcel.block.measurement == "gpu"]
    return {key[0] for key in blocks[-1].keys} if blocks else set()


def _told(rig: Rig) -> list[str]:
    blocks = [parcel.block for parcel in rig.intake.parcels("nvml") if parcel.block.measurement == EVENT]
    return [str(type_) for block in blocks for type_ in block.strings["type"]]


def test_eight_gpus_are_rows_and_documents(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    with _agent(fake_nvml, tmp_path) as rig:
        assert {f"gpu:{gpu.uuid}" for gpu in fake_nvml.gpus} == _devices(rig)
        rig.until(lambda: rig.intake.documents("nvml"))
        documents = [decode_document(text) for text in rig.intake.documents("nvml")[-1]]
        assert _devices(rig) == {document.device for document in documents}
        assert {} == rig.status("nvml").errors


def test_event_has_its_gpu_read_and_described_at_once(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    with _agent(fake_nvml, tmp_path) as rig:
        rig.until(lambda: rig.intake.documents("nvml"))
        rig.until(lambda: fake_nvml.calls("nvmlEventSetWait_v2"))
        looks = len(rig.intake.documents("nvml"))
        fake_nvml.lose(2)
        rig.until(lambda: "nvml.gpu.lost" in _told(rig))
        rig.until(lambda: len(rig.intake.documents("nvml")) > looks, 20.0)
        assert 7 == len(rig.intake.documents("nvml")[-1]), "a lost GPU is absent from the inventory"
        assert State.RUNNING is rig.status("nvml").state


def test_gpu_that_hangs_for_ever_costs_its_helper_and_then_nothing(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    """Promise 5: the other seven go on, and the bad one is left alone."""
    with _agent(fake_nvml, tmp_path) as rig:
        fake_nvml.sleeps("nvmlDeviceGetUtilizationRates", gpu=3)
        rig.until(lambda: rig.status("nvml").timeouts)
        rig.until(lambda: "nvml.gpu.hung" in _told(rig))
        rig.until(lambda: 7 == len(_devices(rig)))
        assert f"gpu:{fake_nvml.gpus[3].uuid}" not in _devices(rig)
        assert 1 == rig.status("nvml").timeouts
        assert "collector.helper.killed" in [type_ for type_, _ in rig.told]


def test_gpu_that_crashes_the_library_costs_its_helper_and_then_nothing(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    with _agent(fake_nvml, tmp_path) as rig:
        fake_nvml.crashes("nvmlDeviceGetPerformanceState", gpu=6)
        rig.until(lambda: rig.status("nvml").crashes)
        rig.until(lambda: "nvml.gpu.hung" in _told(rig))
        rig.until(lambda: 7 == len(_devices(rig)))
        assert f"gpu:{fake_nvml.gpus[6].uuid}" not in _devices(rig)


def test_driver_that_is_reloaded_is_gone_on_with_in_a_new_process(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    with _agent(fake_nvml, tmp_path) as rig:
        rig.until(lambda: State.RUNNING is rig.status("nvml").state)
        before = rig.status("nvml").helper_pid
        fake_nvml.reload_driver("575.51.03")
        rig.until(lambda: {"nvml.driver.gone", "nvml.driver.loaded"} <= set(_told(rig)))
        rig.until(lambda: State.RUNNING is rig.status("nvml").state)
        assert rig.status("nvml").helper_pid not in (None, before)
        rig.until(lambda: '"driver_version":"575.51.03"' in "".join(rig.intake.documents("nvml")[-1]))
        assert 8 == len(_devices(rig))
        assert (0, 0) == (rig.status("nvml").timeouts, rig.status("nvml").crashes), "nothing was killed for it"


def test_step_of_a_claim_gets_the_gpus_and_gives_them_back(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    """A GPU that we had open could be neither reset nor handed over."""
    with _agent(fake_nvml, tmp_path) as rig:
        before = rig.status("nvml").helper_pid
        assert before is not None
        with lent(str(tmp_path / "state" / "nvml")) as refused:
            assert "" == refused
            rig.until(lambda: not Path(f"/proc/{before}").exists())
            rig.until(lambda: "a claim's step has the GPUs" in rig.status("nvml").last_error)
        rig.until(lambda: State.RUNNING is rig.status("nvml").state)
        assert "nvml.driver.gone" not in _told(rig)
        assert 8 == len(rig.intake.documents("nvml")[-1]), "nobody took them for gone meanwhile"


@pytest.mark.parametrize("code", [9, 18, 999])
def test_driver_that_is_not_there_is_waited_for(fake_nvml: FakeNvml, tmp_path: Path, code: int) -> None:
    with _agent(fake_nvml, tmp_path) as rig:
        fake_nvml.init_returns(code)
        fake_nvml.all_return(18)
        rig.until(lambda: State.BACKING_OFF is rig.status("nvml").state and "NVML" in rig.status("nvml").last_error)
        fake_nvml.all_return(0)
        fake_nvml.init_returns(0)
        rig.until(lambda: State.RUNNING is rig.status("nvml").state)


def test_machine_without_a_gpu_keeps_no_helper(tmp_path: Path) -> None:
    setup = CollectorSetup(name="nvml", factory="collectors.nvml:NvmlCollector", interval=0.2)
    options = msgspec.structs.replace(FAST, root=tmp_path, probe_every=600.0)
    with running(setup, options=options) as rig:
        rig.until(lambda: State.NO_DATA is rig.status("nvml").state)
        assert rig.status("nvml").helper_pid is None
        assert "There is no NVIDIA GPU here." == rig.status("nvml").last_error

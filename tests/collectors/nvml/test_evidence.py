"""What a GPU shows after its clean: reset, users, memory; and how it is lent to who cleans it."""

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collectors._lending import Lending, lent
from collectors.claims.options import Hook
from collectors.claims.order import Order
from collectors.claims.proof import evidence_of, note
from collectors.claims.runner import perform
from collectors.contract import Context
from collectors.nvml import NvmlCollector
from collectors.nvml.collector import LentError, NvmlConfig
from schemas.claims import ClaimDevice, Step
from schemas.errors import StartupError
from schemas.evidence import GpuReadback, PartitionReadback
from tests.collectors.nvml.help import machine, watching
from tests.fakes.nvml import Answer, FakeNvml, MigInstance, Process

ADDRESS = "0000:1b:00.0"


def _root(root: Path, driver: str = "nvidia") -> Path:
    """Make a machine whose first GPU the driver has, and whose processes can all be seen."""
    folder = root / "sys/bus/pci/devices" / ADDRESS
    folder.mkdir(parents=True)
    for name, text in (("vendor", "0x10de"), ("device", "0x2330"), ("class", "0x030200")):
        (folder / name).write_text(text)
    (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
    (root / "dev").mkdir()
    (root / "dev/nvidiactl").touch()
    gpu = root / "proc/driver/nvidia/gpus" / ADDRESS
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: NVIDIA H100\nDevice Minor: \t 0\n")
    return root


def _order(fake: FakeNvml, root: Path, **changes: Any) -> Order:
    part = f"uuid:{fake.gpus[0].uuid}"
    fields: dict[str, Any] = {"kind": "gpu", "address": ADDRESS, "clean": 12, **changes}
    device = ClaimDevice("gpu-a", fields.pop("kind"), part, fields.pop("address"), "", "driver", -1, (), part, **fields)
    return Order(Step.CLEAN, "c-1", "t", "job", 1, 5, device, root=str(root))


def _gpu(fake: FakeNvml, tmp_path: Path, between: Callable[[], object] = lambda: None) -> GpuReadback:
    """Give the evidence of a clean between whose looks something happens."""
    root = _root(tmp_path / "root")
    order = _order(fake, root)
    with fake.binding():
        before = note(root, order)
        between()
        _, document = evidence_of(root, order, before=before)
    assert isinstance(document, GpuReadback)
    return document


def test_counters_that_begin_anew_prove_a_reset(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    gpu = fake_nvml.gpus[0]
    found = _gpu(fake_nvml, tmp_path, lambda: setattr(gpu, "energy", 5))
    assert (True, 0, "passed") == (found.reset_seen, found.processes, found.memory_check)


@pytest.mark.parametrize("energy", [None, 9_999_999_999])
def test_counters_that_only_grow_or_are_not_told_prove_nothing(
    fake_nvml: FakeNvml, tmp_path: Path, energy: int | None
) -> None:
    gpu = fake_nvml.gpus[0]
    assert not _gpu(fake_nvml, tmp_path, lambda: setattr(gpu, "energy", energy)).reset_seen


@pytest.mark.parametrize("number", [197, 198])
def test_count_of_bytes_that_wraps_is_no_reset(fake_nvml: FakeNvml, tmp_path: Path, number: int) -> None:
    gpu = fake_nvml.gpus[0]
    gpu.set_field(number, (1 << 32) - 1)
    assert not _gpu(fake_nvml, tmp_path, lambda: gpu.set_field(number, 7)).reset_seen


def test_programs_on_the_gpu_are_counted(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    fake_nvml.gpus[0].set_processes("compute", [Process(4, 1), Process(5, 1)])
    assert 2 == _gpu(fake_nvml, tmp_path).processes


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda gpu: gpu.set_ecc(location="dram", uncorrected=True, volatile=1), "failed"),
        (lambda gpu: gpu.set("remapped.pending", 1), "failed"),
        (lambda gpu: gpu.set("remapped.failure", 1), "failed"),
        (lambda gpu: gpu.set("ecc.mode", 0), "not-run"),
        (lambda gpu: gpu.set("ecc.mode", None), "unsupported"),
        (lambda gpu: gpu.set_field(4, Answer(999)), "unsupported"),
    ],
)
def test_memory_is_good_only_when_ecc_says_so(
    fake_nvml: FakeNvml, tmp_path: Path, change: Callable[[Any], None], check: str
) -> None:
    change(fake_nvml.gpus[0])
    assert check == _gpu(fake_nvml, tmp_path).memory_check


def test_gpu_that_the_driver_does_not_show_proves_nothing(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    fake_nvml.unplug(0)
    found = _gpu(fake_nvml, tmp_path)
    assert (False, "unsupported") == (found.reset_seen, found.memory_check)


def test_partition_is_gone_when_nothing_is_in_its_place(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    """A GPU instance without a compute instance takes its place all the same."""
    root = _root(tmp_path / "root")
    order = _order(fake_nvml, root, kind="gpu-partition", address="", parent=ADDRESS, profile="3g.40gb@4:4")
    found = []
    check = ""
    for layout in ([MigInstance("3g.40gb", 4)], [MigInstance("1g.10gb", 6)], [MigInstance("3g.40gb", 0)], []):
        fake_nvml.set_mig(0, layout)
        with fake_nvml.binding():
            _, document = evidence_of(root, order)
        assert isinstance(document, PartitionReadback)
        found.append(document.gone)
        check = document.memory_check
    assert [False, False, True, True] == found
    assert "passed" == check


# --- lending ----------------------------------------------------------------------------------------------------------


def test_step_waits_until_the_collector_has_let_go(tmp_path: Path) -> None:
    ours = Lending(tmp_path)
    assert ours.use()
    with lent(str(tmp_path), 0.2) as refused:
        assert "did not let go" in refused
        assert ours.asked()
        ours.let_go()
        with lent(str(tmp_path), 0.2) as other:
            assert "" == other, "several steps may have them"
        assert not ours.use()
    assert ours.use()
    ours.let_go()


def test_nobody_has_to_lend_what_nobody_reads(tmp_path: Path) -> None:
    with lent("", 0.1) as one, lent(str(tmp_path / "none"), 0.1) as two:
        assert ("", "") == (one, two)


def test_collector_ends_its_process_when_a_step_asks(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    with machine(fake_nvml, state_dir=tmp_path) as made, watching(made) as watch:
        made.items()
        with lent(str(tmp_path), 0.0):
            assert watch.ended(5.0)
            assert isinstance(watch.error, LentError)
            assert [] == watch.events, "the driver is not gone"
            for call in (made.items, made.documents):
                with pytest.raises(LentError):
                    call()
            made.collector.stop()
            with pytest.raises(StartupError, match="a claim's step has the GPUs"):
                made.collector.start()
        made.collector.start()
        assert 8 == len(made.rows())


def test_collector_that_cannot_start_keeps_no_step_waiting(tmp_path: Path, fake_nvml: FakeNvml) -> None:
    fake_nvml.init_returns(9)
    context = Context(subject="n", log=logging.getLogger("n"), root=tmp_path, state_dir=tmp_path)
    with fake_nvml.binding() as pynvml:
        collector = NvmlCollector(NvmlConfig(library="x"), context, binding=lambda _path: pynvml)
        with pytest.raises(StartupError):
            collector.start()
    with lent(str(tmp_path), 0.1) as refused:
        assert "" == refused


def test_whole_clean_of_a_gpu_by_its_hook(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    """The hook resets the GPU, the evidence shows it, and nobody else's word is taken."""
    root = _root(tmp_path / "root")
    (root / "proc/self/ns").mkdir(parents=True)
    (root / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    begun, done = tmp_path / "begun", tmp_path / "done"
    wait = Hook(["/bin/sh", "-c", f"touch {begun}; while [ ! -e {done} ]; do sleep 0.02; done"], timeout_seconds=30.0)

    def reset() -> None:
        while not begun.exists():
            time.sleep(0.01)
        fake_nvml.gpus[0].energy = 7
        done.touch()

    worker = threading.Thread(target=reset)
    worker.start()
    device = _order(fake_nvml, root).device
    with fake_nvml.binding():
        report = perform(Order(Step.CLEAN, "c-1", "t", "job", 1, 5, device, "gpu.reset", wait, str(root)))
    worker.join()
    assert report.done, report.problem
    document = json.loads(report.evidence)
    expected = {"kind": "gpu", "clean": 12, "hook": "gpu.reset", "in_use": False, "reset_seen": True, "processes": 0,
                "memory_check": "passed"}  # fmt: skip
    assert expected == {name: document[name] for name in expected}

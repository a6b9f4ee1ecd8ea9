"""Who does the steps of claims, and who hears of it."""

import time
from pathlib import Path

from collectors.claims.checkpoint import CheckpointFile
from collectors.claims.crew import Crew
from collectors.claims.options import ClaimsSection
from collectors.claims.order import Order
from collectors.claims.worker import Worker
from schemas.claims import ClaimDevice, ClaimStep, DeviceReport, Step


def test_what_a_step_may_have_changed_is_told_of_before_it_is_reported(tmp_path: Path) -> None:
    """So what the inventory knows of it, that it was in use say, is read anew; what is only looked at is as it was."""
    heard: list[str] = []
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1")

    def perform(order: Order) -> DeviceReport:
        return DeviceReport(order.device.device, done=order.device.device != "gpu-2", part=order.device.part)

    def say() -> None:
        told = [device.device for report in worker.reports() or [] for device in report.devices]
        worker.heard()
        heard.extend(f"reported {name}" for name in told)

    crew = Crew(
        worker,
        ClaimsSection(parallel=1),
        perform,
        say=say,
        touched=lambda device: heard.append(f"touched {device.device}"),
    )
    steps = [(Step.PREPARE, "gpu-1"), (Step.CLEAN, "gpu-2"), (Step.CHECK, "gpu-3")]
    devices = [ClaimDevice(name, "gpu", f"uuid:{name}", "", "", "driver", -1) for _, name in steps]
    worker.set_work(
        [
            ClaimStep(f"c-{at}", step, "t", "job", 1, at, [device])
            for at, ((step, _), device) in enumerate(zip(steps, devices, strict=True), 1)
        ]
    )
    crew.wake()
    end = time.monotonic() + 30.0
    while len([one for one in heard if one.startswith("reported")]) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    crew.stop()
    assert ["touched gpu-1", "touched gpu-2"] == [one for one in heard if one.startswith("touched")]
    for name in ("gpu-1", "gpu-2"):
        assert heard.index(f"touched {name}") < heard.index(f"reported {name}")
    assert "reported gpu-3" in heard

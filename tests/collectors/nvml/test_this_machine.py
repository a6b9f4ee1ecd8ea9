"""The real GPUs of the machine that runs the tests, beside what `nvidia-smi` says in the same second."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collectors.nvml.presence import look
from schemas.device import pci_address
from tests.needs import REPOSITORY

pytestmark = pytest.mark.gpu

_ASKED = ("uuid", "pci.bus_id", "name", "temperature.gpu", "power.draw", "power.limit", "memory.total", "memory.used",
          "clocks.max.sm", "pcie.link.width.current")  # fmt: skip
_READ = """
import json, logging; from pathlib import Path; from collectors.contract import Context
from collectors.nvml import NvmlCollector; from schemas.verbosity import Level
made = NvmlCollector(NvmlCollector.Config(), Context(subject='n', log=logging.getLogger('n')))
made.start()
rows = {row.device: dict(row.fields) for row in made.collect() if row.measurement == 'gpu'}
documents = {one.device: [one.slot.address, one.part.model, one.capabilities] for one in made.describe()}
made.stop()
print(json.dumps([rows, documents]))
"""


@pytest.fixture(autouse=True)
def _has_a_gpu() -> None:
    missing = look(Path("/")).missing
    if missing or shutil.which("nvidia-smi") is None:
        pytest.skip(missing or "nvidia-smi is not installed")


def _smi() -> list[dict[str, str]]:
    command = ["nvidia-smi", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [dict(zip(_ASKED, line.split(", "), strict=True)) for line in done.stdout.splitlines()]


def _ours() -> tuple[dict[str, Any], dict[str, Any]]:
    """Read in a process of its own: the library stays loaded."""
    command = [sys.executable, "-c", _READ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=REPOSITORY)
    rows, documents = json.loads(done.stdout)
    return rows, documents


def test_what_is_read_is_what_the_drivers_own_tool_says() -> None:
    """Truth: an independent reader of the same device, in the same second."""
    theirs, (rows, documents) = _smi(), _ours()
    logging.getLogger(__name__).info("nvidia-smi: %s; rows: %s", theirs, rows)
    assert {f"gpu:{one['uuid']}" for one in theirs} == {device for device in documents if device.startswith("gpu:")}
    for one in theirs:
        row, (address, model, told) = rows[f"gpu:{one['uuid']}"], documents[f"gpu:{one['uuid']}"]
        assert (pci_address(one["pci.bus_id"]), one["name"]) == (address, model)
        assert float(one["temperature.gpu"]) == pytest.approx(row["temperature_celsius"], abs=5)
        assert float(one["power.draw"]) == pytest.approx(row["power_watts"], rel=0.3, abs=20)
        assert float(one["power.limit"]) == pytest.approx(row["power_limit_watts"], abs=1)
        assert float(one["memory.total"]) == pytest.approx(told["memory_bytes"] / (1 << 20), abs=1)
        assert float(one["memory.used"]) == pytest.approx(row["memory_used_bytes"] / (1 << 20), abs=64)
        assert int(one["clocks.max.sm"]) * 1_000_000 == told["max_sm_clock_hertz"]
        assert int(one["pcie.link.width.current"]) == row["pcie_width"]

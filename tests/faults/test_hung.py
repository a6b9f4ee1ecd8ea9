"""A child of `muster up` that hangs is killed and started again, and what it had kept goes on."""

import signal
from pathlib import Path

import pytest

from tests.acceptance.stage import stage, until
from tests.faults.rig import Bench, config

UP = """
import sys
from aggregator.cli import main
from aggregator.up import Supervisor
Supervisor.__init__.__kwdefaults__["patience"] = 8.0
sys.exit(main(["up", "--quiet"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["aggregator.server", "collectors.main"])
def test_a_stopped_child_is_replaced_and_no_row_is_lost(tmp_path: Path, module: str) -> None:
    with stage(tmp_path, config()) as muster:
        (tmp_path / "impatient.py").write_text(UP)
        muster.env["PYTHONPATH"] += f":{tmp_path}"
        bench = Bench(muster)
        muster.start("up", program="impatient")
        bench.ready()
        bench.grows()
        child = muster.child(module)
        child.send_signal(signal.SIGSTOP)
        until("the hung child to be noticed", lambda: "child_hung" in muster.log(), 30)
        until("another in its place", lambda: muster.child(module).pid != child.pid)
        bench.ready()
        bench.grows()
        muster.stop("up")
        bench.rest()
        muster.start("up", program="impatient")
        bench.ready()
        bench.fate().expect_exact()

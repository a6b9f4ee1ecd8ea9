"""`muster up` and its children: any of them may be killed, and the supervisor too; the balance closes."""

import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.acceptance.stage import PATIENCE, stage, until
from tests.faults.rig import Bench, chance, child_dies, config, rounds

__all__ = ["chance"]


@pytest.mark.parametrize("number", rounds(10))
def test_supervisor_killed_its_children_end_by_themselves_and_a_new_one_goes_on(
    tmp_path: Path, chance: random.Random, number: int
) -> None:
    """The lifeline: children commit what they have, end within seconds and let go of their folders; nothing is lost."""
    with stage(tmp_path, config()) as muster:
        bench = Bench(muster)
        bench.start("up")
        bench.ready()
        bench.grows()
        for module in ("aggregator.server", "collectors.main"):
            before = muster.child(module)
            before.send_signal(signal.SIGKILL)
            child_dies(before, module)
            until(f"another {module}", lambda module=module, old=before: muster.child(module).pid != old.pid)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 1.0))
        bench.ready()
        bench.grows()
        family = muster.family()
        assert len(family) >= 5  # supervisor, aggregator, agent, zygote, helper
        bench.kill("up")
        _, alive = psutil.wait_procs(family[1:], timeout=PATIENCE)
        assert [] == alive
        committed = bench.committed()
        bench.start("up")
        bench.ready()
        until("rows of the next run", lambda: bench.committed() > committed)
        bench.quiesce(name="up").expect_exact()

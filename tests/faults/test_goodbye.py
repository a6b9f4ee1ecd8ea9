"""An agent that ends in order says so: whoever comes next need not wait until it has been silent for 30 s."""

import json
from pathlib import Path
from typing import Any

from tests.acceptance.stage import Muster, stage, until
from tests.faults.rig import Bench, config


def taken_over(muster: Muster) -> dict[str, Any]:
    """Give the event about the node's next run, once it is stored; {} before."""
    found = [row for row in muster.rows("event", "--limit", "1000") if row["type"].startswith("node.")]
    [taken] = [row for row in found if row["type"] != "node.new"] or [{}]
    return taken


def test_spool_deleted_after_a_clean_stop_costs_no_wait_and_no_word_of_two_machines(tmp_path: Path) -> None:
    with stage(tmp_path, config()) as muster:
        bench = Bench(muster)
        muster.start("aggregator")
        muster.start("agent")
        bench.ready()
        bench.grows()
        until("rows in the log", lambda: bench.get("/v1/status")["ingest"]["rows"])
        muster.stop("agent")
        for file in bench.spool.parent.glob("spool.db*"):
            file.unlink()
        before = bench.get("/v1/status")["ingest"]["rows"]
        muster.start("agent")
        until("rows of the next run", lambda: bench.get("/v1/status")["ingest"]["rows"] > before, 25)
        assert "node.refused" not in muster.log()
        taken = until("the event about it", lambda: taken_over(muster))
        assert ("node.takeover", "two machines" in taken["message"]) == (taken["type"], False)
        assert not json.loads(taken["detail"])["named_predecessor"]

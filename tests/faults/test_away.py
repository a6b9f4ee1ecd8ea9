"""The aggregator is away for longer than the spool holds: what is least important goes first, and is counted."""

from pathlib import Path

import pytest

from tests.acceptance.stage import stage, until
from tests.faults.rig import Bench, config, rounds
from tests.faults.ticker import TYPE, install


@pytest.mark.parametrize("number", rounds(5))
def test_what_a_full_spool_gives_up_is_counted_and_events_survive(tmp_path: Path, number: int) -> None:
    """Stored and dropped rows are together exactly the committed ones; events have room of their own (promise 4)."""
    settings = config(more="[spool]\nmax_bytes = 131072\n[collectors.ticker]\ninterval = 0.1\n").replace(
        'only = ["oracle"]', 'only = ["oracle", "ticker"]'
    )
    with stage(tmp_path, settings, install(tmp_path / "site")) as muster:
        bench = Bench(muster)
        bench.start("aggregator")
        bench.start("agent")
        bench.ready()
        bench.grows()
        muster.stop("aggregator")
        before = bench.committed()
        until("rows given up", lambda: bench.ask_spool("SELECT count(*) FROM dropped WHERE reason = 'spool_full'", 0))
        bench.grows(5 * 5000)
        muster.config.write_text(muster.config.read_text().replace("interval = 0.1", "interval = 0"))
        muster.stop("agent")
        ticks = int(bench.ask_spool("SELECT value FROM position WHERE collector = 'ticker'", "0"))
        held = int(bench.ask_spool("SELECT coalesce(sum(rows), 0) FROM batch WHERE class = 0", 0))
        bench.start("aggregator")
        bench.start("agent")
        bench.ready()
        fate = bench.quiesce()
        fate.expect_exact(may_drop=True)
        assert ["spool_full"] == list(fate.dropped)
        assert fate.missing[0] >= before - 5000  # what was there before was sent, but for the last second's
        assert fate.missing[-1] < fate.committed - held // 2  # what is kept is the newest
        numbers = [int(row["message"]) for row in muster.rows("event", "--limit", "10000") if row["type"] == TYPE]
        assert ticks > 20
        assert list(range(ticks)) == sorted(numbers)
        [line] = [line for line in fate.balance["lines"] if line["row_class"] == "event" and line["dropped"]] or [{}]
        assert {} == line

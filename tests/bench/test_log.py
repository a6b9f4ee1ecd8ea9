"""What must hold whatever the machine: the log's group commit pays (figures: `python -m tests.bench.bench_log`)."""

from pathlib import Path

import pytest

from tests.bench.bench_log import appends_per_second, main


@pytest.mark.bench
async def test_a_hundred_callers_share_commits(tmp_path: Path) -> None:
    """Without group commit both rates would be one over the time of a commit."""
    await main(tmp_path, 1.0)
    alone, _ = await appends_per_second(tmp_path, 1, 1.0, "FULL")
    together, _ = await appends_per_second(tmp_path, 100, 1.0, "FULL")
    assert together > 3 * alone

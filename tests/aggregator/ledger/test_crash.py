"""SIGKILL at any step of what is written: what was told is there, and the state is what the entries add up to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.ledger import journal, snapshots
from aggregator.ledger.apply import apply
from aggregator.ledger.state import State
from tests.aggregator.ledger.rig import opened

POINTS = (
    "control.commit.written",
    "control.commit.committed",
    "ledger.snapshot.packed",
    "ledger.snapshot.parts",
    "ledger.snapshot.written",
    "ledger.thin.chosen",
    "ledger.thin.forgotten",
    "ledger.join.read",
    "ledger.join.written",
)


def told_until_killed(path: Path, point: str, seconds: int = 60) -> list[int]:
    """Let it write until it reaches a point, where it is killed; "" is any moment.

    It fails when the point is not reached in so many seconds.
    """
    command = [sys.executable, "-m", "tests.aggregator.ledger.crash_ledger", str(path), str(seconds)]
    environment = os.environ | ({"MUSTER_FAILPOINT": f"{point}:3"} if point else {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout is not None
        told = []
        if not point:
            told = [int(writer.stdout.readline()) for _ in range(23)]
            writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    assert writer.returncode == -signal.SIGKILL, f"{point or 'a moment'} was not reached in {seconds} s"
    return told


@pytest.mark.parametrize("point", ["", *POINTS])
async def test_what_was_told_is_there_and_snapshots_agree_with_entries(tmp_path: Path, point: str) -> None:
    path = tmp_path / "ledger.db"
    told = [0]
    for moment in ("", point, ""):
        told += told_until_killed(path, moment)
    async with opened(path) as ledger:
        assert max(told) <= ledger.durable
        every = await ledger.database.read(lambda connection: list(journal.read(connection, 0)))
        replayed = State()
        for one in every:
            apply(replayed, one.sequence, one.time_ns, one.entry)
        assert replayed.digest() == ledger.peek().digest()
        for sequence in await ledger.database.read(snapshots.complete):
            state = await ledger.database.read(lambda connection, at=sequence: snapshots.load(connection, until=at))  # type: ignore[misc]
            again = State()
            for one in every[:sequence]:
                apply(again, one.sequence, one.time_ns, one.entry)
            assert again.digest() == state.digest()


def test_point_that_is_never_reached_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nowhere was not reached in 3 s"):
        told_until_killed(tmp_path / "ledger.db", "nowhere", seconds=3)

"""Two agents with one node id: the one that speaks keeps it, and the other takes over when that falls silent."""

import json
import signal
from pathlib import Path

import psutil

from tests.acceptance.stage import Muster, stage, until
from tests.faults.rig import Bench, config

SETTINGS = config(agent='node_id = "node-1"', aggregator="takeover_seconds = 3")
PAYLOAD = "00003039"
"""The first eight characters of the oracle's text, by which the second agent's rows are told apart."""


def second_agent(muster: Muster, folder: Path) -> tuple[Bench, dict[str, str]]:
    """Give a clone of the agent with a data folder of its own, and the environment that it runs in."""
    text = SETTINGS.replace("limit = 0", "payload_bytes = 8")
    clone = Muster(folder, f'{text}\n[publish]\naggregators = ["unix://{muster.data_dir / "muster.sock"}"]\n')
    return Bench(clone), {key: clone.env[key] for key in ("MUSTER_DATA_DIR", "MUSTER_CONFIG")}


def test_a_clone_waits_for_silence_and_no_row_of_either_is_lost(tmp_path: Path) -> None:
    """Typed refusal while the first speaks, take-over with an event after its silence, and back again (R003)."""
    with stage(tmp_path / "one", SETTINGS) as muster:
        first = Bench(muster)
        second, env = second_agent(muster, tmp_path / "two")
        muster.start("aggregator")
        muster.start("agent")
        first.ready()
        first.grows()
        muster.start("agent-2", env=env)
        until("the typed refusal", lambda: "node.refused" in muster.log())
        first.grows(4 * 5000)  # longer than the silence that it may not have
        assert [] == first.stored(PAYLOAD)
        assert second.spooled() > 0

        main = psutil.Process(muster.processes["agent"].pid)
        main.send_signal(signal.SIGSTOP)
        until("rows of the second", lambda: first.stored(PAYLOAD))
        [event] = [row for row in muster.rows("event", "--limit", "1000") if row["type"] == "node.takeover"]
        assert json.loads(event["detail"])["silent_seconds"] >= 3
        assert any(row["type"] == "node.contested" for row in muster.rows("event", "--limit", "1000"))

        until("the second to drain", lambda: second.spooled() < 20)
        second.rest()
        muster.stop("agent-2")
        committed = first.committed()
        main.send_signal(signal.SIGCONT)
        until("the first to be itself again", lambda: len(first.stored()) > committed)
        muster.stop("agent")
        first.rest()
        muster.start("agent")
        until("the first to drain", lambda: not first.spooled())
        first.settle()
        assert list(range(first.committed())) == sorted(number for number, _ in first.stored())

        muster.stop("agent")
        muster.start("agent-2", env=env)
        until("the second's rest", lambda: not second.spooled())
        numbers = sorted(number for number, _ in first.stored(PAYLOAD))
        assert list(range(second.committed())) == numbers
        assert first.settle()["closed"]

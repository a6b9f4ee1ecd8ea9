"""The agent's process as a whole: what ends it, and how."""

import threading
from pathlib import Path

import pytest

from collectors.agent import Agent
from collectors.config import load_agent_config
from collectors.main import _parser
from collectors.node_identity import decide_node_id
from collectors.process import EXIT_DEFECT
from collectors.zygote import exec_zygote
from schemas.codec import decode_body
from schemas.rows import Severity
from schemas.verbosity import RowClass


def test_an_agent_whose_thread_dies_ends_so_that_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher that died unseen would let the spool fill for ever."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # put back afterwards
    config = load_agent_config(None, {"host": None, "syslog": None}, {"MUSTER_DATA_DIR": str(tmp_path)})
    folder = tmp_path / "agent"
    folder.mkdir()
    agent = Agent(exec_zygote(), config, decide_node_id(folder), folder)

    def die() -> None:
        raise ZeroDivisionError("a defect")

    timer = threading.Timer(1.0, lambda: threading.Thread(target=die, name="doomed").start())
    timer.start()

    assert agent.run(_parser().parse_args([])) == EXIT_DEFECT


def test_a_refused_token_gives_way_to_the_enrolment_token_once(tmp_path: Path) -> None:
    """A node whose token was revoked comes back by an enrolment token, without a file removed by hand (R001-18)."""
    env = {"MUSTER_DATA_DIR": str(tmp_path), "MUSTER_PUBLISH__ENROLMENT_TOKEN": "mse_again"}
    config = load_agent_config(None, {"host": None, "syslog": None}, env)
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "token").write_text("mst_dead\n")
    agent = Agent(exec_zygote(), config, decide_node_id(folder), folder)
    assert agent.token() == "mst_dead"

    agent.enrolment.refused()

    assert agent.token() == ""
    agent.token.keep("mst_new")
    agent.enrolment.refused()
    assert agent.token() == "mst_new"
    agent.scheduler.close()
    agent._stop(linger=0.0)


def test_what_the_scheduler_tells_becomes_an_event_in_the_spool(tmp_path: Path) -> None:
    config = load_agent_config(None, {"host": None, "syslog": None}, {"MUSTER_DATA_DIR": str(tmp_path)})
    folder = tmp_path / "agent"
    folder.mkdir()
    agent = Agent(exec_zygote(), config, decide_node_id(folder), folder)
    agent.intake.start()
    agent._tell_event("collector.helper.left", "it hangs", {"collectors": "nvme", "pid": None}, Severity.ERROR)
    assert agent.intake.drain()
    [held] = agent.spool.pending()
    [block] = decode_body(agent.spool.body(held) or b"")
    told = (held.row_class, block.ints["severity"], block.strings["type"], block.strings["detail"])
    assert (RowClass.EVENT, [3], ["collector.helper.left"], ['{"collectors":"nvme","pid":null}']) == told
    agent.scheduler.close()
    agent._stop(linger=0.0)

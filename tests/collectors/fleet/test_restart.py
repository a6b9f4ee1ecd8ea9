"""A fleet that is killed goes on where its last commit was: nothing that was committed is lost, for any node."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collectors.fleet_main import main
from collectors.process import EXIT_CONFIG
from collectors.spool import open_spools
from tests.collectors.fleet.aggregator import serving
from tests.collectors.fleet.conftest import Rig


def start_process(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "collectors.fleet_main", "--nodes", "20", "--profile", "load", "--no-documents"]
    env = os.environ | {"MUSTER_DATA_DIR": str(folder), "MUSTER_LOG_LEVEL": "ERROR"}
    return subprocess.Popen([*command, "--interval", "0.2", *arguments], env=env, stdout=subprocess.PIPE)


def test_after_sigkill_every_committed_row_arrives(tmp_path: Path) -> None:
    """Promise 1 and 2 for a fleet (R001-15): three kills, then an ordinary end."""
    with serving(tmp_path / "muster.sock") as aggregator:
        for _ in range(3):
            seen = len(aggregator.publishes)
            with start_process(tmp_path) as child:
                aggregator.until(lambda seen=seen: len(aggregator.publishes) > seen + 60, 20.0)  # type: ignore[misc]
                child.send_signal(signal.SIGKILL)
        with start_process(tmp_path, "--duration", "3", "--linger", "10") as child:
            assert child.wait(60.0) == 0

        assert len(aggregator.words) == 20
        assert aggregator.unaccounted() == {}
        epochs = {stream[1] for stream in aggregator.rows}
        assert len(epochs) == 80
        assert all(rows.missing(0, rows.end) == [] for rows in aggregator.rows.values())
    names = [(publisher, "boot") for publisher in aggregator.words]
    spools, file = open_spools(tmp_path / "fleet" / "spool.db", names, max_bytes=1 << 20)
    assert sum(map(len, spools)) == 0
    file.close()


def test_a_restart_names_the_run_before_for_every_node(rig: Rig) -> None:
    """Then each takes over at once, instead of waiting until the one before is silent for half a minute."""
    run = rig.start(3)
    rig.aggregator.until(lambda: len(rig.aggregator.words) == 3)
    before = {one.node.id: one.spool.epoch for one in run.nodes}
    rig.stop()

    again = rig.start(3)
    rig.aggregator.until(lambda: len(rig.aggregator.predecessors) == 6)
    assert {one.node.id: rig.aggregator.predecessors[one.node.id, one.spool.epoch] for one in again.nodes} == {
        name: [epoch] for name, epoch in before.items()
    }


def test_a_fleet_that_ends_in_order_says_goodbye_for_every_node(rig: Rig) -> None:
    """So nodes that come back after a boot, which cannot take over at once, need not wait for their own silence."""
    rig.start(3)
    rig.aggregator.until(lambda: len(rig.aggregator.words) == 3)
    rig.stop()
    left = [one.publisher for one in rig.aggregator.controls if one.leaving]
    assert sorted(left) == sorted(rig.aggregator.words)


def test_the_report_is_one_line_of_json_that_says_simulated(tmp_path: Path) -> None:
    with serving(tmp_path / "muster.sock"), start_process(tmp_path, "--duration", "20") as child:
        assert child.stdout is not None
        time.sleep(2.5)
        child.send_signal(signal.SIGUSR1)
        line = child.stdout.readline()
        child.send_signal(signal.SIGTERM)
        last = child.stdout.read().splitlines()
        assert child.wait(60.0) == 0

    report = json.loads(line)
    assert (report["simulated"], report["nodes"]) == (True, 20)
    assert set(report["cpu"]) == {"physics", "encoding", "spool", "sending", "control", "other"}
    assert sum(report["cpu"].values()) <= report["cpu_seconds"] + 0.01
    assert json.loads(last[-1])["rows"] > report["rows"]


def test_a_second_fleet_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Two would number rows under one spool."""
    with serving(tmp_path / "muster.sock") as aggregator, start_process(tmp_path, "--duration", "20") as child:
        aggregator.until(lambda: bool(aggregator.publishes), 15.0)
        second = start_process(tmp_path)
        assert second.wait(60.0) == EXIT_CONFIG
        assert second.stdout is not None
        second.stdout.close()
        child.send_signal(signal.SIGTERM)


def test_a_fleet_file_that_is_not_there_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_DATA_DIR", str(tmp_path))
    assert main(["--fleet", str(tmp_path / "none.toml")]) == EXIT_CONFIG

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from aggregator.cli.collectors import errors_table, installed_table, reports_table
from aggregator.cli.probing import Found, apart, probe_installed
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE


def _distribution(folder: Path, name: str, source: str) -> str:
    (folder / f"{name}_module.py").write_text(source)
    metadata = folder / f"{name}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text(f"[muster.collectors]\n{name} = {name}_module:Collector\n")
    return str(folder)


def test_installed_are_listed_without_any_server() -> None:
    found = {one.name: one for one in probe_installed()}
    assert {"host", "syslog", "simulated"} <= set(found)
    assert found["host"].distribution == "rackmuster"


def test_one_that_cannot_be_imported_is_listed_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(_distribution(tmp_path, "broken", "raise RuntimeError('no licence')"))
    (found,) = probe_installed([str(tmp_path)])
    assert ("broken", "1.2", True) == (found.name, found.version, found.broken)
    assert found.problem == "RuntimeError: no licence"


def test_what_crashes_harms_only_itself() -> None:
    def crash() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    assert apart(crash).error == "crashed: SIGKILL"


def test_what_hangs_is_given_up() -> None:
    def hang() -> str:
        time.sleep(60)
        return "never"

    begun = time.monotonic()
    outcome = apart(hang, 0.2)
    assert "hung" in outcome.error
    assert time.monotonic() - begun < 5


def test_what_prints_does_not_reach_the_table(capfd: pytest.CaptureFixture[str]) -> None:
    assert apart(lambda: str(os.write(1, b"noise"))).value == "5"
    assert capfd.readouterr().out == ""


def test_reports_of_one_node_by_host_name(run: Run) -> None:
    status, out, _ = run("collectors", "rack1-gpu3")
    assert status == 0
    assert "installed here" not in out
    assert [line.split()[:3] for line in out.splitlines() if "rack1" in line] == [
        ["rack1-gpu3", "host", "running"],
        ["rack1-gpu3", "syslog", "running"],
    ]


def test_failing_collector_shows_error_age_and_next_try() -> None:
    report: dict[str, Any] = {
        "node": NODE, "reported_seconds": 10.0, "name": "nvml", "state": "backing_off", "runs": 3, "rows": 0,
        "errors": 3, "last_error": "NVML: driver not loaded", "last_seconds": None, "success_age": None,
        "error_age": 2.0, "next_try": 40.0,
    }  # fmt: skip
    (row,) = reports_table([report], {}).rows
    assert ["backing_off", "0", "3", "-", "30 s"] == row[2:]
    head, error = errors_table([report], {NODE: "gpu3"}).lines()[0].splitlines()[2:]
    assert ("gpu3 nvml, 12 s ago, last good never:", "  NVML: driver not loaded") == (head, error)


def test_what_lacks_something_says_what() -> None:
    table = installed_table([Found("nvml", "m:C", "rackmuster", "0.1", "no NVIDIA driver: install it")])
    assert table.rows == [["nvml", "rackmuster", "0.1", "no NVIDIA driver: install it"]]

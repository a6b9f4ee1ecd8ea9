"""The real servers that other tests lean on start, answer and end."""

import os
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.services.binaries import TELEGRAF, DebianProgram, GoProgram, NotAvailableError, provide
from tests.services.process import DidNotStartError, running
from tests.services.prometheus import faults_of_metrics, prometheus
from tests.services.telegraf import HOST_INPUTS, telegraf


@pytest.mark.service
def test_telegraf_reads_this_host(telegraf_binary: Path, tmp_path: Path) -> None:
    """It is the peer of the agent's bars: what is measured must be what runs."""
    sink = tmp_path / "rows"
    output = f'[[outputs.file]]\n  files = ["{sink}"]\n'
    with telegraf(telegraf_binary, tmp_path, HOST_INPUTS + output) as server:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (sink.is_file() and "cpu," in sink.read_text()):  # cpu comes second
            time.sleep(0.2)
        assert server.address.startswith("http://127.0.0.1:")
    measurements = {line.split(",")[0] for line in sink.read_text().splitlines()}
    assert {"cpu", "mem", "net", "system", "processes"} <= measurements
    assert not Path(f"/proc/{server.pid}").exists()


@pytest.mark.service
def test_promtool_takes_a_sound_page_and_refuses_a_bad_one(promtool: Path) -> None:
    sound = "# HELP muster_rows_total Rows.\n# TYPE muster_rows_total counter\nmuster_rows_total 5\n"
    assert [] == faults_of_metrics(promtool, sound)
    assert faults_of_metrics(promtool, sound.replace("muster_rows_total", "muster_rows"))
    assert faults_of_metrics(promtool, "muster rows 5 5 5\n")


@pytest.mark.service
def test_prometheus_scrapes_a_target(prometheus_binary: Path, tmp_path: Path) -> None:
    with prometheus(prometheus_binary, tmp_path, [f"127.0.0.1:{free_port()}"]) as server:
        until, found = time.monotonic() + 60, b""
        while time.monotonic() < until and b'"job":"muster"' not in found:  # it is ready a little before it scrapes
            with urllib.request.urlopen(f"{server.address}/api/v1/targets", timeout=5) as answer:
                found = answer.read()
            time.sleep(0.1)
        assert b'"job":"muster"' in found


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    with pytest.raises(DidNotStartError, match=r"ended with 3:\n(.|\n)*no such luck"):
        with running([sys.executable, "-c", "print('no such luck'); exit(3)"], tmp_path, healthy=lambda: False):
            pytest.fail("it never answered")


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(DidNotStartError, match="does not answer after 1 s"):
        with running([sys.executable, "-c", code], tmp_path, healthy=lambda: False, seconds=1):
            pytest.fail("it never answered")
    assert not Path(f"/proc/{note.read_text()}").exists()


def test_a_server_that_ignores_sigterm_is_ended_all_the_same(tmp_path: Path) -> None:
    note = tmp_path / "ready"
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(note)!r}, 'w').close(); time.sleep(60)"
    )
    start = time.monotonic()
    with running([sys.executable, "-c", code], tmp_path, healthy=note.exists) as server:
        pass
    assert not Path(f"/proc/{server.pid}").exists()
    assert time.monotonic() - start < 30


def test_what_is_not_here_says_how_to_get_it() -> None:
    missing = DebianProgram("no-such-program-anywhere", "no-such-package")
    with pytest.raises(NotAvailableError, match=r"python -m tests\.services install"):
        provide(missing, may_install=False)


def test_a_program_given_by_environment_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_BINARY_TELEGRAF", sys.executable)
    assert Path(sys.executable) == provide(TELEGRAF, may_install=False)


def test_another_version_or_other_tags_are_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSTER_CACHE", str(tmp_path))
    programs = [GoProgram("x", "p", "1.0"), GoProgram("x", "p", "1.1"), GoProgram("x", "p", "1.0", ("t",))]
    assert 3 == len({program.path() for program in programs})
    assert all(os.path.commonpath([program.path(), tmp_path]) == str(tmp_path) for program in programs)

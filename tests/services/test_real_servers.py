"""The real servers that other tests lean on start, answer and end."""

import os
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.services.binaries import TELEGRAF, DebianProgram, GoProgram, NotAvailableError, PythonProgram, provide
from tests.services.placement import WIDE_TREES, Client, placement
from tests.services.postgresql import postgresql
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


@pytest.mark.service
def test_postgresql_waits_for_the_disk_and_leaves_nothing(postgres_binary: Path) -> None:
    """Placement's figures are for durable writes, as ours are."""
    with postgresql(postgres_binary) as server:
        assert "on\non" == server.execute("SHOW fsync; SHOW synchronous_commit")
        with pytest.raises(AssertionError, match="no_such_table"):
            server.execute("SELECT * FROM no_such_table")
    assert not Path(f"/proc/{server.pid}").exists()


@pytest.mark.service
@pytest.mark.slow
def test_placement_gives_what_there_is_and_no_more(
    postgres_binary: Path, placement12: Path, placement16: Path, tmp_path: Path
) -> None:
    with postgresql(postgres_binary) as database:
        for python in (placement12, placement16):
            with (
                placement(python, database, tmp_path / python.parent.parent.name, WIDE_TREES) as server,
                Client(server.address) as client,
            ):
                client.name_traits(["CUSTOM_A100"])
                host = client.add_provider("h1", {"VCPU": 4, "PGPU": 1, "DISK_GB": 0}, traits=["CUSTOM_A100"])
                path = "/allocation_candidates?resources=VCPU:4,PGPU:1&required=CUSTOM_A100"
                assert [host] == list(client.must("GET", path)["provider_summaries"])
                assert [204, 409] == [client.allocate(host, {"PGPU": 1}) for _ in range(2)]
                assert 1 == client.used(host, "PGPU")
                assert [] == client.must("GET", path)["allocation_requests"]
            assert not Path(f"/proc/{server.pid}").exists()


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


def test_the_newest_of_several_versions_is_found(tmp_path: Path) -> None:
    for version in ("9", "15", "14"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "muster-test-server").touch()
    there = DebianProgram("muster-test-server", "none", str(tmp_path / "*" / "bin"))
    assert tmp_path / "15" / "bin" / "muster-test-server" == there.find()


def test_an_environment_with_other_pins_is_another_and_a_half_made_one_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MUSTER_CACHE", str(tmp_path))
    needs = tmp_path / "needs.txt"
    needs.write_text("a==1\n")
    one, other = (PythonProgram("x", (pin,), needs) for pin in ("x==1", "x==2"))
    before = one.path()
    assert before != other.path()
    before.parent.mkdir(parents=True)
    before.touch()
    assert one.find() is None
    (before.parent.parent / "complete").touch()
    assert before == one.find()
    needs.write_text("a==2\n")
    assert one.find() is None


def test_another_version_or_other_tags_are_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSTER_CACHE", str(tmp_path))
    programs = [GoProgram("x", "p", "1.0"), GoProgram("x", "p", "1.1"), GoProgram("x", "p", "1.0", ("t",))]
    assert 3 == len({program.path() for program in programs})
    assert all(os.path.commonpath([program.path(), tmp_path]) == str(tmp_path) for program in programs)

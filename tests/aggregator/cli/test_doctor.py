import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from aggregator.cli.checks import (
    Check,
    Level,
    check_authority,
    check_clock,
    check_collectors,
    check_damaged,
    check_data_folder,
    check_gpu,
    check_identity,
    check_kernel_log,
    check_open_files,
    check_packages,
    check_port,
    check_python,
)
from aggregator.cli.checks_server import check_server, holder_of
from aggregator.cli.client import Client
from aggregator.cli.probing import Found
from aggregator.cli.version import Package, packages
from collectors.authority import Authority
from tests.aggregator.cli.stub import Refusal, Stub
from tests.certificates import Authority as Signer


def _by_name(checks: Any) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_old_python_fails() -> None:
    assert check_python((3, 10, 9)).level is Level.FAIL
    assert check_python().level is Level.OK


def test_missing_base_package_fails_with_the_command_that_gets_it() -> None:
    found = _by_name(check_packages([Package("msgspec", "", "0.22", ">=0.22"), Package("psutil", "", None, ">=7.2")]))
    assert Check("packages", Level.FAIL, "missing: psutil", "pip install rackmuster") == found["packages"]


def test_extra_that_was_not_asked_for_is_no_fault_but_half_of_one_is() -> None:
    none = [Package("aiokafka", "kafka", None, "")]
    half = [Package("duckdb", "aggregator", "2.0.0", ""), Package("fastapi", "aggregator", None, "")]
    found = _by_name(check_packages([*none, *half]))
    assert found["packages, kafka"].level is Level.OK
    assert "rackmuster[kafka]" in found["packages, kafka"].found
    assert found["packages, aggregator"].level is Level.FAIL


def test_declared_packages_are_read_by_extra() -> None:
    found = {(one.name, one.extra) for one in packages()}
    assert {("msgspec", ""), ("duckdb", "aggregator"), ("aiokafka", "kafka")} <= found
    assert not any(extra == "all" for _, extra in found)


def test_data_folder_is_tried_and_its_sync_measured(tmp_path: Path) -> None:
    found = _by_name(check_data_folder(tmp_path / "new"))
    assert found["data folder"].level is Level.OK
    assert "ms a sync" in found["disk sync"].found
    assert list((tmp_path / "new").iterdir()) == []


def test_full_disk_fails_and_a_low_one_warns(tmp_path: Path) -> None:
    full, low = check_data_folder(tmp_path, lambda _: 1 << 20), check_data_folder(tmp_path, lambda _: 1 << 30)
    assert [Level.FAIL, Level.WARN] == [_by_name(checks)["data folder"].level for checks in (full, low)]


def test_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (check,) = check_data_folder(tmp_path / "file" / "data")
    assert check.level is Level.FAIL
    assert "MUSTER_DATA_DIR" in check.remedy


def test_path_too_long_for_a_socket_fails(tmp_path: Path) -> None:
    assert _by_name(check_data_folder(tmp_path / ("d" * 100)))["socket path"].level is Level.FAIL


def test_kernel_log_that_is_not_there_warns(tmp_path: Path) -> None:
    assert check_kernel_log(tmp_path).level is Level.WARN


def test_identity_by_uuid_by_machine_id_and_by_nothing(tmp_path: Path) -> None:
    assert check_identity(tmp_path).level is Level.FAIL
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    assert "machine id" in check_identity(tmp_path).found
    (tmp_path / "sys/class/dmi/id").mkdir(parents=True)
    (tmp_path / "sys/class/dmi/id/product_uuid").write_text("x\n")
    assert "system UUID" in check_identity(tmp_path).found


def _refuse() -> str:
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


def test_missing_nvml_matters_only_where_there_is_a_gpu(tmp_path: Path) -> None:
    assert check_gpu(tmp_path, _refuse).level is Level.OK
    device = tmp_path / "sys/bus/pci/devices/0000:3b:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    check = check_gpu(tmp_path, _refuse)
    assert (Level.WARN, True) == (check.level, check.found.startswith("1 NVIDIA GPU"))
    assert check_gpu(tmp_path, lambda: "driver 570").found == "driver 570"


def test_few_open_files_warn() -> None:
    assert check_open_files((1024, 4096)).level is Level.WARN
    assert check_open_files((65536, 65536)).level is Level.OK
    assert check_open_files((-1, -1)).found == "unlimited"


def test_clock_by_the_kernels_word_else_by_systemds(tmp_path: Path) -> None:
    assert check_clock(tmp_path, lambda: (0, 0x2001, 2000)).found == "synchronised, within 2 ms"
    assert check_clock(tmp_path, lambda: (5, 0x40, 16000000)).level is Level.WARN
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert check_clock(tmp_path, lambda: (5, 0x40, 16000000)).level is Level.OK


def test_clock_of_a_container_that_may_not_ask_is_no_crash(tmp_path: Path) -> None:
    def denied() -> tuple[int, int, int]:
        raise PermissionError(errno.EPERM, "adjtimex")

    assert check_clock(tmp_path, denied).level is Level.WARN


def test_port_in_use_fails_unless_it_is_ours() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert check_port("127.0.0.1", port, ours=False).level is Level.FAIL
        assert check_port("127.0.0.1", port, ours=True).level is Level.OK


def test_collectors_matter_where_they_are_to_run() -> None:
    found = [
        Found("host", "m:C", "rackmuster", "1", ""),
        Found("nvml", "m:C", "rackmuster", "1", "no driver"),
        Found("mine", "m:C", "other", "1", "ImportError: x", broken=True),
        Found("syslog", "m:C", "rackmuster", "1", "no log"),
    ]
    checks = list(check_collectors(found, ["host", "nvml", "syslog", "gone"], "rackmuster"))
    assert all(check.remedy for check in checks if check.level is not Level.OK)
    assert {check.name: check.level for check in checks} == {
        "collector host": Level.OK,
        "collector nvml": Level.OK,
        "collector mine": Level.WARN,
        "collector syslog": Level.WARN,
        "collector gone": Level.FAIL,
    }


def _answers(stub: Stub) -> dict[str, Check]:
    return _by_name(check_server(Client(stub.address), asked_for=True))


@pytest.fixture
def server(stub: Stub) -> Stub:
    stub.answers |= {"GET /healthz": {"status": "ok"}, "GET /readyz": {"status": "ready"}, "GET /v1/quarantine": [],
                     "GET /v1/refusals": []}  # fmt: skip
    return stub


def test_aggregator_that_is_well(server: Stub) -> None:
    found = _answers(server)
    assert {Level.OK} == {check.level for check in found.values()}
    assert "none unaccounted" in found["balance"].found


def test_unaccounted_rows_fail_and_ask_for_a_bundle(server: Stub) -> None:
    server.answers["GET /v1/balance"]["lines"][0]["unaccounted"] = 3
    check = _answers(server)["balance"]
    assert check.level is Level.FAIL
    assert "--bundle" in check.remedy


def test_dropped_rows_silent_nodes_and_quarantine_warn(server: Stub) -> None:
    server.answers["GET /v1/balance"]["lines"][0]["dropped"] = {"spool_full": 5}
    server.answers["GET /v1/nodes"][0] |= {"state": "silent", "silent_s": 400.0}
    server.answers["GET /v1/quarantine"] = [{"reason": "wire.malformed: no"}]
    found = _answers(server)
    assert {Level.WARN} == {found[name].level for name in ("lost rows", "nodes", "quarantine")}
    assert "rack1-gpu3 (7 min)" in found["nodes"].found


def test_who_is_refused_is_shown_with_what_to_do(server: Stub) -> None:
    one = {"who": "token:k3v9", "code": "access.denied", "reason": "it may not publish for 'n2'", "count": 1200,
           "first_ns": 0, "last_ns": time.time_ns() - 5 * 10**9}  # fmt: skip
    server.answers["GET /v1/refusals"] = [one, {**one, "who": "token:dead", "code": "access.unknown"}]
    found = _answers(server)
    check = found["refused, denied"]
    assert (Level.WARN, True) == (check.level, "token:k3v9, 1,200 times, last 5 s ago" in check.found)
    assert "muster token" in check.remedy
    assert "enrol" in found["refused, unknown"].remedy


def test_a_spool_that_was_set_aside_is_shown_with_what_to_do(tmp_path: Path) -> None:
    assert [] == list(check_damaged(tmp_path))
    (tmp_path / "agent").mkdir()
    for name in ("spool.db", "spool.db.damaged-17", "spool.db.damaged-17-wal"):
        (tmp_path / "agent" / name).write_bytes(b"x" * 2048)
    [check] = check_damaged(tmp_path)
    assert (Level.WARN, True) == (check.level, "spool.db.damaged-17: 2" in check.found)
    assert "disk" in check.remedy


def test_the_authority_that_was_pinned_is_shown_and_a_damaged_one_fails(tmp_path: Path) -> None:
    assert [] == list(check_authority(tmp_path))
    signer = Signer(tmp_path / "ca")
    kept = tmp_path / "agent" / "authority.pem"
    kept.parent.mkdir()
    Authority(kept=kept, pin=signer.fingerprint).learn(signer.pem)
    [check] = check_authority(tmp_path)
    assert (Level.OK, True) == (check.level, f"sha256:{signer.fingerprint}" in check.found)
    kept.write_text("")
    [check] = check_authority(tmp_path)
    assert (Level.FAIL, True) == (check.level, "enrol again" in check.remedy)


def test_aggregator_that_is_not_ready_fails_with_its_reason(server: Stub) -> None:
    server.answers["GET /readyz"] = Refusal(503, "the store: disk full")
    assert "disk full" in _answers(server)["aggregator"].found


def test_no_aggregator_fails_only_when_it_was_named() -> None:
    client = Client("unix:///nonexistent/muster.sock")
    assert [Level.FAIL] == [check.level for check in check_server(client, asked_for=True)]
    assert [Level.WARN] == [check.level for check in check_server(client, asked_for=False)]


def test_an_aggregator_that_hangs_is_told_from_none_and_from_a_stranger_on_its_port(tmp_path: Path) -> None:
    """Its port is taken and nobody answers: to stop what listens there, or to start another, would be bad advice."""
    (tmp_path / "aggregator").mkdir()
    with (tmp_path / "aggregator" / "lock").open("a+") as lock:
        assert holder_of(tmp_path) is None
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = holder_of(tmp_path)
    assert os.getpid() == holder
    assert holder_of(tmp_path) is None
    assert holder_of(tmp_path / "nothing") is None

    client = Client("unix:///nonexistent/muster.sock")
    [check] = check_server(client, asked_for=False, holder=holder)
    assert check.level is Level.FAIL
    assert f"process {os.getpid()}" in check.found
    assert "log" in check.remedy


def test_a_store_that_is_opening_needs_patience_and_no_token(server: Stub) -> None:
    server.answers["GET /v1/balance"] = Refusal(503, "the store was not opened yet; try again in a moment")
    assert _answers(server)["balance"].remedy == ""
    server.answers["GET /v1/balance"] = Refusal(403, "this token may not read")
    assert "scope read" in _answers(server)["balance"].remedy

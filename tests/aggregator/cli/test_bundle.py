"""The support bundle holds what is needed, and never a token."""

import tarfile
from pathlib import Path

import pytest

from aggregator.cli.bundle import BundleError, Materials, pack, parts
from aggregator.cli.checks import Check, Level
from aggregator.cli.client import Client
from tests.aggregator.cli.stub import Refusal, Stub

_TOKEN = "mst_k3v9aaaaaaaa_" + "b" * 52


@pytest.fixture
def materials(tmp_path: Path) -> Materials:
    (tmp_path / "logs").mkdir()
    line = f"2026-11-21 INFO muster.http refused token={_TOKEN} Authorization: Bearer {_TOKEN}\n"
    (tmp_path / "logs" / "agent.log").write_text("old\n" * 100_000 + line)
    config = tmp_path / "muster.toml"
    config.write_text(f"[publish]\ntoken = '{_TOKEN}'\n")
    return Materials(config, tmp_path, [Check("python", Level.OK, "3.11")], [])


def _read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_no_token_is_in_it_wherever_it_stood(stub: Stub, materials: Materials, tmp_path: Path) -> None:
    stub.answers["GET /v1/status"] = {"last_error": f"sent {_TOKEN}"}
    stub.answers["GET /metrics"] = f"# HELP x {_TOKEN}\n"
    pack(tmp_path / "b.tar.gz", list(parts(materials, Client(stub.address))), lambda *_: None)
    files = _read(tmp_path / "b.tar.gz")
    assert {"versions.json", "status.json", "balance.json", "metrics.txt", "logs/agent.log", "files.txt"} <= set(files)
    assert not any(b"bbbbbbbb" in data for data in files.values())
    assert b'token = "(hidden)"' in files["configuration.toml"]


def test_routes_with_tokens_are_not_asked(stub: Stub, materials: Materials, tmp_path: Path) -> None:
    pack(tmp_path / "b.tar.gz", list(parts(materials, Client(stub.address))), lambda *_: None)
    assert not any("token" in word or "enrol" in word for word, _ in stub.asked)


def test_log_is_cut_at_a_line(materials: Materials, tmp_path: Path) -> None:
    pack(tmp_path / "b.tar.gz", list(parts(materials, None)), lambda *_: None)
    log = _read(tmp_path / "b.tar.gz")["logs/agent.log"]
    assert len(log) <= 256 << 10
    assert log.startswith(b"old\n")
    assert b"refused" in log


def test_what_cannot_be_had_leaves_the_reason(stub: Stub, materials: Materials, tmp_path: Path) -> None:
    stub.answers["GET /v1/balance"] = Refusal(403, "read is not among your scopes")
    packed = pack(tmp_path / "b.tar.gz", list(parts(materials, Client(stub.address))), lambda *_: None)
    assert "balance.json" in {one.name for one in packed}
    assert b"not available: 403: read is not among your scopes" in _read(tmp_path / "b.tar.gz")["balance.json"]


def test_only_its_owner_can_read_it_and_what_is_listed_is_in_it(materials: Materials, tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    packed = pack(tmp_path / "b.tar.gz", list(parts(materials, None)), lambda at, name: told.append((at, name)))
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    assert {one.name: one.bytes for one in packed} == {n: len(data) for n, data in _read(tmp_path / "b.tar.gz").items()}
    assert [(at, one.name) for at, one in enumerate(packed)] == told


def test_folder_that_is_not_there_is_an_error_with_a_remedy(materials: Materials, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="Name another file"):
        pack(tmp_path / "none" / "b.tar.gz", [], lambda *_: None)

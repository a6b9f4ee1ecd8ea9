import base64
from pathlib import Path
from typing import Any

from aggregator.cli.quarantine import hex_dump
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Stub

_ENTRY: dict[str, Any] = {
    "id": 7, "publisher": "gpu-17", "stage": "ingest", "code": "wire.malformed",
    "reason": "wire.malformed: not a batch",
    "stream": {"publisher": "gpu-17", "epoch": "e1", "row_class": "log", "level": "detailed"},
    "first": 100, "rows": 80, "size": 3, "kept": 3, "times": 2, "first_ns": 1, "last_ns": 2, "body": None,
}  # fmt: skip
_UNREADABLE = {**_ENTRY, "id": 8, "stream": None, "first": None, "rows": None}


def test_list_shows_the_reasons_code_and_what_is_not_known_as_a_dash(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/quarantine"] = [_UNREADABLE, _ENTRY]
    status, out, _ = run("quarantine")
    assert status == 0
    _, unreadable, known = out.splitlines()
    assert unreadable.split()[:6] == ["8", "gpu-17", "ingest", "wire.malformed", "-", "-"]
    assert known.split()[:6] == ["7", "gpu-17", "ingest", "wire.malformed", "log", "80"]
    assert max(map(len, out.splitlines())) <= 80


def test_show_gives_words_and_bytes_and_saves_them(run: Run, stub: Stub, tmp_path: Path) -> None:
    stub.answers["GET /v1/quarantine/7"] = {**_ENTRY, "body": base64.b64encode(b"\x93\x01a").decode()}
    status, out, _ = run("quarantine", "show", "7", "--save", str(tmp_path / "batch"))
    assert status == 0
    assert "log, detailed, epoch e1" in out
    assert "80 from number 100" in out
    assert "00000000  93 01 61" in out
    assert (tmp_path / "batch").read_bytes() == b"\x93\x01a"


def test_show_of_one_whose_bytes_gave_way_still_gives_the_reason(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/quarantine/8"] = _UNREADABLE
    out = run("quarantine", "show", "8")[1]
    assert "not a batch" in out
    assert "of which 0 are kept" in out


def test_delete_asks_first(run: Run, stub: Stub) -> None:
    stub.answers["DELETE /v1/quarantine/7"] = {"removed": [7]}
    assert run("quarantine", "delete", "7")[0] == 1
    assert run("quarantine", "delete", "7", "--yes")[0] == 0


def test_hex_dump_of_a_short_last_line_keeps_the_columns() -> None:
    lines = hex_dump(bytes(range(60, 80)))
    assert lines[0].index("<=>") == lines[1].index("LMNO")

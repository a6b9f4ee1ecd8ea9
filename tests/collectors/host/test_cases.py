"""A recorded machine gives what was written down of it, value by value."""

import json
from pathlib import Path

import pytest

from tests.collectors.host.replay import CASES, replay

_NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", _NAMES)
def test_case_gives_what_its_expected_file_says(name: str, tmp_path: Path) -> None:
    """R001-13: telemetry and events of a node, absent values left out."""
    lines, documents = replay(CASES / name, tmp_path)
    expected = [json.loads(line) for line in (CASES / name / "expected.jsonl").read_text().splitlines()]
    assert expected == lines
    described = CASES / name / "expected_documents.jsonl"
    if described.exists():
        assert [json.loads(line) for line in described.read_text().splitlines()] == documents


@pytest.mark.parametrize("name", _NAMES)
def test_case_says_where_it_is_from(name: str) -> None:
    assert (CASES / name / "ORIGIN").read_text().strip()

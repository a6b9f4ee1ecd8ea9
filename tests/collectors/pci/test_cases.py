"""A recorded machine gives what was written down of it, document by document."""

import json
from pathlib import Path

import msgspec
import pytest

from tests.collectors.pci.help import collector_of
from tests.collectors.pci.ttar import unpack

CASES = Path(__file__).parents[2] / "cases" / "pci"
_NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", _NAMES)
def test_case_gives_what_its_expected_file_says(name: str, tmp_path: Path) -> None:
    """R004-1: all PCI devices of a node, from a real machine."""
    assert unpack(CASES / name / "root.ttar", tmp_path)
    collector = collector_of(tmp_path)
    documents = [msgspec.json.decode(msgspec.json.encode(document)) for document in collector.describe()]
    rows = [msgspec.json.decode(msgspec.json.encode(row)) for row in collector.collect()]
    for file, found in (("expected_documents.jsonl", documents), ("expected.jsonl", rows)):
        assert [json.loads(line) for line in (CASES / name / file).read_text().splitlines()] == found


@pytest.mark.parametrize("name", _NAMES)
def test_case_says_where_it_is_from(name: str) -> None:
    assert (CASES / name / "ORIGIN").read_text().strip()

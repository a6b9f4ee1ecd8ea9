"""Recorded answers of the kernel are read as what was written down of them."""

import json
from pathlib import Path

import msgspec
import pytest

from collectors.sriov.drivers import Trust
from collectors.sriov.netlink import parse_links

CASES = Path(__file__).parents[2] / "cases" / "sriov"
_NAMES = sorted(path.parent.name for path in CASES.glob("*/answer.hex"))


def _answer(name: str) -> bytes:
    return bytes.fromhex((CASES / name / "answer.hex").read_text())


@pytest.mark.parametrize("name", _NAMES)
def test_case_gives_what_its_expected_file_says(name: str) -> None:
    found = json.loads(msgspec.json.encode(parse_links(_answer(name))))
    assert [json.loads(line) for line in (CASES / name / "expected.jsonl").read_text().splitlines()] == found


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir() if path.is_dir()))
def test_case_says_where_it_is_from(name: str) -> None:
    assert (CASES / name / "ORIGIN").read_text().strip()


def test_recorded_zeros_of_igb_are_not_believed() -> None:
    (link,) = parse_links(_answer("igb"))
    trust = Trust()
    assert [True] * 3 == [vf.counters is not None and vf.counters.zero for vf in link.vfs]
    assert [None] * 3 == [trust.believed("igb", (f"vf{vf.index}", 1), vf.counters) for vf in link.vfs]

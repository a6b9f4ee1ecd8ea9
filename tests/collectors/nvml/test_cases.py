"""A driver's state, as it was written down, gives the rows and documents that were written down beside it."""

import json
from pathlib import Path

import msgspec
import pytest

from schemas.rows import Reading
from tests.collectors.nvml.help import machine
from tests.fakes.nvml import FakeNvml

CASES = Path(__file__).parents[2] / "cases" / "nvml"
_NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())


def _lines(things: list[object]) -> list[object]:
    return [json.loads(msgspec.json.encode(thing, order="sorted")) for thing in things]


@pytest.mark.parametrize("name", _NAMES)
def test_case_gives_what_its_expected_files_say(name: str, tmp_path: Path) -> None:
    """`state` is the fake library's, `missing` the functions that the driver's library has not."""
    case = CASES / name
    missing = (case / "missing").read_text().split() if (case / "missing").exists() else []
    with FakeNvml.build(tmp_path, gpus=0, missing=missing) as fake:
        fake._state.clear()
        for line in (case / "state").read_text().splitlines():
            key, _, value = line.partition("=")
            fake._state[key] = value
        fake._changed()
        with machine(fake) as made:
            documents = _lines(list(made.documents().values()))
            rows = _lines([item for item in made.items() if isinstance(item, Reading)])
    for file, found in (("expected_documents.jsonl", documents), ("expected.jsonl", rows)):
        assert [json.loads(line) for line in (case / file).read_text().splitlines()] == found


@pytest.mark.parametrize("name", _NAMES)
def test_case_says_where_it_is_from(name: str) -> None:
    assert (CASES / name / "ORIGIN").read_text().strip()

"""What an operator expects is compared with documents, whatever device they are of (R000-3, R000-4)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.expectation import Expectation, ExpectationError, compare, parse_expectations, read_expectations
from schemas.device import DeviceKind, Document, Part, Slot, Value

DRIVE = Document(
    "nvme-namespace:S1/1",
    DeviceKind.NVME_NAMESPACE,
    slot=Slot(location="BAY 0"),
    part=Part(firmware="GDC5602Q"),
    capabilities={"sector_bytes": 512, "sectors": 937684566, "mounts": ["/var", "/srv"], "boot": True},
)
OTHER = Document("nvme-namespace:S2/1", DeviceKind.NVME_NAMESPACE, capabilities={"sector_bytes": 4096})


def test_device_that_says_otherwise_differs_and_says_how() -> None:
    expected = [Expectation(DeviceKind.NVME_NAMESPACE, must={"sector_bytes": 4096})]
    assert [("nvme-namespace:S1/1", "wrong-sector_bytes", "sector_bytes 512 instead of 4096")] == [
        (one.device, one.kind, one.message) for one in compare(expected, [DRIVE, OTHER])
    ]


def test_word_that_is_not_told_differs() -> None:
    expected = [Expectation(DeviceKind.NVME_NAMESPACE, match={"sector_bytes": 4096}, must={"sectors": 1})]
    assert ["sectors not told instead of 1"] == [one.message for one in compare(expected, [DRIVE, OTHER])]


def test_count_is_of_those_that_match() -> None:
    expected = [Expectation(DeviceKind.NVME_NAMESPACE, match={"sector_bytes": 4096}, count=2)]
    assert ["1 devices of kind nvme-namespace with sector_bytes 4096 instead of 2"] == [
        one.message for one in compare(expected, [DRIVE, OTHER])
    ]
    assert [] == compare([Expectation(DeviceKind.GPU, count=0)], [DRIVE])


def test_place_part_and_lists_can_be_expected() -> None:
    met: dict[str, Value] = {"location": "BAY 0", "firmware": "GDC5602Q", "mounts": ["/srv", "/var"], "boot": True}
    assert [] == compare([Expectation(DeviceKind.NVME_NAMESPACE, match={"location": "BAY 0"}, must=met)], [DRIVE])


def test_true_is_not_one() -> None:
    assert 1 == len(compare([Expectation(DeviceKind.NVME_NAMESPACE, {"location": "BAY 0"}, must={"boot": 1})], [DRIVE]))


@pytest.mark.parametrize(
    ("text", "says"),
    [("[[expect]]\nkind = 'gpus'\n", "gpus"), ("[[expect]]\nkind = 'gpu'\nmst = {}\n", "mst"), ("[expect", "Expected")],
)
def test_file_that_cannot_be_meant_is_refused_with_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ExpectationError, match=says):
        parse_expectations(text.encode())


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpectationError, match="cannot be read"):
        read_expectations(tmp_path / "none.toml")


@given(st.binary(max_size=200))
def test_whatever_stands_in_a_file_is_read_or_refused(data: bytes) -> None:
    try:
        parse_expectations(data)
    except ExpectationError:
        return

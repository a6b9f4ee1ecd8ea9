"""Drives and name spaces are held against what is expected: sector sizes, formats, mounts, firmware (R000-4)."""

from pathlib import Path

import pytest

from collectors.nvme import NvmeCollector, NvmeConfig
from schemas.errors import PartialCollectError
from schemas.rows import Severity
from tests.collectors.nvme import made
from tests.collectors.nvme.help import Machine
from tests.collectors.nvme.made import FakeDrive

DRIVE, SPACE = "nvme:S64HNE0", "nvme-namespace:S64HNE0/1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with the seed drive."""
    place = tmp_path / "root"
    made.drive(place)
    return place


def machine(root: Path, tmp_path: Path, text: str) -> Machine:
    path = tmp_path / "expected.toml"
    path.write_text(text)
    return Machine(root, config=NvmeConfig(expectations=str(path)), nvme0=FakeDrive()).start()


def test_the_seed_drive_is_as_its_operator_wants_it(root: Path, tmp_path: Path) -> None:
    one = machine(root, tmp_path, '[[expect]]\nkind = "nvme-namespace"\ncount = 1\n'
                  'must = {sector_bytes = 4096, sectors = 937684566, lba_format = "4096+0"}\n'
                  '[[expect]]\nkind = "nvme"\nmust = {firmware = "GDC5302Q"}\n')  # fmt: skip
    assert not [document for document in one.documents().values() if "drift" in document.capabilities]
    assert [] == one.events()


def test_another_format_and_another_firmware_are_told_and_stand_in_the_inventory(root: Path, tmp_path: Path) -> None:
    one = machine(root, tmp_path, '[[expect]]\nkind = "nvme-namespace"\nmust = {sector_bytes = 512}\n'
                  '[[expect]]\nkind = "nvme"\nmust = {firmware = "GDC5602Q"}\n'
                  '[[expect]]\nkind = "vf"\ncount = 16\n')  # fmt: skip
    documents = one.documents()
    assert ["sector_bytes 4096 instead of 512"] == documents[SPACE].capabilities["drift"]
    assert ["firmware GDC5302Q instead of GDC5602Q"] == documents[DRIVE].capabilities["drift"]
    assert [("nvme.drift", Severity.WARNING, SPACE), ("nvme.drift", Severity.WARNING, DRIVE)] == [
        (event.type, event.severity, event.device) for event in one.events()
    ]
    one.documents()
    assert [] == one.events(), "what stands is told once"


def test_too_few_drives_differ_from_what_is_expected(root: Path, tmp_path: Path) -> None:
    one = machine(root, tmp_path, '[[expect]]\nkind = "nvme"\ncount = 4\n')
    one.documents()
    [event] = one.events()
    assert ("wrong-count", "") == (event.detail["kind"], event.device)


def test_a_file_that_cannot_be_read_is_said_and_drives_are_described_all_the_same(root: Path, tmp_path: Path) -> None:
    one = machine(root, tmp_path, "[[expect]\n")
    assert {DRIVE, SPACE} == one.documents().keys()
    with pytest.raises(PartialCollectError, match="holds no expectations"):
        list(one.collector.describe())
    [objection] = NvmeCollector.check_options(one.collector, attempt=False)
    assert "expectations" == objection.option

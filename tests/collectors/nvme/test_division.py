"""A drive that is divided is one drive: its functions are its parts, by number, whoever has them, whatever they say."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.nvme.virtualization import (
    PRIMARY,
    SECONDARY,
    Resources,
    Secondary,
    parse_primary,
    parse_secondary,
    primary_words,
)
from schemas.capabilities_nvme import NVME_VF_WORDS, NVME_WORDS
from schemas.device import DeviceKind
from tests.collectors.nvme import made
from tests.collectors.nvme.help import Machine
from tests.collectors.nvme.made import FakeDrive
from tests.collectors.pci.made import function, link

DRIVE, SPACE = "nvme:S64HNE0", "nvme-namespace:S64HNE0/1"
PARENT, FIRST, OTHER = "0000:01:00.0", "0000:01:02.1", "0000:01:00.4"
_PORT = "pci0000:00/0000:00:01.0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with one drive and two functions of it: the second has the lower address, and vfio has the first."""
    place = tmp_path / "root"
    made.drive(place, "nvme0", f"{_PORT}/{PARENT}")
    function(place, f"{_PORT}/{FIRST}", "144d:a80a", "010802", driver="vfio-pci")
    bound = made.drive(place, "nvme1", f"{_PORT}/{OTHER}")
    (bound / "cntlid").write_text("8\n")
    for index, address in enumerate((FIRST, OTHER)):
        link(place, f"sys/bus/pci/devices/{address}/physfn", f"../{PARENT}")
        link(place, f"sys/bus/pci/devices/{PARENT}/virtfn{index}", f"../{address}")
    return place


def drives() -> tuple[FakeDrive, FakeDrive]:
    """Give the drive, and its function as it answers: with the drive's own serial number and capacity."""
    one, other = FakeDrive(), FakeDrive()
    one.identity = made.controller(oacs=0x9F)
    one.division = {
        PRIMARY: made.primary(),
        SECONDARY: made.secondary((7, 0, 1, 0, 0), (8, 1, 2, 3, 2), (9, 0, 0, 0, 0)),
    }
    one.spaces[1] = other.spaces[1] = made.namespace(nmic=1)
    return one, other


def test_structures_are_read_byte_for_byte() -> None:
    assert (Resources(16, 5, 3, 9, 4), Resources(8, 2, 0, 9, 2)) == parse_primary(made.primary())
    assert (Resources(0, 0, 0, 0, 0), Resources(8, 2, 0, 9, 2)) == parse_primary(made.primary(kinds=2))
    assert [Secondary(8, 6, True, 2, 3, 2), Secondary(7, 6, False, 1, 0, 0)] == parse_secondary(
        made.secondary((8, 1, 2, 3, 2), (7, 0, 1, 0, 0))
    )


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    assert (parse_primary(data) is None) == (len(data) < 96)
    assert len(parse_secondary(data)) <= max(0, len(data) - 32) // 32


def test_functions_are_parts_of_their_drive_by_their_number(root: Path) -> None:
    one, other = drives()
    documents = Machine(root, nvme0=one, nvme1=other).start().documents()
    assert {DRIVE, SPACE, "vf:S64HNE0/0", "vf:S64HNE0/1"} == documents.keys()
    away, here = documents["vf:S64HNE0/0"], documents["vf:S64HNE0/1"]
    assert [(DeviceKind.VF, DRIVE)] * 2 == [(function.kind, function.parent) for function in (away, here)]
    assert [[f"pci:{FIRST}"], [f"pci:{OTHER}"]] == [function.merge_keys for function in (away, here)]
    assert ["", ""] == [function.part.serial for function in (away, here)], "the number is the drive's"
    words = ("vf_index", "controller_id", "vf_online", "vf_queues", "vf_interrupts")
    assert (0, 7, False, 0, 0) == tuple(away.capabilities[word] for word in words)
    assert (1, 8, True, 3, 2) == tuple(here.capabilities[word] for word in words)


def test_function_has_the_capacity_of_its_name_spaces_and_never_its_drives(root: Path) -> None:
    one, other = drives()
    other.spaces = {}
    shutil.rmtree(root / f"sys/devices/{_PORT}/{OTHER}/nvme/nvme1/nvme1n1")
    documents = Machine(root, nvme0=one, nvme1=other).start().documents()
    assert made.SEED_SECTORS * 4096 == documents[DRIVE].capabilities["capacity_bytes"]
    words = documents["vf:S64HNE0/1"].capabilities
    assert (0, None) == (words["namespaces"], words.get("capacity_bytes"))
    one, other = drives()
    other.spaces = {2: made.namespace(256)}
    documents = Machine(root, nvme0=one, nvme1=other).start().documents()
    words = documents["vf:S64HNE0/1"].capabilities
    assert (1, 256 * 4096) == (words["namespaces"], words["capacity_bytes"])
    assert "vf:S64HNE0/1" == documents["nvme-namespace:S64HNE0/1/2"].parent, "only the function can reach it"


def test_name_space_that_the_drive_and_its_function_share_is_the_drives_alone(root: Path) -> None:
    """By its number in the subsystem too, where it says no identifier that could be believed."""
    one, other = drives()
    for number in (0, 1):
        for folder in root.glob(f"sys/devices/**/nvme{number}n1"):
            (folder / "nguid").write_text("00000000-0000-0000-0000-000000000000\n")
    documents = Machine(root, nvme0=one, nvme1=other).start().documents()
    spaces = {name: one.parent for name, one in documents.items() if one.kind is DeviceKind.NVME_NAMESPACE}
    assert {SPACE: DRIVE} == spaces
    assert 1 == documents["vf:S64HNE0/1"].capabilities["namespaces"], "it can reach it all the same"


def test_drive_says_what_it_can_give_away(root: Path) -> None:
    one, other = drives()
    words = Machine(root, nvme0=one, nvme1=other).start().documents()[DRIVE].capabilities
    assert {
        "secondary_controllers": 3,
        "secondary_controllers_online": 1,
        "flexible_queues": 16,
        "flexible_queues_unassigned": 8,
        "most_queues_per_vf": 4,
        "flexible_interrupts": 8,
        "flexible_interrupts_unassigned": 6,
        "most_interrupts_per_vf": 2,
    }.items() <= words.items()
    assert {} == primary_words(None)


def test_drive_that_cannot_be_divided_is_not_asked_how_it_is(root: Path) -> None:
    one, other = drives()
    one.identity = made.controller()
    documents = Machine(root, nvme0=one, nvme1=other).start().documents()
    assert "secondary_controllers" not in documents[DRIVE].capabilities
    assert {"vf_index": 0} == documents["vf:S64HNE0/0"].capabilities


def test_rows_of_a_function_go_by_its_name(root: Path) -> None:
    one, other = drives()
    rows = Machine(root, nvme0=one, nvme1=other).start().rows()
    assert {f"nvme {DRIVE}", "nvme vf:S64HNE0/1"} <= rows.keys()


def test_words_are_declared(root: Path) -> None:
    one, other = drives()
    documents = Machine(root, nvme0=one, nvme1=other).start().documents()
    declared = {word.name for word in (*NVME_WORDS, *NVME_VF_WORDS)} | {"vf_index"}
    for name in (DRIVE, "vf:S64HNE0/0", "vf:S64HNE0/1"):
        assert set() == documents[name].capabilities.keys() - declared

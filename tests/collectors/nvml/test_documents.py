"""What is described of GPUs: identity, capability words, topology, who uses them."""

import subprocess
import sys
from pathlib import Path

import pytest

from collectors.nvml.collector import NvmlConfig
from collectors.nvml.topology import health_words, ranges
from schemas.capabilities import PCI_WORDS, Word
from schemas.capabilities_gpu import GPU_WORDS
from schemas.device import DeviceKind
from tests.collectors.nvml.help import machine
from tests.fakes.nvml import FakeNvml, MigInstance, Process
from tests.needs import REPOSITORY

_WORDS = {word.name: word for word in (*PCI_WORDS, *GPU_WORDS)}


def _fits(word: Word, value: object) -> bool:
    if word.type == list[str]:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return type(value) is word.type


def test_gpu_is_described_by_what_it_says_of_itself(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        document = made.document(1)
    gpu = fake_nvml.gpus[1]
    assert DeviceKind.GPU is document.kind
    assert [f"gpu:{gpu.uuid}", f"serial:{gpu.serial}", "pci:0000:2b:00.0"] == document.merge_keys
    assert "0000:2b:00.0" == document.slot.address
    part = document.part
    assert ("NVIDIA", "NVIDIA H100 80GB HBM3", str(gpu.serial), gpu.uuid, "96.00.A5.00.01") == (
        part.vendor,
        part.model,
        part.serial,
        part.uuid,
        part.firmware,
    )
    told = document.capabilities
    expected = {
        "driver_version": "570.124.06",
        "cuda_version": "12.8",
        "architecture": "Hopper",
        "cuda_capability": "9.0",
        "memory_bytes": gpu.memory_total,
        "pci_vendor_id": "10de",
        "pci_device_id": "2330",
        "power_limit_watts": 700.0,
        "ecc": True,
        "mig": True,
        "mig_mode": "disabled",
        "module_id": 4,
        "minor_number": 1,
        "cpu_affinity": "0-63",
        "variant_hint": "NVIDIA_H100",
    }
    assert expected == {name: told[name] for name in expected}
    assert not {"in_use_by", "reset_required", "recovery_action", "not_permitted"} & told.keys()


def test_every_word_is_declared_and_has_its_type(fake_nvml: FakeNvml) -> None:
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    fake_nvml.gpus[1].set_processes("compute", [Process(1, 1)])
    with machine(fake_nvml) as made:
        documents = made.documents()
    wrong = {
        name: value
        for document in documents.values()
        for name, value in document.capabilities.items()
        if name not in _WORDS or not _fits(_WORDS[name], value)
    }
    assert {} == wrong


def test_no_word_is_declared_twice() -> None:
    assert len(_WORDS) == len(PCI_WORDS) + len(GPU_WORDS)


def test_path_of_the_slot_is_the_busses(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    folder = tmp_path / "root/sys/devices/pci0000:1a/0000:1a:01.0/0000:1b:00.0"
    folder.mkdir(parents=True)
    for name, text in (("vendor", "0x10de"), ("device", "0x2330"), ("class", "0x030200")):
        (folder / name).write_text(text)
    devices = tmp_path / "root/sys/bus/pci/devices"
    devices.mkdir(parents=True)
    (devices / "0000:1b:00.0").symlink_to(folder)
    with machine(fake_nvml, root=tmp_path / "root") as made:
        assert "pci0000:1a/01.0/00.0" == made.document(0).slot.path


def test_number_of_a_board_with_two_gpus_is_nobodys_serial(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[1].serial = str(fake_nvml.gpus[0].serial)
    with machine(fake_nvml) as made:
        documents = made.documents()
    assert "" == documents[made.device(0)].part.serial == documents[made.device(1)].part.serial
    assert not any(key.startswith("serial:") for key in documents[made.device(1)].merge_keys)
    assert str(fake_nvml.gpus[2].serial) == documents[made.device(2)].part.serial


def test_gpus_behind_switches_are_each_others_peers(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[5].set_link(7, state=0)
    with machine(fake_nvml) as made:
        told = made.document(5).capabilities
        peers = {f"{made.device(other)}=17" for other in range(8) if other != 5}
    assert (True, 18, 17) == (told["nvlink_switched"], told["nvlinks"], told["nvlinks_active"])
    assert peers == set(told["nvlink_peers"])  # type: ignore[arg-type]


def test_how_far_gpus_are_and_how_they_reach_each_other(fake_nvml: FakeNvml) -> None:
    fake_nvml.set_topology(0, 1, level=10, nvlink=5, atomics=5)
    with machine(fake_nvml) as made:
        told = made.document(0).capabilities
        assert f"{made.device(1)}=single" in told["topology"]  # type: ignore[operator]
        assert f"{made.device(1)}=read+write" in told["p2p_peers"]  # type: ignore[operator]
        assert f"{made.device(7)}=system" in told["topology"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("words", "text"), [([0], ""), ([1], "0"), ([0b1011], "0-1,3"), ([1 << 63, 1], "63-64"), ([0, 0b110], "65-66")]
)
def test_bits_are_told_as_linux_writes_lists(words: list[int], text: str) -> None:
    assert text == ranges(words)


@pytest.mark.parametrize(
    ("mask", "words"), [(0, []), (0b10, []), (0b01, ["degraded-bandwidth"]), (4 << 8, ["no-partition"])]
)
def test_fabric_says_what_is_wrong_with_it(mask: int, words: list[str]) -> None:
    assert words == health_words(mask)


def test_placements_are_told_as_the_drivers_own_tool_prints_them(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        told = made.document().capabilities["mig_placements"]
    assert isinstance(told, list)
    assert {"1g.10gb:{0,1,2,3,4,5,6}:1", "3g.40gb:{0,4}:4", "7g.80gb:{0}:8"} <= set(told)


def test_programs_are_named_with_their_ids(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    (tmp_path / "root/proc/41").mkdir(parents=True)
    (tmp_path / "root/proc/41/comm").write_text("train\n")
    fake_nvml.gpus[0].set_processes("compute", [Process(41, 1 << 30), Process(99, 1)])
    with machine(fake_nvml, root=tmp_path / "root") as made:
        assert ["train/41", "?/99"] == made.document().capabilities["in_use_by"]


def test_programs_are_only_counted_where_nobody_may_know_their_names(fake_nvml: FakeNvml) -> None:
    fake_nvml.gpus[0].set_processes("compute", [Process(41, 1 << 30), Process(99, 1)])
    with machine(fake_nvml, config=NvmlConfig(library=str(fake_nvml.library), name_programs=False)) as made:
        assert ["2 programs"] == made.document().capabilities["in_use_by"]


def test_documents_are_the_same_at_every_look(fake_nvml: FakeNvml) -> None:
    """R004-9: only changes are sent."""
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    with machine(fake_nvml) as made:
        first = made.documents()
        made.items()
        assert first == made.documents()


def test_nothing_of_the_library_is_loaded_where_there_is_no_gpu() -> None:
    """A node without a GPU pays nothing for this collector."""
    code = (
        "import logging, sys; from pathlib import Path; from collectors.contract import Context\n"
        "from collectors.nvml import NvmlCollector; from schemas.errors import NoDataError\n"
        "made = NvmlCollector(NvmlCollector.Config(), Context(subject='n', log=logging.getLogger('n'),"
        " root=Path('/none')))\n"
        "try: made.start()\n"
        "except NoDataError as error: print(error, 'pynvml' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert "There is no NVIDIA GPU here. False\n" == done.stdout
